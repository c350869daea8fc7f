"""Measure whether the lite preset meets its size and latency targets.

Writes docs/lite.csv, the tables in docs/lite.md, and the figures in the README.

All models run interleaved, at 640 px with one thread, in onnxruntime and OpenVINO. Requires an otherwise idle machine
for about five minutes. Exits with status 1 if a target is not met.

    python scripts/benchmarks/bench_lite.py [seconds=15]
    python scripts/benchmarks/bench_lite.py --check     check docs/lite.csv only
"""

import csv
import re
import sys
from pathlib import Path
from typing import NamedTuple

from yolo_lite.bench import measure
from yolo_lite.bench.report import table
from yolo_lite.bench.runtimes import environment
from yolo_lite.files import between, write
from yolo_lite.output import say

DOCS = Path(__file__).resolve().parents[2] / "docs"
MODELS = [
    "yolov8n",
    "yolo26n",
    "yolov8n-ghost",
    "yolo26s-lite",
    "yolo26n-lite",
    "yolo26s-lite-mnv4",
]
RUNTIMES = ["onnxruntime", "openvino"]
MILLIONS = {"yolo26s-lite": 1.7, "yolo26n-lite": 0.6}  # model -> maximum number of parameters in millions
TIMES = {  # (model, other model, runtime) -> maximum ratio of their fp32 latencies
    ("yolo26s-lite", "yolov8n", "onnxruntime"): 0.53,
    ("yolo26s-lite", "yolo26n", "onnxruntime"): 0.8,
    ("yolo26s-lite", "yolov8n-ghost", "onnxruntime"): 0.83,
    ("yolo26n-lite", "yolov8n", "onnxruntime"): 0.22,
    ("yolo26s-lite", "yolov8n", "openvino"): 0.57,
    ("yolo26n-lite", "yolov8n", "openvino"): 0.25,
}


class Promise(NamedTuple):
    """A target and the measured value."""

    text: str
    promised: str
    found: str
    kept: bool


def main(seconds="15"):
    rows = measure(MODELS, RUNTIMES, (1,), 640, float(seconds), say=say)
    write(DOCS / "lite.csv", table(rows, environment(RUNTIMES)))
    for page, put in ((DOCS / "lite.md", with_table), (DOCS.parent / "README.md", with_figures)):
        write(page, put(page.read_text("utf-8"), read()))
    return check()


def read():
    with (DOCS / "lite.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def promises(rows):
    """Yield every target with its measured value."""
    mine = (row for row in rows if row["precision"] == "fp32" and row["control"] == "False")
    fp32 = {(row["model"], row["runtime"]): row for row in mine}
    for (model, other, runtime), most in TIMES.items():
        found = float(fp32[model, runtime]["ratio"]) / float(fp32[other, runtime]["ratio"])
        text = f"`{model}` against `{other}` in {runtime}"
        yield Promise(text, f"at most {most:g} of its time", f"{found:.2f}", found <= most)
    for model, most in MILLIONS.items():
        found = int(fp32[model, "onnxruntime"]["parameters"]) / 1e6
        yield Promise(f"`{model}`", f"at most {most:g} M parameters", f"{found:.2f} M", found <= most)


def with_table(page, rows):
    """Return docs/lite.md with the measurements between its markers."""
    columns = list(dict.fromkeys((row["runtime"], row["precision"]) for row in rows))
    lines = [
        f"| model | parameters | GFLOPs | {' | '.join(f'{runtime} {precision}' for runtime, precision in columns)} |",
        f"|---|---|---|{'---|' * len(columns)}",
    ]
    for model, control in dict.fromkeys((row["model"], row["control"]) for row in rows):
        same = (row for row in rows if (row["model"], row["control"]) == (model, control))
        mine = {(row["runtime"], row["precision"]): row for row in same}
        first = next(iter(mine.values()))
        name = f"{model} (again)" if control == "True" else model
        cells = []
        for column in columns:
            row = mine.get(column)
            cells.append(f"{float(row['p50']):.1f} ms, {float(row['ratio']):.2f}" if row else "")
        millions = f"{int(first['parameters']) / 1e6:.2f} M"
        lines.append(f"| `{name}` | {millions} | {float(first['gflops']):.2f} | {' | '.join(cells)} |")
    lines += ["", "| target | | measured |", "|---|---|---|"]
    lines += [
        f"| {each.text} | {each.promised} | {each.found}{'' if each.kept else ', **not met**'} |"
        for each in promises(rows)
    ]
    lines += ["", f"Measured with {rows[0]['environment']}."]
    return between(page, "latency", lines)


def with_figures(page, rows):
    """Return the README with each figure between its markers."""
    figures = {"lite-s-gpu": on_gpu("yolo26s-lite")}
    for letter in "sn":
        row = next(each for each in rows if each["model"] == f"yolo26{letter}-lite" and each["runtime"] == RUNTIMES[0])
        figures[f"lite-{letter}"] = f"{float(row['ratio']):.2f}"
        figures[f"lite-{letter}-millions"] = f"{int(row['parameters']) / 1e6:.2f}"
    for mark, value in figures.items():
        page = re.sub(rf"(<!-- {mark} -->).*?(<!-- /{mark} -->)", rf"\g<1>{value}\2", page)
    return page


def on_gpu(model):
    """Return a model's latency relative to YOLOv8n's on a GPU, from scripts/benchmarks/gpu.py."""
    with (DOCS / "gpu.csv").open(encoding="utf-8") as file:
        found = {row["model"]: row["value"] for row in csv.DictReader(file) if row["check"].startswith("latency")}
    return f"{float(found[model]):.2f}"


def check():
    """Print the targets that are not met; return the exit status."""
    broken = [each for each in promises(read()) if not each.kept]
    print(*(f"{each.text}: {each.promised}, found {each.found}" for each in broken), sep="\n")
    return bool(broken)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    sys.exit(main(**dict(word.split("=", 1) for word in sys.argv[1:])))
