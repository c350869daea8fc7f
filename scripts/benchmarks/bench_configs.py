"""Measure the latency of every shipped config at scale n against its base; write docs/latency.csv and docs/latency.md.

A base and all its configs run interleaved, with the base measured twice as a control, at 640 px with one thread.
Results are saved as they come and kept when the script is restarted; delete docs/latency.csv to measure anew. Takes
about half an hour on an otherwise idle machine.

    python scripts/benchmarks/bench_configs.py [configs=yolo*.yaml] [seconds=8] [imgsz=640] [out=docs]
"""

import csv
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from yolo_lite.bench import measure, report
from yolo_lite.bench.runtimes import environment, missing
from yolo_lite.files import rows_as_csv, write
from yolo_lite.output import say

ROOT = Path(__file__).resolve().parents[2]
RUNTIMES = ("onnxruntime", "openvino")
EXPERIMENTS = ("-aspp", "-timm")  # suffixes of configs that need not be faster than their base
FIELDS = ("config", "base", *report.FIELDS, "environment")


class Pair(NamedTuple):
    """Names of a config at scale n and of the stock model that it is based on."""

    config: str
    base: str


def main(configs="yolo*.yaml", seconds="8", imgsz="640", out=ROOT / "docs"):
    file = Path(out) / "latency.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(file.open())) if file.exists() else []
    if any(row["imgsz"] != imgsz for row in rows):
        sys.exit(f"{file} is of imgsz={rows[0]['imgsz']}, found {imgsz}; choose another out=")
    runtimes = [name for name in RUNTIMES if not missing(name)]
    pairs = [pair(path) for path in sorted((ROOT / "cfg").glob(configs))]
    with tempfile.TemporaryDirectory() as folder:
        for base in dict.fromkeys(pair.base for pair in pairs):
            for runtime in runtimes:
                done = {row["config"] for row in rows if row["runtime"] == runtime}
                left = [each.config for each in pairs if each.base == base and each.config not in done]
                if left:
                    print(f"{base}, {runtime}: {len(left)} configs", flush=True)
                    names = {name: name for name in (base, *left)}
                    measured = measure(names, [runtime], (1,), int(imgsz), float(seconds), folder, say=say)
                    rows += records(base, left, measured, imgsz, environment([runtime]))
                    write(file, rows_as_csv(FIELDS, rows))
    shipped = [pair(path).config for path in sorted((ROOT / "cfg").glob("yolo*.yaml"))]
    write(file.with_suffix(".md"), markdown(shipped, rows, imgsz))


def pair(path):
    """Return the names of a config at scale n and its base: yolov8n-mnv3 and yolov8n for cfg/yolov8-mnv3.yaml."""
    base, _, rest = path.stem.partition("-")
    task = next((f"-{task}" for task in ("seg", "pose", "obb", "cls") if rest.endswith(f"-{task}")), "")
    return Pair(f"{base}n-{rest}", f"{base}n{task}")


def records(base, configs, measured, imgsz, versions):
    """Return the rows of all configs: for each, its own measurements and those of its base from the same run."""
    versions = report.in_words(versions)
    return [
        {"config": config, "base": base, **asdict(row), "imgsz": imgsz, "environment": versions}
        for config in configs
        for row in measured
        if row.model not in configs or row.model == config
    ]


def markdown(configs, rows, imgsz):
    columns = sorted({(row["runtime"], row["precision"]) for row in rows})
    lines = [
        "# Latency of the shipped configs",
        "",
        f"Written by `scripts/benchmarks/bench_configs.py`: time at scale n relative to the base, {imgsz} px, one "
        "thread, random weights, median of the ratios within interleaved rounds with its 95 % interval. *Control* is "
        "the base measured again: a ratio no farther from 1 than that shows no difference. **Bold**: slower than the "
        "base.",
        "",
        f"| config | base | {' | '.join(title for column in columns for title in titles(*column))} |",
        f"|---|---|{'---|' * sum(len(titles(*column)) for column in columns)}",
    ]
    for config in configs:
        cells = [cell for column in columns for cell in compared(config, *column, rows)]
        base = next((row["base"] for row in rows if row["config"] == config), "")
        note = " (experiment)" if config.endswith(EXPERIMENTS) else ""
        lines.append(f"| `{config}`{note} | `{base}` | {' | '.join(cells)} |")
    versions = dict.fromkeys(row["environment"] for row in rows)
    return "\n".join([*lines, "", "Measured with:", "", *(f"- {each}" for each in versions), ""])


def titles(runtime, precision):
    """Return the column titles of a runtime and precision; only fp32 has a control."""
    return [f"{runtime} {precision}", *(["control"] if precision == "fp32" else [])]


def compared(config, runtime, precision, rows):
    """Return the ratios of a config and, in fp32, of the control to the base, as text."""
    mine = [row for row in rows if row["config"] == config and row["runtime"] == runtime]
    ours = [row for row in mine if row["model"] == config and row["precision"] == precision]
    if not ours:
        return ["not measured", ""][: len(titles(runtime, precision))]
    ratio, low, high = (float(ours[0][key]) for key in ("ratio", "low", "high"))
    bases = [row for row in mine if row["model"] == row["base"] and row["precision"] == precision]
    ratio, low, high = (value / float(bases[0]["ratio"]) for value in (ratio, low, high))  # bf16 against bf16
    control = [row["ratio"] for row in mine if str(row["control"]) == "True"]
    text = f"{ratio:.2f} ({low:.2f} to {high:.2f})"
    return [f"**{text}**" if ratio > 1 else text, f"{float(control[0]):.2f}"][: len(titles(runtime, precision))]


if __name__ == "__main__":
    main(**dict(word.split("=", 1) for word in sys.argv[1:]))
