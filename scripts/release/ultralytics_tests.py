"""Run Ultralytics' own tests with the plugin's hook on and off: no outcome may differ.

    python scripts/release/ultralytics_tests.py [folder=runs/ultralytics_tests] [tests="tests -m 'not slow'"]

Run it with the Python of an environment in which the plugin is installed (`pip install '.[test]'`). The tests come
from the source archive of the installed release, which pip downloads from PyPI; nothing else is downloaded, and the
tests have no network access. Checkpoints are created from Ultralytics' own YAMLs with random weights, and its datasets
of eight images from noise. Tests that need other downloads fail both with and without the hook, and are counted. The
outcome of each test is written to outcomes.csv.
"""

import csv
import os
import shlex
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

WEIGHTS = """
from pathlib import Path
import torch
from ultralytics import YOLO
from ultralytics.cfg import TASK2MODEL
from ultralytics.utils import WEIGHTS_DIR
for folder in (WEIGHTS_DIR, WEIGHTS_DIR / "path with spaces", Path()):
    folder.mkdir(parents=True, exist_ok=True)
    for name in TASK2MODEL.values():
        torch.manual_seed(0)
        YOLO(name.replace(".pt", ".yaml")).save(folder / name)
"""
DATASETS = """
import cv2
import numpy
from ultralytics.utils import DATASETS_DIR
random = numpy.random.default_rng(0)
def draw(path, label=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), random.integers(0, 256, (96, 96, 3), numpy.uint8))
    if label:
        text = f"0 {' '.join(f'{x:.3f}' for x in label())}\\n"
        target = path.parents[2] / "labels" / path.parent.name / path.with_suffix(".txt").name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
box = lambda: [0.5, 0.5, *random.uniform(0.2, 0.6, 2)]
corners = lambda: [0.2, 0.2, 0.7, 0.3, *random.uniform(0.7, 0.9, 2), 0.2, 0.8]
points = lambda: box() + [x for _ in range(17) for x in (*random.uniform(0.4, 0.6, 2), 2)]
labels = {"coco8": box, "coco8-grayscale": box, "coco8-seg": corners, "dota8": corners, "coco8-pose": points}
for split in ("train", "val"):
    for i in range(4):
        for name, label in labels.items():
            draw(DATASETS_DIR / name / "images" / split / f"{i}.jpg", label)
        for i in range(10):
            draw(DATASETS_DIR / "imagenet10" / split / f"n{i:08}" / "0.jpg")
"""
HOOKED = "import ultralytics.nn.tasks as tasks; print(hasattr(tasks.parse_model, 'yolo_lite'))"


def main(folder="runs/ultralytics_tests", tests="tests -m 'not slow'"):
    import ultralytics

    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    version = ultralytics.__version__
    archive = download(version, folder)
    on, off = (run(archive, folder / f"hook-{'on' if hook else 'off'}", hook, shlex.split(tests)) for hook in (1, 0))
    names = sorted({*on, *off})
    rows = [(name, on.get(name, "missing"), off.get(name, "missing")) for name in names]
    with (folder / "outcomes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("test", "hook on", "hook off"), *rows])
    different = [row for row in rows if row[1] != row[2]]
    counts = Counter(outcome for _, outcome, other in rows if outcome == other)
    alike = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    print(f"Ultralytics {version}, {len(rows)} tests, hook on and off: same {alike}; different: {len(different)}")
    for name, with_hook, without in different:
        print(f"{name}: {with_hook} with the hook, {without} without")
    return int(bool(different) or not counts["passed"])


def download(version, folder):
    """Return the path of a release's source archive, which includes the tests; download it if it is missing."""
    archive = folder / f"ultralytics-{version}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "ultralytics"]
        subprocess.run([*command, "--dest", folder, f"ultralytics=={version}"], check=True)
    return archive


def run(archive, folder, hook, tests):
    """Run the tests in their own folder, unless its report exists; return the outcome of each test by name."""
    report = folder / "report.xml"
    if not report.exists():
        folder.mkdir(exist_ok=True)
        with tarfile.open(archive) as packed:
            for member in packed:
                inside = member.name.partition("/")[2]
                if inside.startswith("tests/") and member.isfile():
                    target = folder / inside
                    target.parent.mkdir(exist_ok=True)
                    target.write_bytes(packed.extractfile(member).read())
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
        nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
        offline = {"YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False", "YOLO_CONFIG_DIR": str(folder), **nowhere}
        environment = {**os.environ, **offline, "YOLO_LITE_HOOK": str(hook), "OMP_NUM_THREADS": "1"}

        def python(*arguments, **options):
            return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, **options)

        said = python("-c", HOOKED, capture_output=True, text=True, check=True).stdout.split()[-1]
        if said != str(bool(hook)):
            sys.exit(f"the hook is {'off' if hook else 'on'}: is yolo_lite installed in this environment?")
        python("-c", WEIGHTS, check=True)
        python("-c", DATASETS, check=True)
        python("-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", f"--junitxml={report}", *tests)
    return {
        f"{case.get('classname')}::{case.get('name')}": outcome(case)
        for case in ElementTree.parse(report).iter("testcase")
    }


def outcome(case):
    return next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")


if __name__ == "__main__":
    sys.exit(main(**dict(argument.split("=", 1) for argument in sys.argv[1:])))
