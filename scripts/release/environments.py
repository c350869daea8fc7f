"""Install and test yolo_lite in typical user environments, created from scratch; write docs/environments.md.

    python scripts/release/environments.py [rows=floors,Colab] [results=runs/environments.jsonl] [docs=docs]
                                           [any_python=False] [pytest="-m 'core and not slow'"]

For each row, create a virtual environment, install the packages of such a user, then install this checkout, which must
not change any of them; then run `yolo-lite doctor`, one epoch of the stock command, and the core tests. Results are
appended to a file; when restarted, the script skips the rows in it, except rows named with `rows=`. A row needs about
8 GB of disk space while it runs; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu, if reachable, saves most of
that. With `any_python=True`, a row whose Python version is not found runs on the current Python.
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CORE = "-m 'core and not slow'"
NEWEST = ("torch", "torchvision", "timm", "ultralytics")
COLUMNS = ("environment", "Python", "torch", "timm", "Ultralytics", "numpy", "replaced", "doctor", "epoch", "passed",
           "failed", "skipped", "note")  # fmt: skip


class Row(NamedTuple):
    """A user environment: its Python version, and the packages installed before yolo_lite."""

    name: str
    python: str
    first: tuple[str, ...]
    bounds: tuple[str, ...] = ()  # further requirements, installed together with `first`


EXPORT = (  # compatible releases: without them, pip's resolver had not finished after 40 minutes
    *("torch<2.15", "torchvision<0.30", "numpy==1.26.4", "protobuf==5.29.6", "onnx==1.21.0", "onnxruntime==1.32.0"),
    *("tensorflow==2.19.0", "keras==3.15.1", "ydf==0.12.0", "jax==0.7.1", "nncf==3.4.0", "coremltools==9.0"),
    *("litert-torch==0.10.0", "ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0", "litert-lm-builder==0.18.1"),
)
ROWS = [
    Row("floors", "3.10", ("torch==2.3.1", "torchvision==0.18.1", "timm==1.0.21", "ultralytics==8.4.0"), ("numpy<2",)),
    Row("JetPack 6", "3.10", ("torch==2.5.1", "torchvision==0.20.1", "ultralytics"), ("numpy<2",)),
    Row("Colab", "3.12", ("torch==2.11.0", "torchvision==0.26.0", "timm==1.0.27", "ultralytics")),
    Row("newest on 3.13", "3.13", NEWEST),
    Row("newest on 3.14", "3.14", NEWEST),
    Row("ultralytics[export]", "3.11", ("ultralytics[export]==8.4.190",), EXPORT),
]


def main(rows="", results="runs/environments.jsonl", docs="docs", any_python="False", pytest=CORE):
    results = Path(results).absolute()
    results.parent.mkdir(parents=True, exist_ok=True)
    done, named = read(results), rows.split(",") if rows else []
    for row in ROWS:
        if row.name in named or (not named and row.name not in done):
            print(f"== {row.name}: Python {row.python}, {' '.join(row.first)}", flush=True)
            done[row.name] = run(row, any_python == "True", shlex.split(pytest))
            print(json.dumps(done[row.name], indent=1), flush=True)
            with results.open("a") as file:
                file.write(json.dumps(done[row.name]) + "\n")
    if docs:
        write([done.get(row.name) or {"environment": row.name, "note": "not run"} for row in ROWS], Path(docs))
    return int(any(not good(done[row.name]) for row in ROWS if row.name in (named or done)))


def read(results):
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    return {entry["environment"]: entry for entry in map(json.loads, lines)}


def good(entry):
    """Return whether all checks of a row ran and passed."""
    return entry.get("replaced") == "nothing" and entry.get("epoch") == "ok" and entry.get("failed") == 0


def find_python(version):
    """Return the path of a Python of this version, on the PATH or installed by pyenv; None if there is none."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for command in (f"python{version}", *sorted(map(str, folder.glob(f"{version}.*/bin/python")))):
        path = shutil.which(command)  # pyenv's shims are on the PATH even for Pythons that they refuse to run
        if path and subprocess.run([path, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return path
    return None


class Failure(Exception):
    """A failed step; the message has the command and a line of its output."""


def run(row, any_python, pytest):
    """Run all checks of a row and return its table entry; if a step fails, the reason is in the note."""
    entry, python = {"environment": row.name, "Python": row.python}, find_python(row.python)
    if python is None:
        if not any_python:
            return {**entry, "note": f"not run: no Python {row.python} found"}
        python = sys.executable
        print(f"no Python {row.python} found: {python} instead", flush=True)
    entry["Python"] = call(python, "-c", "import platform; print(platform.python_version())").strip()
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(row, python, pytest, Path(folder), entry)
        except Failure as failure:
            entry["note"] = str(failure)
    return entry


def check(row, python, pytest, folder, entry):
    call(python, "-m", "venv", folder / "venv")
    bin = folder / "venv/bin"
    environment = {"YOLO_CONFIG_DIR": str(folder), "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def step(*command, cwd=folder):
        return call(bin / command[0], *command[1:], cwd=cwd, **environment)

    step("pip", "install", "--quiet", *row.first, *row.bounds)
    before = versions(step)
    for column, name in (("torch", "torch"), ("timm", "timm"), ("Ultralytics", "ultralytics"), ("numpy", "numpy")):
        entry[column] = before.get(name, "")
    step("pip", "install", "--quiet", ROOT)
    after = versions(step)
    entry["timm"] = after["timm"]
    entry["replaced"] = ", ".join(sorted(k for k in before if after.get(k) != before[k])) or "nothing"
    entry["doctor"] = "warns" if "\nwarn" in step("yolo-lite", "doctor") else "ok"
    step("yolo", "train", "model=yolov8n-mnv3.yaml", "data=shapes.yaml", "imgsz=64", "epochs=1", "device=cpu")
    entry["epoch"] = "ok"
    # the tests' requirements may ask for other versions: pin the packages that the row is about
    (folder / "keep.txt").write_text("\n".join(f"{k}=={after[k]}" for k in ("torch", "torchvision", "timm", "numpy")))
    step("pip", "install", "--quiet", "-c", folder / "keep.txt", f"{ROOT}[test]")
    report = folder / "tests.xml"
    try:
        step("pytest", "-q", f"--junitxml={report}", *pytest, cwd=ROOT)
    except Failure:
        if not report.exists():
            raise
    entry.update(count(report))
    if pytest != shlex.split(CORE):
        tests = f"pytest {shlex.join(pytest)}" if pytest else "the whole suite"
        entry["note"] = f"{tests} {entry['note']}".strip()


def versions(step):
    return {p["name"].lower(): p["version"] for p in json.loads(step("pip", "list", "--format=json").splitlines()[0])}


def count(report):
    """Count the passed, failed and skipped cases of a JUnit report, and name the failed ones in the note."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    return {"passed": passed, "failed": len(failed), "skipped": skipped, "note": ", ".join(failed)}


def call(*command, cwd=None, **environment):
    """Run a command and return its standard output; if it fails, raise `Failure` with a line of its output."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_ADDOPTS", "YOLO_LITE_HOOK")}
    process = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True
    )
    if process.returncode:
        print(process.stdout[-6000:], process.stderr[-6000:], flush=True)
        lines = [line for line in (process.stdout + process.stderr).splitlines() if line.strip()]
        lines = [line for line in lines if line.startswith("ERROR")] or lines
        words = re.sub(r"\S*/", "", " ".join([Path(command[0]).name, *map(str, command[1:4])]))
        raise Failure(f"fails at {words}: {(lines or ['no output'])[-1][:200]}")
    return process.stdout


def table(entries):
    """Return the table of docs/environments.md."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for entry in entries:
        lines.append(f"| {' | '.join(str(entry.get(column, '')) for column in COLUMNS)} |")
    return "\n".join(lines)


def write(entries, docs):
    with (docs / "environments.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({column: entry.get(column, "") for column in COLUMNS} for entry in entries)
    page = docs / "environments.md"
    text = page.read_text("utf-8")
    begin, end = "<!-- environments -->\n", "<!-- /environments -->"
    head, _, rest = text.partition(begin)
    page.write_text(f"{head}{begin}{table(entries)}\n{end}{rest.partition(end)[2]}", "utf-8")


if __name__ == "__main__":
    sys.exit(main(**dict(argument.split("=", 1) for argument in sys.argv[1:])))
