"""The search that the models of a comparison come from, as its report describes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.files import read_json

if TYPE_CHECKING:
    from yolo_lite.compare.report.results import Results

FILE = "search.json"


@dataclass(frozen=True)
class Row:
    """A candidate of a search.

    Attributes:
        label: Label of the candidate.
        time: Latency in milliseconds; None if it could not be measured.
        parameters: Number of parameters, in millions.
        imgsz: Height and width of the input image, in pixels.
        epochs: Number of epochs that it was trained for.
        score: mAP50-95 on held-out training images after these epochs; None without training.
        outcome: How the search ended for it, such as "finalist" or "over the budget".
    """

    label: str
    time: float | None
    parameters: float
    imgsz: int
    epochs: int
    score: float | None
    outcome: str


@dataclass(frozen=True)
class Search:
    """A search.

    Attributes:
        budget: Maximum latency, in milliseconds.
        way: Text that says how latency was measured.
        candidates: Number of candidates.
        error: Median relative error of the cost model; None without one.
        data: Name of the dataset's YAML file.
        rows: Candidates that were measured, or failed to be.
    """

    budget: float
    way: str
    candidates: int
    error: float | None
    data: str
    rows: Sequence[Row]


def read(folder: Path) -> Search | None:
    """Read the search from a comparison's folder; None if there was none."""
    plain = read_json(folder / FILE)
    return Search(**{**plain, "rows": [Row(**row) for row in plain["rows"]]}) if plain else None


def commands(results: "Results", search: Search) -> list[str]:
    """Return commands to train and export the recommended model; empty if nothing is recommended."""
    label = results.recommendation.model
    if label is None:
        return []
    imgsz = results.comparison.imgsz(label)
    epochs = 3 * int(results.comparison.train["epochs"])
    last = f"runs/{label}/{results.models[label].seeds[0]}/weights/last.pt"
    return [
        f"yolo train model=../models/{label}.yaml data={search.data} imgsz={imgsz} epochs={epochs}",
        f"yolo export model={last} imgsz={imgsz} format=onnx",
    ]


def faster(results: "Results") -> str | None:
    """Return a sentence on the fastest finalist; None if that is the recommended one or latency is not known."""
    chosen = results.recommendation
    if chosen.model is None or chosen.time is None:
        return None
    times = {
        label: row for label, model in results.models.items() for row in model.latency if row.way == chosen.time.way
    }
    label = min(times, key=lambda each: times[each].p50)
    if label == chosen.model:
        return None
    accuracy, best = (results.models[each].metrics["mAP50-95"].mean for each in (label, chosen.model))
    seeds = len(results.models[label].seeds)
    return (
        f"Faster: {label}, {times[label].p50:.1f} ms; its mAP50-95 differs from {chosen.model}'s by "
        f"{accuracy - best:+.3f}{' (one seed)' if seeds == 1 else ''}."
    )
