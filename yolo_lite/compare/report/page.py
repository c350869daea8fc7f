"""report.html: one page that needs no network, with the tables, plots and sample detections in it."""

import base64
import json
from pathlib import Path

from yolo_lite.compare.report import plots, tables
from yolo_lite.files import write


def write_report(folder):
    """Write a comparison's report from the small files of its runs.

    Writes report.html, results.csv, results.json, summary.md and the folder `plots`.

    Returns:
        (dict): The results, as `tables.gather` gives them.

    Raises:
        ConfigError: The folder holds no comparison, or nothing is finished in it.
    """
    folder = Path(folder)
    results = tables.gather(folder)
    inline, files = plots.draw_all(results)
    for name, content in files.items():
        write(folder / "plots" / name, content)
    tables.write_files(results, folder)
    write(folder / "report.html", page(results, inline, folder))
    return results


def page(results, inline, folder):
    """Fill the page's template."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"clock": clock, "signed": tables.signed}
    kinds = {"difference": [], "cost": [], "curve": [], "loss": []}
    for name, (title, svg) in inline.items():
        kind = name.split("-")[0]
        kind = "loss" if "loss" in name else kind if kind in kinds else "cost"
        kinds[kind].append({"title": title, "svg": svg, "name": name})
    names = {tables.runtime_name(each): each for model in results["models"].values() for each in model["latency"]}
    return environment.get_template("report.html.j2").render(
        results=results,
        record=results["comparison"],
        models=results["models"],
        headline=tables.headline(results),
        plots=kinds,
        metrics=tables.METRICS,
        runtimes=list(names),
        runtime_name=tables.runtime_name,
        matched=lambda label, rival: tables.matched(results["comparison"], label, rival) or "–",
        colours={label: plots.style(results, label) for label in results["models"]},
        ink=plots.INK,
        samples=samples(results, folder),
        classes=results["comparison"]["data"]["classes"],
        class_colours=plots.COLOURS,
        versions=environments(results),
    )


def samples(results, folder):
    """Return the sample images with what is in them and what every model's first seed found."""
    found = []
    for number, sample in enumerate(results["comparison"]["samples"]):
        file = folder / "samples" / f"{number}.jpg"
        if not file.exists():
            continue
        tiles = [{"label": "labelled", "boxes": [[c, None, *box] for c, *box in sample["truth"]]}]
        for label, model in results["models"].items():
            boxes = folder / "runs" / label / str(model["seeds"][0]) / "samples.json"
            if boxes.exists():
                seed = model["seeds"][0]
                tiles.append({"label": label, "seed": seed, "boxes": json.loads(boxes.read_text("utf-8"))[number]})
        content = file.read_bytes()
        width, height = _size(content)
        found.append(
            {
                "name": sample["name"],
                "url": f"data:image/jpeg;base64,{base64.b64encode(content).decode()}",
                "width": width,
                "height": height,
                "tiles": tiles,
            }
        )
    return found


def _size(content):
    import cv2
    import numpy as np

    height, width = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    return width, height


def environments(results):
    """Return the different machines and versions that runs were made with, and how many runs each."""
    found = {}
    for run in results["runs"]:
        if "versions" in run and "machine" in run:
            key = json.dumps([run["machine"], run["versions"]])
            found[key] = found.get(key, 0) + 1
    return [
        {"runs": count, "machine": json.loads(key)[0], "versions": json.loads(key)[1]} for key, count in found.items()
    ]


def clock(seconds):
    """Return `1 h 02 min`, `3 min 10 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
