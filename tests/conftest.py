"""Shared by all tests: isolated Ultralytics settings, common fixtures, and the real `yolo` command in a subprocess."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parent.parent
_CONFIG = tempfile.TemporaryDirectory(prefix="yolo_lite_tests_")
os.environ["YOLO_CONFIG_DIR"] = _CONFIG.name  # before Ultralytics is imported; ignores the user's settings
os.environ["YOLO_AUTOINSTALL"] = "False"  # a missing package must fail the test instead of being installed
os.environ.setdefault("YOLO_VERBOSE", "True")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a busy machine, threads wait for each other for minutes
os.environ.pop("YOLO_LITE_HOOK", None)
NEWEST = "8.4.190"  # the Ultralytics release that the committed figures were made with
OF_THE_NEWEST = pytest.mark.skipif(
    Version(importlib.metadata.version("ultralytics")) < Version(NEWEST), reason=f"figures of Ultralytics {NEWEST}"
)


def pytest_report_header():
    import torch
    import ultralytics

    return f"ultralytics {ultralytics.__version__} ({Path(ultralytics.__file__).parent}), torch {torch.__version__}"


def run(*command, cwd, check=True, limit=900, **environment):
    """Run a command for at most `limit` seconds; return the process, with stdout and stderr combined as text."""
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
    )
    assert not check or process.returncode == 0, process.stdout[-6000:]
    return process


def python(code, cwd, check=True, **environment):
    """Run code in a new Python process."""
    return run(sys.executable, "-c", code, cwd=cwd, check=check, **environment)


def yolo(*arguments, cwd, check=True, **environment):
    """Run the stock `yolo` command as a shell would, with the Ultralytics release of this process."""
    code = "import sys; from ultralytics.cfg import entrypoint; sys.argv[0] = 'yolo'; sys.exit(entrypoint())"
    command = [Path(sys.executable).with_name("yolo")] if _stock_command_matches() else [sys.executable, "-c", code]
    return run(*command, *arguments, cwd=cwd, check=check, **environment)


def _stock_command_matches():
    return "PYTHONPATH" not in os.environ  # the command of another Ultralytics on the path is not installed


@pytest.fixture
def script(monkeypatch):
    """Return a function that imports a script by name, from any subfolder of `scripts`."""
    for room in ("release", "benchmarks", "studies"):
        monkeypatch.syspath_prepend(str(ROOT / "scripts" / room))
    return importlib.import_module


@pytest.fixture(scope="module")
def few_resamples():
    """Use few bootstrap resamples in tests that do not check the intervals, since they take most of a report's time."""
    from yolo_lite.compare import bootstrap

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap.resamples, "__defaults__", (25, 0))
        yield


@pytest.fixture
def few_plots(monkeypatch):
    """Draw only one plot of each kind in a report, instead of all fifteen, in tests that do not check the plots."""
    from yolo_lite.compare.report import figures

    def first_of_each(results):
        return {plot.part: plot for plot in reversed(list(figures.plots_of(results)))}.values()

    monkeypatch.setattr("yolo_lite.compare.report.page.plots_of", first_of_each)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Return the path of a dataset YAML with 24 training and 8 validation images, generated like those of `shapes`."""
    import cv2
    import numpy as np

    from yolo_lite.datasets import shapes

    folder = tmp_path_factory.mktemp("tiny")
    for number, (split, count) in enumerate({"train": 24, "val": 8}.items()):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            image, objects = shapes.draw(np.random.default_rng((number, index)))
            cv2.imwrite(str(folder / "images" / split / f"{index}.jpg"), image)
            lines = [shapes.LABELS["detect"](each) for each in objects]
            (folder / "labels" / split / f"{index}.txt").write_text("\n".join(lines))
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(shapes.NAMES))
    (folder / "tiny.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def trained(tiny_data, tmp_path_factory):
    """Return the folder of a run of the stock command: two epochs of yolov8n-mnv3 on the tiny dataset."""
    folder = tmp_path_factory.mktemp("trained")
    yolo(
        "train", "model=yolov8n-mnv3.yaml", f"data={tiny_data}", "imgsz=64", "epochs=2", "batch=8", "workers=2",
        "plots=False", f"project={folder}", "name=run", cwd=folder,
    )  # fmt: skip
    return folder / "run"
