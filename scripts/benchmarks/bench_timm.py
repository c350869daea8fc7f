"""Measure the latency of light timm networks as YOLOv8n's backbone; write docs/timm.csv and the table in docs/timm.md.

Each model is `yolov8n-timm.yaml` with that network's P3 to P5, at 640 px with one thread in onnxruntime; all are
interleaved with YOLOv8n, which is measured twice as a control. Takes about ten minutes on an otherwise idle machine.

    python scripts/benchmarks/bench_timm.py [networks=lcnet_100,...] [seconds=8] [imgsz=640] [out=docs]
"""

import csv
import sys
import tempfile
from pathlib import Path

import timm
import yaml
from ultralytics.nn.tasks import yaml_model_load

from yolo_lite.bench import measure
from yolo_lite.bench.report import in_words
from yolo_lite.bench.runtimes import environment
from yolo_lite.files import between, rows_as_csv, write
from yolo_lite.output import say

ROOT = Path(__file__).resolve().parents[2]
FOR_CPUS = ("cpubone_*", "lcnetv2_*", "lowformer_*")  # designed for CPUs according to their authors
BESIDE = ("mobilenetv4_conv_small", "mobilenetv4_conv_small_050", "lcnet_100", "repghostnet_100")
FIELDS = ("network", "params_m", "gflops", "p50", "ratio", "low", "high", "imgsz", "environment")
BASE = "yolov8n"


def main(networks="", seconds="8", imgsz="640", out=ROOT / "docs"):
    networks, out = networks.split(",") if networks else [*timm.list_models(FOR_CPUS), *BESIDE], Path(out)
    with tempfile.TemporaryDirectory() as folder:
        models = {BASE: BASE, **{name: config(name, Path(folder)) for name in networks}}
        measured = measure(models, ["onnxruntime"], (1,), int(imgsz), float(seconds), folder, say=say)
    machine = in_words(environment(["onnxruntime"]))
    rows = [
        {
            "network": f"{each.model}, again" if each.control else each.model,
            "params_m": f"{each.parameters / 1e6:.2f}",
            "gflops": f"{each.gflops:.2f}",
            **{key: f"{getattr(each, key):.3f}" for key in ("p50", "ratio", "low", "high")},
            "imgsz": imgsz,
            "environment": machine,
        }
        for each in measured
    ]
    write(out / "timm.csv", rows_as_csv(FIELDS, rows))
    page = out / "timm.md"
    write(page, between(page.read_text("utf-8"), "times", times(out)))


def config(name, folder):
    """Write yolov8n-timm.yaml with a network's name and the levels P3 to P5 only, since some networks have no P2."""
    d = {**yaml_model_load("yolov8n-timm.yaml")}
    d["backbone"][0][3], d["backbone"][1][3] = [name], [3]
    file = folder / f"yolov8n-{name}.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in d.items() if key not in ("scale", "yaml_file")}))
    return str(file)


def times(docs):
    """Return the table of docs/timm.md, fastest first."""
    with (Path(docs) / "timm.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["ratio"]))
    lines = [
        f"One thread of onnxruntime, fp32, {rows[0]['imgsz']} px; {rows[0]['environment']}; [as CSV](timm.csv).",
        "",
        f"| backbone | params, M | GFLOPs | p50, ms | time, {BASE} = 1 |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row["params_m"], row["gflops"], f"{float(row['p50']):.1f}", f"{float(row['ratio']):.2f} "
                 f"[{float(row['low']):.2f}, {float(row['high']):.2f}]")  # fmt: skip
        lines.append(f"| `{row['network']}` | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
