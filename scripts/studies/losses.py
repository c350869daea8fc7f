"""Study of `class_loss` and `box_loss`: train a model with and without each, from scratch, with three seeds.

    python scripts/studies/losses.py data=path/to/bccd.yaml [model=yolov8n-mnv4] [folder=runs] [parallel=2]
        train the remaining runs; any setting of `yolo-lite compare`, such as epochs=1, overrides this script's
    python scripts/studies/losses.py collect data=bccd,aquarium [model=yolov8n-mnv4] [folder=runs]
        write the reports, copy their results to docs/study-losses-*, and write docs/losses.md

It may be interrupted at any time: the first command resumes from its folder. Works with any dataset. 25 epochs, 192 px,
batch and `nbs` 16, weights of the last epoch, test split.
"""

import os
import sys
from pathlib import Path
from typing import Any

from study_bccd import keep, table

from yolo_lite.compare import compare
from yolo_lite.compare.settings import parse
from yolo_lite.errors import ConfigError
from yolo_lite.files import write
from yolo_lite.ultralytics_hooks.configs import configs, without_letter

DOCS = Path(__file__).resolve().parents[2] / "docs"
PLOT = "curve-mAP50-95"
KEYS = {  # suffix of the model's name -> additional keys of its YAML
    "": {},
    "-varifocal": {"class_loss": "varifocal"},
    "-varifocal-aligned": {"class_loss": "varifocal-aligned"},
    "-siou": {"box_loss": "siou"},
}
RECIPE = {"seeds": [0, 1, 2], "epochs": 25, "imgsz": 192, "batch": 16, "nbs": 16, "split": "test", "latency": False}
INTRODUCTION = """\
# What the losses do

Written by `scripts/studies/losses.py collect` from what it trained: `{model}` with Ultralytics' losses and with those
of [configs.md](configs.md#losses), from scratch, {epochs} epochs at {imgsz} px, test split. *aligned* takes
Ultralytics' alignment metric for q in place of the IoU. Verdicts are adjusted for all comparisons of a table. A
training this short shows how fast a model starts to learn with a loss, more than how accurate it becomes.
"""


def main(words: list[str]) -> int:
    """Run the command given on the command line: train or collect; return the exit status."""
    _, settings = parse([word for word in words if word != "collect"])
    model, folder = settings.pop("model", "yolov8n-mnv4"), Path(settings.pop("folder", "runs")).absolute()
    data = settings.pop("data", None)
    if data is None:
        raise ConfigError("data: found nothing; needed a dataset's YAML, like data=path/to/bccd.yaml")
    if "collect" in words:
        collect(model, str(data).split(","), folder)
        return 0
    return train(model, Path(data).absolute(), folder, settings)


def study(data: str) -> str:
    """Return the name of a dataset's study."""
    return f"study-losses-{Path(data).stem}"


def train(model: str, data: Path, folder: Path, settings: dict[str, Any]) -> int:
    """Train the remaining runs of a dataset's study; return the exit status."""
    models = write_models(model, folder / f"{study(data.name)}-models")
    if data.exists():  # so that the recorded commands name the dataset without a path of this machine
        os.chdir(data.parent)
    outcome = compare(
        {**RECIPE, "models": models, "data": data.name, "project": str(folder), "name": study(data.name), **settings}
    )
    return 1 if outcome.failed else 0


def write_models(model: str, folder: Path) -> list[str]:
    """Write a copy of a shipped config for each set of `KEYS`; return the paths with the model's scale letter.

    Raises:
        ConfigError: There is no such config.
    """
    known = without_letter(f"{model}.yaml")
    if known not in configs():
        raise ConfigError(f"model={model}: needs one of our configs with its scale letter, like yolov8n-mnv4")
    text = configs()[known].read_text("utf-8")
    for suffix, keys in KEYS.items():
        lines = "".join(f"{key}: {value}\n" for key, value in keys.items())
        write(folder / f"{Path(known).stem}{suffix}.yaml", lines + text)
    return [str(folder / f"{model}{suffix}.yaml") for suffix in KEYS]


def collect(model: str, datasets: list[str], folder: Path) -> None:
    """Copy the results of the datasets' studies to docs, and write docs/losses.md."""
    sections = []
    for data in datasets:
        results = keep(folder / study(data), DOCS / study(data), PLOT).to_plain()
        sections.append("\n".join([f"## {Path(data).stem}", "", *table(results), ""]))
    recipe = results["comparison"]["train"]
    page = INTRODUCTION.format(model=model, epochs=recipe["epochs"], imgsz=recipe["imgsz"])
    write(DOCS / "losses.md", "\n".join([page, *sections]))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"losses: {error}")
