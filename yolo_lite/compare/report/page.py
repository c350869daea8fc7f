"""report.html: one page that needs no network, with the tables, plots and sample detections in it."""

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
PARTS = ("difference", "cost", "curve", "loss", "search")  # of the page, that plots belong to


@dataclass(frozen=True)
class Tile:
    """A sample image with boxes: class, confidence (None of labelled ones), x, y, width, height."""

    label: str
    boxes: Sequence[Sequence[float | None]]
    seed: int | None = None


@dataclass(frozen=True)
class SampleImage:
    """A sample image, what is in it and what every model found: its data URL, pixels, and tiles."""

    name: str
    url: str
    width: int
    height: int
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Environment:
    """What a number of runs were made with."""

    runs: int
    machine: Mapping[str, Any]
    versions: Mapping[str, str]


def write_report(folder: str | Path, say: Callable[[str], None] = lambda text: None) -> Results:
    """Write a comparison's report from the small files of its runs.

    Writes report.html, results.csv, results.json, summary.md and the folder `plots`.

    Args:
        folder: The comparison's folder.
        say: Called with what is done next.

    Raises:
        ConfigError: The folder holds no comparison, or nothing is finished in it.
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
    """Fill the page's template; style and script are written into the page."""
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
    """Return the sample images with what is in them and what every model's first seed found."""
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
    """Return what each model found on a sample image."""
    found = []
    for label, model in results.models.items():
        seed = model.seeds[0]
        boxes = read_json(folder / "runs" / label / str(seed) / "samples.json")
        if boxes is not None:
            found.append(Tile(label, boxes[number], seed))
    return found


def _size(content: bytes) -> tuple[int, int]:
    """Return an image's width and height, pixels."""
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "we wrote it"
    return image.shape[1], image.shape[0]


def environments(results: Results) -> list[Environment]:
    """Return the different machines and versions that runs were made with, and how many runs each."""
    records = [run.record for run in results.runs if run.record.versions and run.record.machine]
    found = Counter(json.dumps([record.machine, record.versions]) for record in records)
    return [Environment(count, *json.loads(key)) for key, count in found.items()]


def clock(seconds: float) -> str:
    """Return `1 h 02 min`, `3 min 10 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
