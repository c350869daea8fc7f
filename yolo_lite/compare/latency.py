"""Latency of the compared models, by `yolo_lite.bench`, when no training runs."""

import tempfile
from dataclasses import asdict
from pathlib import Path

from yolo_lite import models as zoo
from yolo_lite.bench import interleaved, runtimes
from yolo_lite.errors import ConfigError
from yolo_lite.files import read_json
from yolo_lite.output import errors_only

SECONDS = 10  # for each model, in each runtime


def runtimes_of(how):
    """Return the runtimes that are measured: those asked for, else those installed.

    Raises:
        ConfigError: One is unknown, or lacks a package.
    """
    if how["runtimes"]:
        runtimes.check_runtimes(how["runtimes"])
        return how["runtimes"]
    found = [name for name in runtimes.DEFAULT if not runtimes.missing(name)]
    if not found:
        lacking = " ".join(runtimes.missing(runtimes.DEFAULT[0]))
        raise ConfigError(f"latency needs {lacking}: pip install 'yolo-lite-backbones[compare]', or set latency=False")
    return found


def latency(models, classes, imgsz, how, say=None, seconds=SECONDS):
    """Time models against each other, interleaved.

    Args:
        models: List of `Model`; the first one is measured twice, as a control.
        classes: How many classes they detect.
        imgsz: Height and width of the image, pixels.
        how: Settings `runtimes` and `threads`.
        say: Called with lines of text on the way.
        seconds: For each model, in each runtime.

    Returns:
        (dict): What was measured, how and where, as plain data.
    """
    names = runtimes_of(how)
    with tempfile.TemporaryDirectory(prefix="yolo_lite_") as folder:
        files = {model.label: str(_checkpoint(model, classes, Path(folder))) for model in models}
        exports, say = Path(folder) / "exports", say or (lambda text: None)
        found = interleaved.measure(files, names, how["threads"], imgsz, seconds, exports, say=say)
    return {
        "models": {model.label: model.digest for model in models},
        "classes": classes,
        "imgsz": imgsz,
        "seconds": seconds,
        "runtimes": list(names),
        "threads": list(how["threads"]),
        "environment": runtimes.environment(names),
        "measurements": [asdict(measurement) for measurement in found],
    }


def _checkpoint(model, classes, folder):
    """Write a model with random weights, which do not change the time, but with the dataset's classes, which do."""
    import torch

    with errors_only():
        built, _ = zoo.build(model.source, classes)
    path = folder / f"{model.label.removesuffix('.pt')}-{len(list(folder.iterdir()))}.pt"
    built.args = {}
    torch.save({"model": built, "train_args": {"task": "detect"}, "epoch": -1, "date": None}, path)
    return path


def is_current(file, models, imgsz, how):
    """Tell whether a folder's `latency.json` is of these models and settings."""
    old = read_json(file)
    if old is None:
        return False
    wanted = {model.label: model.digest for model in models}
    return (
        old["models"] == wanted
        and old["imgsz"] == imgsz
        and old["threads"] == list(how["threads"])
        and old["runtimes"] == list(runtimes_of(how))
    )
