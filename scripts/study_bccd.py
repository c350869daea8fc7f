"""The studies on BCCD, 364 photographs of blood cells, all models from random start:

    backbones   lightweight backbones in YOLOv5n and YOLOv8n against the stock models; in docs/study-bccd
    lite        the preset yolo26s-lite against YOLOv8n, YOLO26n, and YOLOv8n shrunk to its latency; in docs/study-lite

    python scripts/study_bccd.py data=path/to/bccd.yaml [study=backbones] [folder=runs/study-bccd] [parallel=2]
                                                            train what is left
    python scripts/study_bccd.py data=path/to/bccd.yaml latency=True   the same, then time the models (quiet machine!)
    python scripts/study_bccd.py collect [study=backbones]  copy what is finished into docs, and write the report there,
                                                            and what it shows into the page that is about it

Interrupt it whenever you like, the first command goes on: with what its folder holds, and with the runs in docs that
the folder lacks. A new `lite` study times shrunk models before it trains: start it on a quiet machine.
Dataset: github.com/Shenggan/BCCD_Dataset, boxes as YOLO lines. 40 epochs, batch and `nbs` 16 (with the host's nbs=64
these 205 training pictures would give three optimizer steps an epoch), the last epoch's weights, test split.
"""

import os
import sys
from pathlib import Path

from yolo_lite._registry import ConfigError
from yolo_lite.bench_report import replace
from yolo_lite.compare import collect, compare, write_report
from yolo_lite.compare.plan import parse
from yolo_lite.compare.statistics import differences
from yolo_lite.compare.tables import headline

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = {"lite": DOCS / "lite.md", "backbones": DOCS.parent / "README.md"}
MARKS = "<!-- study -->\n", "<!-- /study -->"
PRESET = "yolo26s-lite"
SWAPPED = ["yolov8n-mnv3", "yolov8n-mnv4", "yolov8n-mnv4-extradw"]
WITH_ASPP = [
    f"yolov5n-{family}-aspp"
    for family in ("mnasnet", "mnv1", "mnv2", "mnv3", "ghostnet", "shufflenetv1", "shufflenetv2")
]
THREE, SIX = list(range(3)), list(range(6))
STUDIES = {
    "backbones": {
        "folder": "study-bccd",
        "models": ["yolov8n", "yolov5n", *SWAPPED, *WITH_ASPP],
        "seeds": {"all": THREE, **dict.fromkeys(["yolov8n", *SWAPPED], SIX)},  # and the rival has its model's
        "match": "gflops",
        "rivals": ["yolov8n-mnv3"],
        "imgsz": 256,
    },
    "lite": {
        "folder": "study-lite",
        "models": ["yolov8n", "yolo26n", "yolo26s-lite"],
        "seeds": SIX,
        "match": "latency",
        "rivals": ["yolo26s-lite:yolov8n"],
        "imgsz": 320,
    },
}


def main(words):
    collecting = "collect" in words
    _, settings = parse([word for word in words if word != "collect"])
    kind = settings.pop("study", "backbones")
    study = dict(STUDIES[kind])
    name = study.pop("folder")
    kept, folder = DOCS / name, Path(settings.pop("folder", f"runs/{name}")).absolute()
    if collecting:
        print(f"{collect.copy(folder, kept)} runs copied")
        results = write_report(kept)
        replace(PAGES[kind], with_findings(PAGES[kind].read_text("utf-8"), kind, results))
        print(headline(results))
        return 0
    if (kept / "comparison.json").exists():
        collect.copy(kept, folder)
    data = Path(settings.pop("data", "bccd.yaml")).absolute()
    if data.exists():  # the recorded commands then name the dataset without this machine's path
        os.chdir(data.parent)
    outcome = compare(
        {
            **study,
            "baseline": "yolov8n",
            "data": data.name,
            "split": "test",
            "parallel": 2,
            "latency": False,
            "project": str(folder.parent),
            "name": folder.name,
            "epochs": 40,
            "batch": 16,
            "nbs": 16,
            **settings,
        }
    )
    return 1 if outcome.failed else 0


def with_findings(page, kind, results):
    """Put what a study found into a page, between its marks."""
    lines = table(results) + (["", *preset_lines(results)] if kind == "lite" else [])
    before, _, rest = page.partition(MARKS[0])
    return f"{before}{MARKS[0]}{chr(10).join(lines)}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


def table(results):
    """Return a row for each model, most accurate first."""
    baseline = results["comparison"]["baseline"]
    lines = [
        f"| model | parameters | GFLOPs | seeds | mAP50 | mAP50-95 | to {baseline}, 95 % interval | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    models = results["models"].items()
    for label, model in sorted(models, key=lambda each: -each[1]["metrics"]["mAP50-95"]["mean"]):
        difference = model["difference"].get("mAP50-95")
        cells = [
            f"`{label}`",
            f"{model['parameters'] / 1e6:.2f} M",
            f"{model['gflops']:.2f}",
            len(model["seeds"]),
            *(points(model["metrics"][metric]) for metric in ("mAP50", "mAP50-95")),
            interval(difference) if difference else "",
            difference["verdict"] if difference else "",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def points(figure):
    return f"{100 * figure['mean']:.1f}" + (f" ± {100 * figure['sd']:.1f}" if figure["sd"] is not None else "")


def interval(difference):
    mean, low, high = (100 * difference[key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def preset_lines(results):
    """Hold the lite preset against what it was made for."""
    values = {label: {} for label in results["models"]}
    for run in results["runs"]:
        if "metrics" in run:
            values[run["model"]][run["seed"]] = run["metrics"]["mAP50-95"]
    lines = [f"| `{PRESET}` against | mAP50-95, 95 % interval | wanted | |", "|---|---|---|---|"]
    for other, wanted, reached in (
        (results["rivals"][PRESET], "the interval above 0", lambda found: found["low"] > 0),
        ("yolo26n", "the interval above 0", lambda found: found["low"] > 0),
        ("yolov8n", "at most 1.0 below", lambda found: found["mean"] >= -0.01),
    ):
        found = differences(values, {PRESET: other})[PRESET]._asdict()
        verdict = "reached" if reached(found) else "**not reached**"
        lines.append(f"| `{other}` | {interval(found)} | {wanted} | {verdict} |")
    return lines


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"study_bccd: {error}")
