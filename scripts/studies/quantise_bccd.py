"""Measure the accuracy loss and the speed-up of int8 for trained checkpoints, in each runtime.

Accuracy is measured by Ultralytics' own validator on the exported files, at the training image size; calibration uses
images of the training split. Latency is measured by `yolo-lite bench`, all models interleaved, relative to the first
checkpoint in fp32. Exports and accuracies are cached in the results folder and reused when the script is restarted.
Writes quantisation.csv, and quantisation.md from it; use out=docs/quantisation.md to update the docs.

    python scripts/studies/quantise_bccd.py data=bccd.yaml weights=yolov8n.pt,runs/lite/weights/best.pt
        [names=YOLOv8n,lite] [imgsz=320] [timed=640] [split=test] [seconds=15] [results=runs/quantise]
        [out=runs/quantise/quantisation.md]
"""

import contextlib
import csv
import hashlib
import sys
import unittest.mock
from pathlib import Path

from yolo_lite import models as zoo
from yolo_lite.bench import measure
from yolo_lite.bench.export import export
from yolo_lite.bench.report import against_fp32, in_words
from yolo_lite.bench.runtimes import INT8, check_runtimes, environment
from yolo_lite.datasets.images import check_data
from yolo_lite.errors import ConfigError
from yolo_lite.files import rows_as_csv, write
from yolo_lite.output import errors_only, say

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEPT = ("model", "runtime", "precision", "file", "weights", "data", "split", "imgsz", "mAP50", "mAP50-95")
FIELDS = (
    *("model", "runtime", "precision", "data", "split", "imgsz", "mAP50", "mAP50-95"),
    *("timed", "p50", "ratio", "own", "size", "environment"),
)


def main(
    data, weights, names=None, imgsz="320", timed="640", split="test", seconds="15", results="runs/quantise", out=None
):
    results, imgsz, timed = Path(results), int(imgsz), int(timed)
    out = Path(out or results / "quantisation.md")
    weights = weights.split(",")
    names = names.split(",") if names else [Path(each).stem for each in weights]
    if not len(set(names)) == len(names) == len(weights):
        raise ConfigError(f"needs a name for each of {len(weights)} weights: names=..., found {names}")
    check_runtimes(INT8, int8=True)
    if not check_data(data).get(split):
        raise ConfigError(f"split={split}: {data} has no such images")
    models = dict(zip(names, weights, strict=True))
    accuracies = accuracy(models, data, imgsz, split, results)
    measured = measure(models, INT8, (1,), timed, float(seconds), results / "exports", data, say)
    rows = records(accuracies, measured, environment(INT8), imgsz, timed)
    write(out.with_suffix(".csv"), rows_as_csv(FIELDS, rows))
    write(out, markdown(rows))
    print(out.read_text("utf-8"))


def accuracy(models, data, imgsz, split, results):
    """Validate every model in PyTorch, and in each runtime in fp32 and int8; reuse the results in accuracy.csv."""
    file = results / "accuracy.csv"
    results.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(file.open())) if file.exists() else []
    found = {}
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, KEPT)
        if not rows:
            writer.writeheader()
        for name, path in models.items():
            model = zoo.load(path, imgsz, name)
            settings = {"weights": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16], "data": str(data)}
            settings |= {"split": split, "imgsz": str(imgsz)}
            files = {("PyTorch", "fp32"): Path(path)}
            for runtime in INT8:
                for precision, calibration in (("fp32", None), ("int8", data)):
                    say(f"{name}: export for {runtime}, {precision}")
                    exported = export(model, runtime, results / "exports", imgsz, calibration)
                    files[runtime, precision] = exported
            for (runtime, precision), exported in files.items():
                key = {"model": name, "runtime": runtime, "precision": precision, "file": exported.name, **settings}
                known = next((row for row in rows if key.items() <= row.items()), None)
                if known is None:
                    say(f"{name}: accuracy in {runtime}, {precision}")
                    known = {**key, **validate(exported, data, imgsz, split)}
                    writer.writerow(known)
                    stream.flush()
                found[name, runtime, precision] = known
    return found


def validate(path, data, imgsz, split):
    from ultralytics import YOLO

    with errors_only(), openvino_in_fp32():
        box = YOLO(str(path), task="detect").val(
            data=data, imgsz=imgsz, split=split, rect=False, batch=1, device="cpu", plots=False, workers=0
        )
    return {"mAP50": f"{100 * box.box.map50:.2f}", "mAP50-95": f"{100 * box.box.map:.2f}"}


@contextlib.contextmanager
def openvino_in_fp32():
    """Make OpenVINO compute in fp32: Ultralytics leaves the precision to OpenVINO, which uses bf16 on CPUs with it."""
    import openvino

    def compile_model(core, model, device_name="AUTO", config=None):
        return compile_anyhow(core, model, "CPU", {**(config or {}), "INFERENCE_PRECISION_HINT": "f32"})

    compile_anyhow = openvino.Core.compile_model
    with unittest.mock.patch.object(openvino.Core, "compile_model", compile_model):
        yield


def records(accuracies, measured, versions, imgsz, timed):
    """Combine accuracy and latency: return a row for each model, runtime and precision."""
    speed = {(row.model, row.runtime, row.precision): row for row in measured if not row.control}
    rows = []
    for key, found in accuracies.items():
        row = {
            **found,
            "data": Path(found["data"]).name,
            "imgsz": imgsz,
            "environment": in_words(versions),
        }
        if key in speed:
            mine = speed[key]
            times = {"p50": mine.p50, "ratio": mine.ratio, "own": against_fp32(mine, measured)}
            row |= {name: f"{value:.4f}" for name, value in times.items()} | {"timed": timed, "size": mine.size}
        rows.append({field: str(row.get(field, "")) for field in FIELDS})
    return rows


def read(file=DOCS / "quantisation.csv"):
    with file.open(encoding="utf-8") as text:
        return list(csv.DictReader(text))


def markdown(rows):
    first, timed = rows[0], [row for row in rows if row["timed"]]
    lines = [
        "# INT8: accuracy and speed",
        "",
        f"Written by `scripts/studies/quantise_bccd.py`. Accuracy of one training run each on the `{first['split']}` "
        f"split of `{first['data']}` at {first['imgsz']} px, the training size; what is not int8 runs in fp32. "
        "Calibrated with training images; OpenVINO with NNCF through Ultralytics' export, onnxruntime by yolo_lite. "
        f"Time at {timed[0]['timed']} px on one thread, all interleaved: *time* is relative to "
        f"{first['model']} in fp32 in the same runtime, *own fp32* to the model's own fp32.",
        "",
        "| model | runtime | precision | mAP50 | mAP50-95 | change by int8 | ms | time | own fp32 | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    exact = {(row["model"], row["runtime"]): row for row in rows if row["precision"] == "fp32"}
    for row in rows:
        cells = [row[key] for key in ("model", "runtime", "precision", "mAP50", "mAP50-95")]
        before = exact[row["model"], row["runtime"]]["mAP50-95"]
        cells.append(f"{float(row['mAP50-95']) - float(before):+.2f}" if row["precision"] == "int8" else "")
        if row in timed:
            size = int(row["size"]) / 1e6
            cells += [
                f"{float(row['p50']):.1f}",
                *(f"{float(row[key]):.2f}" for key in ("ratio", "own")),
                f"{size:.1f}",
            ]
        lines.append(f"| {' | '.join([*cells, *[''] * (10 - len(cells))])} |")
    lines += [""] + [
        f"- {row['model']} in {row['runtime']}: int8 is slower than fp32 on this CPU."
        for row in timed
        if row["precision"] == "int8" and float(row["own"]) > 1
    ]
    return "\n".join(lines).rstrip() + f"\n\nMeasured with {first['environment']}.\n"


if __name__ == "__main__":
    try:
        main(**dict(word.split("=", 1) for word in sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"quantise_bccd: {error}")
