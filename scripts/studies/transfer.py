"""What a transfer is worth: how much of a source it keeps, and what training gains from it; controls.

    python scripts/studies/transfer.py retention source=SOURCE.pt data=bccd.yaml [models=yolo26s-lite,...] [split=val]
        no label, no gradient step: mAP of the source and of each model after the transfer, by method
    python scripts/studies/transfer.py gain source=SOURCE.pt data=bccd.yaml [models=yolo26s-lite] [seeds=0,1,2]
        40 epochs from random weights and from the source, and the controls; one run after the other

Everything goes to one folder (folder=runs/transfer) and is kept: the same command goes on where it was interrupted.
320 px, batch and nbs 16, the last epoch's weights. Settings are chosen on split=val; split=test is looked at once.
"""

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import yolo_lite  # noqa: F401  (registers our models)
from yolo_lite.commands import transfer as command
from yolo_lite.files import read_json, write_json
from yolo_lite.options import COMMANDS
from yolo_lite.weights import transfer as method_of
from yolo_lite.weights.fitting import Method

METHODS = {  # what is compared -> how
    "transfer": Method(),
    "explained": Method(choice="explained"),
    "gamma": Method(choice="gamma"),
    "even": Method(choice="even"),
    "unweighted": Method(weighted=False),
    "norm-copied": Method(norm="copied"),
    "without-regression": Method(regress=False, norm="copied"),
}
MODELS = "yolo26s-lite,yolov8n-w0.625,yolo26n-lite"
RECIPE = {"epochs": 40, "imgsz": 320, "batch": 16, "nbs": 16, "plots": False, "val": False, "workers": 2}
DEFAULTS = {"models": MODELS, "folder": "runs/transfer", "seeds": "0,1,2,3,4,5", "split": "val", "images": "128",
            "methods": "transfer", "starts": "random,transfer,untrained,shuffled", "device": "cpu"}  # fmt: skip


def main(words: list[str]) -> None:
    """Do what the command line says."""
    what, *rest = words or [""]
    given = {**DEFAULTS, **dict(word.split("=", 1) for word in rest)}
    jobs: dict[str, Callable[[dict[str, str], Path], None]] = {"retention": retention, "gain": gain}
    if what not in jobs or not {"source", "data"} <= given.keys():
        sys.exit(__doc__)
    folder = Path(given["folder"]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    jobs[what](given, folder)


def score(weights: Path, given: dict[str, str], folder: Path) -> dict[str, float]:
    """Return a checkpoint's mAP."""
    from ultralytics import YOLO

    settings = {"imgsz": RECIPE["imgsz"], "split": given["split"], "plots": False, "device": given["device"]}
    found = YOLO(weights).val(data=given["data"], project=str(folder / "val"), verbose=False, **settings)
    return {"mAP50": float(found.box.map50), "mAP50-95": float(found.box.map)}


def begun(given: dict[str, str], model: str, method: str, source: str, out: Path) -> Path:
    """Transfer, if that is not done yet; return the checkpoint."""
    if not out.exists():
        kept = method_of.transfer.__defaults__
        method_of.transfer.__defaults__ = (0, METHODS[method])
        try:
            values = {**COMMANDS["transfer"].defaults, "model": model, "source": source, "data": given["data"],
                      "images": int(given["images"]), "imgsz": RECIPE["imgsz"], "device": given["device"]}  # fmt: skip
            command.run(values, out)
        finally:
            method_of.transfer.__defaults__ = kept
    return out


def retention(given: dict[str, str], folder: Path) -> None:
    """Score the source and what became of it in other architectures."""
    data = Path(given["data"]).stem
    table = folder / f"retention-{data}-{given['split']}.json"
    results = read_json(table) or {}
    if "source" not in results:
        results["source"] = score(Path(given["source"]), given, folder)
    for model, method in itertools.product(given["models"].split(","), given["methods"].split(",")):
        name = f"{model} {method}"
        if name not in results:
            out = folder / f"{data}-{model}-{method}.pt"
            results[name] = score(begun(given, model, method, given["source"], out), given, folder)
            write_json(table, results)
    whole = results["source"]["mAP50-95"]
    for name, found in results.items():
        share = found["mAP50-95"] / whole if whole else 0
        print(f"{name:40} mAP50 {found['mAP50']:.3f}  mAP50-95 {found['mAP50-95']:.3f}  {share:.0%} of the source")


def gain(given: dict[str, str], folder: Path) -> None:
    """Train each model from each start, seed by seed."""
    data = Path(given["data"]).stem
    table = folder / f"gain-{data}-{given['split']}.json"
    results = read_json(table) or {}
    starts, seeds = given["starts"].split(","), map(int, given["seeds"].split(","))
    for seed, model, start in itertools.product(seeds, given["models"].split(","), starts):
        name = f"{model} {start} {seed}"
        if name not in results:
            weights = train(given, folder / data, model, start, seed)
            results[name] = score(weights, given, folder)
            write_json(table, results)
        print(name, json.dumps(results[name]), flush=True)


def train(given: dict[str, str], folder: Path, model: str, start: str, seed: int) -> Path:
    """Train, or go on; return the last epoch's weights."""
    from ultralytics import YOLO

    name = f"{model}-{start}-{seed}"
    last = folder / name / "weights" / "last.pt"
    os.environ["YOLO_LITE_TRANSFER"] = "1"
    settings: dict[str, Any] = {**RECIPE, "data": given["data"], "seed": seed, "device": given["device"]}
    settings |= {"project": str(folder), "name": name, "exist_ok": True}
    if start != "random":
        settings["pretrained"] = str(source_of(given, folder, start))
    if last.exists() and torch.load(last, weights_only=False)["epoch"] >= 0:
        YOLO(last).train(resume=True)
    elif not last.exists():
        YOLO(f"{model}.yaml").train(**settings)
    return last


def source_of(given: dict[str, str], folder: Path, start: str) -> Path:
    """Return the source, or what a control has in its place: weights never trained, or shuffled within each tensor."""
    if start == "transfer":
        return Path(given["source"]).absolute()
    from ultralytics import YOLO

    path = folder / f"source-{start}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        yolo = YOLO(given["source"])
        torch.manual_seed(0)
        if start == "untrained":
            yolo.model = type(yolo.model)(yolo.model.yaml, nc=len(yolo.names), verbose=False)
            yolo.model.names = yolo.names
        else:
            for value in yolo.model.state_dict().values():
                value.copy_(value.flatten()[torch.randperm(value.numel())].view_as(value))
        yolo.save(path)
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
