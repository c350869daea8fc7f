"""Every base x task x backbone that is claimed: trains, validates, exports; writes docs/matrix.md.

Each combination is made by `yolo-lite make`, trained for one epoch on eight generated images of its task through the
stock trainer (finite loss, a finite gradient at every parameter), validated, exported to ONNX and run on one image
beside PyTorch. Results are appended to a file; started again, the script goes on.

    python scripts/release/matrix.py [results=runs/matrix.jsonl] [bases=yolov8,yolo11]
"""

import copy
import json
import math
import os
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_lite import make
from yolo_lite.bench.parity import TOLERANCE, deviation, settle, tensors
from yolo_lite.datasets import shapes
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import write
from yolo_lite.options import TASKS

ROOT = Path(__file__).resolve().parents[2]
BASES = ("yolov5", "yolov8", "yolo11", "yolo26", "rtdetr-l")
MADE: dict[str, dict[str, Any]] = {  # what `make` is asked for, by column
    "MobileNetV3": {"backbone": "mobilenetv3_large_100"},
    "MobileNetV4": {"backbone": "mobilenetv4_conv_small"},
    "GhostNet": {"backbone": "ghostnet_100"},
    "ShuffleNetV2": {"backbone": "shufflenet_v2_x1_0"},
    "MnasNet": {"backbone": "mnasnet1_0"},
    "timm (lcnet_050)": {"backbone": "timm/lcnet_050", "width": None},
    "CSPLite, slim neck and head": {"backbone": "csplite_100", "neck": "slim", "head": "slim"},
    "MobileNetV4, light neck and head": {"backbone": "mobilenetv4_conv_small", "neck": "light", "head": "light"},
}
SIZE = 160  # pixels; RT-DETR takes its 300 queries from the cells of its levels, 525 at this size
PAGE = ROOT / "docs" / "matrix.md"
INTRODUCTION = (
    "Written by `scripts/release/matrix.py`. Every combination was made by `yolo-lite make`, trained for an epoch by "
    "the stock trainer with finite losses and gradients, validated, and exported to ONNX. The number is the largest "
    f"difference between the export's outputs and PyTorch's, boxes relative to the image size ({SIZE} px), others to "
    f"the largest value; it is at most {TOLERANCE} times PyTorch's own rounding error, measured in float64."
)
SMOKE_TESTED = (  # by tests/test_bases.py
    *("yolov3", "yolov3-tiny", "yolov3-spp", "yolov5-p6", "yolov6", "yolov8-p2", "yolov8-p6", "yolov9t", "yolov9s"),
    *("yolov9m", "yolov9c", "yolov10n", "yolov10s", "yolov10m", "yolo12"),
)
REFUSED = ("yolov8-world", "yolov8-worldv2", "yoloe-v8", "yoloe-11", "yoloe-26", "yolov9e")  # by the same
OTHER_BASES = (
    f"**Other bases** are only smoke-tested, with MobileNetV4: {', '.join(f'`{base}`' for base in SMOKE_TESTED)} are "
    "made and trained for one step in a test, not measured. Refused, with an error: "
    f"{', '.join(f'`{base}`' for base in REFUSED)}; World and YOLOE models take text besides the image, and YOLOv9e's "
    "backbone is not a plain sequence of layers."
)
Key = tuple[str, str, str]  # base, task, column


def main(results: str = "runs/matrix.jsonl", bases: str | None = None) -> int:
    """Try every combination that the file of results lacks; return the exit status."""
    file = Path(results).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    done = read(file)
    wanted = [(base, task, name) for base in BASES for task in TASKS for name in MADE]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shapes.SPLITS = {"train": 8, "val": 4}
        for number, key in enumerate(wanted, 1):
            if key in done or (bases and key[0] not in bases.split(",")):
                continue
            done[key] = attempt(*key, Path(folder))
            with file.open("a") as lines:
                lines.write(json.dumps([*key, done[key]]) + "\n")
            print(f"{number}/{len(wanted)}", *key, done[key], flush=True)
    write(PAGE, page(done))
    return int(any(value.startswith("fails") for value in done.values()))


def read(results: Path) -> dict[Key, str]:
    """Return what was found so far."""
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    return {(base, task, name): found for base, task, name, found in map(json.loads, lines)}


def attempt(base: str, task: str, name: str, folder: Path) -> str:
    """Return "yes" and the deviation of the export, the sentence of a refusal, or how it fails."""
    path = folder / f"{base}-made.yaml"
    try:
        scale = "l" if base == "rtdetr-l" else "n"
        options = {"width": 0.5, **MADE[name]}
        make(base, task=task, scale=scale, count=False, out=path, exist_ok=True, **options)
    except ConfigError as error:
        return f"refused: {error}"
    try:
        yolo = trained(path, task, folder)
        return f"yes: {export_deviation(yolo, task, path):.0e}"
    except Exception as error:
        return f"fails: {type(error).__name__}: {one_line(error, 200)}"


def trained(path: Path, task: str, folder: Path) -> Any:
    """Train a model for an epoch; return its `YOLO` object.

    Raises:
        ValueError: A gradient, a loss or a metric is not finite.
    """
    from ultralytics.models import RTDETR, YOLO

    yolo: Any = (RTDETR if "rtdetr" in path.name else YOLO)(str(path))
    yolo.add_callback("on_train_start", watch_gradients)
    yolo.train(
        data=dataset(task, folder), epochs=1, imgsz=SIZE, batch=4, nbs=4, workers=0, plots=False, verbose=False,
        project=str(folder / "runs"), name="run", exist_ok=True,
    )  # fmt: skip
    losses = yolo.trainer.tloss
    losses = list(map(float, losses.values() if isinstance(losses, dict) else losses.reshape(-1)))
    metrics = list(yolo.trainer.metrics.values())
    if not all(map(math.isfinite, (*losses, *metrics))):
        raise ValueError(f"losses {losses}, metrics {metrics}")
    return yolo


def export_deviation(yolo: Any, task: str, path: Path) -> float:
    """Return the deviation of the ONNX export from PyTorch.

    Raises:
        ValueError: It is much more than what rounding does.
    """
    import numpy as np
    import onnxruntime
    import torch

    network = yolo.model.float()
    settle(network, SIZE)
    if getattr(network, "end2end", False):
        network.end2end = False  # as Ultralytics exports by default
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, exact = (
            [each.float().numpy() for each in tensors(model(x))]
            for model, x in ((network, image), (copy.deepcopy(network).double(), image.double()))
        )
    session = onnxruntime.InferenceSession(yolo.export(format="onnx", imgsz=SIZE))
    actual = [np.array(each) for each in session.run(None, {session.get_inputs()[0].name: image.numpy()})]
    found, rounding = (difference(each, expected, task, path) for each in (actual, exact[: len(actual)]))
    if not found <= TOLERANCE * rounding:
        raise ValueError(f"the export deviates by {found:.1e}, float64 by {rounding:.1e}")
    return found


def difference(actual: list[Any], expected: list[Any], task: str, path: Path) -> float:
    """Return the largest difference of any output, relative to its range."""
    if "rtdetr" in path.name:  # which query stands where is a matter of rounding
        return float(max(abs(expected[0][0] - row).max(-1).min() for row in actual[0][0]))
    if task == "classify":
        return float(abs(actual[0] - expected[0]).max() / abs(expected[0]).max())
    return float(deviation(actual, expected, SIZE))


def watch_gradients(trainer: Any) -> None:
    """Look at every gradient before each optimizer step."""
    step = trainer.optimizer_step

    def watched() -> None:
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.isfinite().all()):
                raise ValueError(f"no finite gradient at {name}")
        step()

    trainer.optimizer_step = watched


def dataset(task: str, folder: Path) -> str:
    """Return the generated dataset in a task's form, made at the first call."""
    name = f"shapes{TASKS[task]}"
    shapes.generate(folder / name, task)
    if task == "classify":
        return str(folder / name)
    text = (ROOT / "cfg" / "datasets" / f"{name}.yaml").read_text("utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(text.replace(f"path: {name}", f"path: {folder / name}"))
    return str(path)


def page(done: Mapping[Key, str]) -> str:
    """Return the page of what was found."""
    lines = ["# Bases, tasks and backbones", "", *textwrap.wrap(INTRODUCTION, 120), ""]
    lines += [f"| base | task | {' | '.join(MADE)} |", f"|{'---|' * (len(MADE) + 2)}"]
    notes: dict[str, None] = {}
    for base, task in ((base, task) for base in BASES for task in TASKS):
        found = [done.get((base, task, name), "not run") for name in MADE]
        refused = [each.startswith("refused") for each in found]
        notes |= {each.removeprefix("refused: "): None for each in found if each.startswith("refused")}
        if not all(refused):
            cells = ("refused" if no else each.replace("|", "/") for each, no in zip(found, refused, strict=True))
            lines.append(f"| {base} | {task} | {' | '.join(cells)} |")
    lines += ["", "Refused, with these errors:", "", *(f"- {note}" for note in notes), ""]
    lines += [*textwrap.wrap(OTHER_BASES, 120), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(**dict(word.split("=", 1) for word in sys.argv[1:])))
