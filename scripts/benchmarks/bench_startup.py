"""Measure the time that the start-up file adds to every start of Python.

Creates two empty virtual environments, installs the start-up file and the package into one of them, and runs
`python -c pass` in both alternately; prints the medians and the median of the paired differences.

    python scripts/benchmarks/bench_startup.py [rounds]
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "release"))

from build_backend import STARTUP_FILES  # noqa: E402


def main(rounds=300):
    with tempfile.TemporaryDirectory() as folder:
        pythons = []
        for name in ("with", "without"):
            venv.create(Path(folder, name), with_pip=False)
            pythons.append(next(Path(folder, name).glob("[bS]*/python*")))
        packages = Path(
            subprocess.check_output(
                [pythons[0], "-c", "import site; print(site.getsitepackages()[0])"], text=True
            ).strip()
        )
        shutil.copytree(ROOT / "yolo_lite", packages / "yolo_lite", ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in STARTUP_FILES.items():
            (packages / name).write_text(text)
        subprocess.run([pythons[0], "-m", "compileall", "-q", packages], check=True)  # like pip
        check = "import sys; print(any('yolo_lite' in type(f).__module__ for f in sys.meta_path))"
        hooked = [subprocess.check_output([python, "-c", check], text=True).strip() for python in pythons]
        assert hooked == ["True", "False"], hooked
        milliseconds = [[], []]
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                subprocess.run([pythons[which], "-c", "pass"], check=True)
                milliseconds[which].append((time.perf_counter() - start) * 1000)
    on, off = map(statistics.median, milliseconds)
    added = statistics.median(a - b for a, b in zip(*milliseconds, strict=True))
    print(f"python -c pass, median of {rounds}: {on:.2f} ms with the start-up file, {off:.2f} ms without")
    print(f"added, median of the pairs: {added:.2f} ms (Python {sys.version.split()[0]})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
