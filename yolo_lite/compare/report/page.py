"""report.html: one self-contained page with tables, plots and sample detections, which needs no network."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite.compare.report import data_files, plots, search
from yolo_lite.compare.report.figures import COLOURS, INK, plots_of, styles_of, tried
from yolo_lite.compare.report.plots import Drawn
from yolo_lite.compare.report.results import Results, gather
from yolo_lite.files import read_json, write

HERE = Path(__file__).parent
PARTS = ("difference", "cost", "curve", "loss", "search")  # parts of the page that have plots


@dataclass(frozen=True)
class Tile:
    """Boxes on a sample image: class, confidence (None for labels), x, y, width, height."""

    label: str
    boxes: Sequence[Sequence[float | None]]
    seed: int | None = None


@dataclass(frozen=True)
class SampleImage:
    """A sample image: data URL, size in pixels, and tiles with the labels and the detections of every model."""

    name: str
    url: str
    width: int
    height: int
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Environment:
    """Machine and versions that a number of runs have in common."""

    runs: int
    machine: Mapping[str, Any]
    versions: Mapping[str, str]


def write_report(folder: str | Path, say: Callable[[str], None] = lambda text: None) -> Results:
    """Write the report of a comparison from the small files of its runs.

    Writes report.html, results.csv, results.json, summary.md and the folder `plots`.

    Args:
        folder: Folder of the comparison.
        say: Callback that is given progress messages.

    Raises:
        ConfigError: The folder holds no comparison, or no finished run.
    """
    folder = Path(folder)
    results = gather(folder, say)
    say(f"{results.comparison.name}: drawing the plots")
    searched = search.read(folder)
    more = tried(searched, results) if searched else None
    drawn, files = plots.draw_all([*plots_of(results), *([more] if more else [])])
    for name, content in files.items():
        write(folder / "plots" / name, content)
    data_files.write_files(results, folder)
    write(folder / "report.html", page(results, drawn, samples(results, folder), searched))
    return results


def page(
    results: Results, drawn: Sequence[Drawn], images: Sequence[SampleImage], searched: search.Search | None = None
) -> str:
    """Render the page's template, with style and script inlined."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"clock": clock, "signed": data_files.signed}
    return environment.get_template("page.html.j2").render(
        style=(HERE / "style.css").read_text("utf-8"),
        script=(HERE / "script.js").read_text("utf-8"),
        results=results,
        record=results.comparison,
        models=results.models,
        recommended=results.recommendation.sentence,
        shown=data_files.shown(results),
        plots={part: [each for each in drawn if each.plot.part == part] for part in PARTS},
        styles=styles_of(results),
        ink=INK,
        colours=COLOURS,
        samples=images,
        search=searched,
        commands=search.commands(results, searched) if searched else [],
        faster=search.faster(results) if searched else None,
        environments=environments(results),
    )


def samples(results: Results, folder: Path) -> list[SampleImage]:
    """Return the sample images with their labels and the detections of every model's first seed."""
    found = []
    for number, sample in enumerate(results.comparison.samples):
        file = folder / "samples" / f"{number}.jpg"
        if file.exists():
            labelled = Tile("labelled", [[cls, None, *box] for cls, *box in sample.truth])
            content = file.read_bytes()
            url = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
            tiles = [labelled, *_detections(results, folder, number)]
            found.append(SampleImage(sample.name, url, *_size(content), tiles))
    return found


def _detections(results: Results, folder: Path, number: int) -> list[Tile]:
    """Return the detections of each model on a sample image."""
    found = []
    for label, model in results.models.items():
        seed = model.seeds[0]
        boxes = read_json(folder / "runs" / label / str(seed) / "samples.json")
        if boxes is not None:
            found.append(Tile(label, boxes[number], seed))
    return found


def _size(content: bytes) -> tuple[int, int]:
    """Return the width and height of an encoded image, in pixels."""
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "we wrote it"
    return image.shape[1], image.shape[0]


def environments(results: Results) -> list[Environment]:
    """Return the distinct combinations of machine and versions, with the number of runs of each."""
    records = [run.record for run in results.runs if run.record.versions and run.record.machine]
    found = Counter(json.dumps([record.machine, record.versions]) for record in records)
    return [Environment(count, *json.loads(key)) for key, count in found.items()]


def clock(seconds: float) -> str:
    """Format a duration like `1 h 02 min` or `3 min 10 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
