"""Every base x task x backbone that is claimed: trains, validates, exports; writes docs/matrix.md.

Each combination is made by `yolo-lite make`, trained for one epoch on eight generated pictures of its task through the
stock trainer (finite loss, a finite gradient at every parameter), validated, exported to ONNX and run on one picture
beside PyTorch. Results are appended to a file; started again, the script goes on.

    python scripts/release/matrix.py [results=runs/matrix.jsonl] [bases=yolov8,yolo11]
"""

import copy
import json
import math
import os
import sys
import tempfile
from pathlib import Path

from yolo_lite.bench.parity import TOLERANCE, deviation, settle, tensors
from yolo_lite.compose import make
from yolo_lite.datasets import shapes
from yolo_lite.errors import ConfigError
from yolo_lite.files import write
from yolo_lite.options import TASKS

ROOT = Path(__file__).resolve().parents[2]
BASES = ("yolov5", "yolov8", "yolo11", "yolo26", "rtdetr-l")
MADE = {  # what `make` is asked for, by column
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


def main(results="runs/matrix.jsonl", bases=None):
    results = Path(results).absolute()
    results.parent.mkdir(parents=True, exist_ok=True)
    done = read(results)
    wanted = [(base, task, name) for base in BASES for task in TASKS for name in MADE]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shapes.SPLITS = {"train": 8, "val": 4}
        for number, key in enumerate(wanted, 1):
            if key in done or (bases and key[0] not in bases.split(",")):
                continue
            done[key] = attempt(*key, Path(folder))
            with results.open("a") as file:
                file.write(json.dumps([*key, done[key]]) + "\n")
            print(f"{number}/{len(wanted)}", *key, done[key], flush=True)
    write_page(done)
    return int(any(value.startswith("fails") for value in done.values()))


def read(results):
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    return {tuple(line[:3]): line[3] for line in map(json.loads, lines)}


def attempt(base, task, name, folder):
    """Return "yes" and the deviation of the export, the sentence of a refusal, or how it fails."""
    path = folder / f"{base}-made.yaml"
    try:
        scale = "l" if base == "rtdetr-l" else "n"
        options = {"width": 0.5, **MADE[name]}
        make.make(base, task=task, scale=scale, count=False, out=path, exist_ok=True, **options)
    except ConfigError as error:
        return f"refused: {error}"
    try:
        return f"yes: {train_and_export(path, task, folder):.0e}"
    except Exception as error:
        return f"fails: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def train_and_export(path, task, folder):
    """Return the deviation of the ONNX export from PyTorch."""
    import numpy as np
    import onnxruntime
    import torch
    from ultralytics import RTDETR, YOLO

    yolo = (RTDETR if "rtdetr" in path.name else YOLO)(str(path))
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
    network = yolo.model.float()
    settle(network, SIZE)
    if getattr(network, "end2end", False):
        network.end2end = False  # as Ultralytics exports by default
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, exact = (
            [each.float().numpy() for each in tensors(model(picture))]
            for model, picture in ((network, image), (copy.deepcopy(network).double(), image.double()))
        )
    session = onnxruntime.InferenceSession(yolo.export(format="onnx", imgsz=SIZE))
    actual = [np.array(each) for each in session.run(None, {session.get_inputs()[0].name: image.numpy()})]
    found, rounding = (difference(each, expected, task, path) for each in (actual, exact[: len(actual)]))
    if not found <= TOLERANCE * rounding:
        raise ValueError(f"the export deviates by {found:.1e}, float64 by {rounding:.1e}")
    return found


def difference(actual, expected, task, path):
    """Return the largest difference of any output, relative to its range."""
    if "rtdetr" in path.name:  # which query stands where is a matter of rounding
        return max(abs(expected[0][0] - row).max(-1).min() for row in actual[0][0])
    if task == "classify":
        return abs(actual[0] - expected[0]).max() / abs(expected[0]).max()
    return deviation(actual, expected, SIZE)


def watch_gradients(trainer):
    """Look at every gradient before each optimizer step."""
    step = trainer.optimizer_step

    def watched():
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.isfinite().all()):
                raise ValueError(f"no finite gradient at {name}")
        step()

    trainer.optimizer_step = watched


def dataset(task, folder):
    """Return the generated dataset in a task's form, made at the first call."""
    name = f"shapes{TASKS[task]}"
    shapes.generate(folder / name, task)
    if task == "classify":
        return str(folder / name)
    text = (ROOT / "cfg" / "datasets" / f"{name}.yaml").read_text("utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(text.replace(f"path: {name}", f"path: {folder / name}"))
    return str(path)


def write_page(done):
    lines = [
        "# Bases, tasks and backbones",
        "",
        "Written by `scripts/release/matrix.py`. Every combination was made by `yolo-lite make`, trained for an epoch",
        "by the stock trainer with finite losses and gradients, validated, and exported to ONNX; the number is the",
        f"largest difference of an output of the export from PyTorch's, boxes relative to the image ({SIZE} px),",
        f"others to the largest value; it is at most {TOLERANCE} times what PyTorch's own rounding does, in float64.",
        "",
        f"| base | task | {' | '.join(MADE)} |",
        f"|{'---|' * (len(MADE) + 2)}",
    ]
    notes = {}
    for base in BASES:
        for task in TASKS:
            found = [done.get((base, task, name), "not run") for name in MADE]
            notes |= {each.removeprefix("refused: "): None for each in found if each.startswith("refused")}
            if not all(each.startswith("refused") for each in found):
                cells = ("refused" if each.startswith("refused") else each.replace("|", "/") for each in found)
                lines.append(f"| {base} | {task} | {' | '.join(cells)} |")
    lines += ["", "Refused, each with its sentence:", "", *(f"- {note}" for note in notes), ""]
    write(ROOT / "docs" / "matrix.md", "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main(**dict(word.split("=", 1) for word in sys.argv[1:])))
