"""What `yolo-lite compare parallel=1` costs beside the `yolo train` runs that it makes, one after another.

    python scripts/bench_compare.py [data=shapes.yaml] [epochs=3] [imgsz=160] [models=yolov8n,yolov8n-mnv3] [seeds=0]

Evaluation, latency and report are left out, as what a comparison is for. CPU seconds stand beside the wall's, since
they are what counts on a machine that others use too. A comparison's own part is constant, some seconds for reading the
dataset and building each model once, so it is the less the longer the runs are.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from yolo_lite.compare import write_report
from yolo_lite.compare.plan import parse

BIN = Path(sys.executable).parent


def main(words):
    _, given = parse(words)
    settings = {"data": "shapes.yaml", "epochs": 3, "imgsz": 160, "batch": 16, "nbs": 16, "plots": False, **given}
    models, seeds = settings.pop("models", "yolov8n,yolov8n-mnv3"), settings.pop("seeds", "0")
    train = [f"{key}={value}" for key, value in settings.items()]
    with tempfile.TemporaryDirectory() as folder:
        runs = [(model, seed) for seed in seeds.split(",") for model in models.split(",")]
        alone = [
            timed("yolo", "train", *train, f"model={model}.yaml", f"seed={seed}", f"project={folder}", f"name={model}")
            for model, seed in runs
        ]
        whole = timed(
            "yolo-lite", "compare", *train, f"models={models}", f"seeds={seeds}", "latency=False",
            f"project={folder}", "name=compare",
        )  # fmt: skip
        records = [json.loads(file.read_text()) for file in Path(folder).glob("compare/runs/*/*/run.json")]
        evaluated = [sum(record[key] for record in records) for key in ("evaluate_seconds", "evaluate_cpu_seconds")]
        before = os.times()
        write_report(Path(folder, "compare"))
        after = os.times()
    reported = after.elapsed - before.elapsed, after.user + after.system - before.user - before.system
    for name, index in (("wall", 0), ("CPU", 1)):
        stock = sum(each[index] for each in alone)
        ours = whole[index] - evaluated[index] - reported[index]
        print(
            f"{name}: {len(runs)} runs of yolo train {stock:.1f} s; compare {whole[index]:.1f} s, of which evaluation "
            f"{evaluated[index]:.1f} s and report {reported[index]:.1f} s; the rest is {ours / stock:.3f} of yolo train"
        )


def timed(command, *words):
    """Run a command; return its wall and CPU seconds, children included."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([BIN / command, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu


if __name__ == "__main__":
    main(sys.argv[1:])
