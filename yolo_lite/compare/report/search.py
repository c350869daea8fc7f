"""What a comparison's page says of the search that its models come from, where there was one."""

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
    """A candidate.

    Attributes:
        label: What it is called.
        time: Milliseconds, None where it could not be measured.
        parameters: Millions.
        imgsz: Height and width of its images, pixels.
        epochs: That it was trained for.
        score: Its mAP50-95 then, on training images held out.
        outcome: What became of it.
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
        budget: Milliseconds.
        way: How they were measured.
        candidates: How many there were.
        error: Median relative error of the cost model, None without one.
        data: The dataset's YAML file.
        rows: The candidates that were measured.
    """

    budget: float
    way: str
    candidates: int
    error: float | None
    data: str
    rows: Sequence[Row]


def read(folder: Path) -> Search | None:
    """Return the search that a comparison's folder tells of, None where there was none."""
    plain = read_json(folder / FILE)
    return Search(**{**plain, "rows": [Row(**row) for row in plain["rows"]]}) if plain else None


def commands(results: "Results", search: Search) -> list[str]:
    """Return the commands that go on with the recommended model; none where nothing is recommended."""
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
    """Return a sentence on the fastest finalist that is faster than the recommended one; None where there is none."""
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
    return (
        f"Faster: {label}, {times[label].p50:.1f} ms; its mAP50-95 differs from {chosen.model}'s by "
        f"{accuracy - best:+.3f}."
    )
