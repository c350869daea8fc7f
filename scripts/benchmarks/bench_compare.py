"""Measure the overhead of `yolo-lite compare parallel=1` over running the same `yolo train` commands in sequence.

    python scripts/benchmarks/bench_compare.py [rounds=2] [data=shapes.yaml] [epochs=3] [imgsz=160]
        [models=yolov8n,yolov8n-mnv3] [seeds=0,1]

Each round times both, in alternating order, after an uncounted warm-up, so that cold files do not bias the comparison.
The time for measurements (evaluation, latency, parameters and GFLOPs) and the report is excluded, since they are the
purpose of a comparison. CPU time is reported besides wall time, since it is the relevant one on a shared machine. The
overhead is constant, a few seconds for starting, reading the dataset and building each model once, so it matters less
the longer the runs are.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from yolo_lite.compare.settings import parse

BIN = Path(sys.executable).parent
APART = """
import os, sys
import ultralytics  # a comparison has already imported it by then
from yolo_lite import models
from yolo_lite.compare import write_report
folder, imgsz, *names = sys.argv[1:]
built = [models.build(f"{name}.yaml", 3)[0] for name in names]
before = os.times()
for model in built:
    models.measure(model, int(imgsz))
write_report(folder)
after = os.times()
print(after.elapsed - before.elapsed, after.user + after.system - before.user - before.system)
"""  # runs the measurements and the report in a separate process


def main(words):
    _, given = parse(words)
    settings = {"data": "shapes.yaml", "epochs": 3, "imgsz": 160, "batch": 16, "nbs": 16, "plots": False, **given}
    rounds = settings.pop("rounds", 2)
    models, seeds = (settings.pop(*each).split(",") for each in (("models", "yolov8n,yolov8n-mnv3"), ("seeds", "0,1")))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        train({**settings, "epochs": 1}, models[:1], seeds[:1], Path(folder, "warm-up"))
        for number in range(rounds):
            order = [train, compare] if number % 2 == 0 else [compare, train]
            took = {each: each(settings, models, seeds, Path(folder, str(number))) for each in order}
            found.append([ours / stock for ours, stock in zip(took[compare], took[train], strict=True)])
            (stock, stock_cpu), (ours, ours_cpu) = took[train], took[compare]
            print(
                f"round {number + 1}/{rounds}: yolo train {stock:.1f} s, {stock_cpu:.1f} s CPU; compare {ours:.1f} s, "
                f"{ours_cpu:.1f} s CPU; ratios {found[-1][0]:.3f}, {found[-1][1]:.3f}",
                flush=True,
            )
    wall, cpu = (statistics.median(ratios) for ratios in zip(*found, strict=True))
    print(f"compare takes {wall:.3f} of its runs' time, {cpu:.3f} of their CPU time (medians of {rounds} rounds)")


def train(settings, models, seeds, folder):
    """Train each model with each seed using the stock command; return wall and CPU seconds."""
    runs = [(f"model={model}.yaml", f"seed={seed}") for seed in seeds for model in models]
    each = [timed("yolo", "train", *as_words(settings), *run, f"project={folder}", "name=train") for run in runs]
    return [sum(seconds) for seconds in zip(*each, strict=True)]


def compare(settings, models, seeds, folder):
    """Compare the models; return wall and CPU seconds, without those of the measurements and the report."""
    lists = {"models": ",".join(models), "seeds": ",".join(seeds), "latency": False, "project": folder, "name": "all"}
    whole = timed("yolo-lite", "compare", *as_words({**settings, **lists}))
    records = [json.loads(file.read_text()) for file in folder.glob("all/runs/*/*/run.json")]
    evaluated = [sum(record[key] for record in records) for key in ("evaluate_seconds", "evaluate_cpu_seconds")]
    command = [sys.executable, "-c", APART, folder / "all", str(settings["imgsz"]), *models]
    apart = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [a - b - c for a, b, c in zip(whole, evaluated, map(float, apart.splitlines()[-1].split()), strict=True)]


def as_words(settings):
    return [f"{key}={value}" for key, value in settings.items()]


def timed(command, *words):
    """Run a command; return its wall and CPU seconds, including child processes."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([BIN / command, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu


if __name__ == "__main__":
    main(sys.argv[1:])
