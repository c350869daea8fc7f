"""What int8 costs in accuracy and gains in speed: writes a table for trained checkpoints, in each runtime.

Accuracy is Ultralytics' own validator's on the exported files; calibration takes images of the training split. Time is
measured by `yolo-lite bench`, all models interleaved, relative to the first checkpoint in fp32. Exports and accuracies
are kept as they come, in the folder of the results, and found there when started again.

    python scripts/quantise_bccd.py data=bccd.yaml weights=yolov8n.pt,runs/lite/weights/best.pt
        [names=YOLOv8n,lite] [imgsz=320] [split=test] [seconds=15] [results=runs/quantise] [out=docs/quantisation.md]
"""

import csv
import sys
from pathlib import Path

from yolo_lite.bench import environment, measure, say
from yolo_lite.bench_report import against_fp32, replace, table
from yolo_lite.exporting import INT8, check_runtimes, export, load, quiet
from yolo_lite.quantise import check_data

FIELDS = ("model", "runtime", "precision", "file", "split", "mAP50", "mAP50-95")


def main(data, weights, names=None, imgsz="320", split="test", seconds="15", results="runs/quantise", out=None):
    results, imgsz = Path(results), int(imgsz)
    out = Path(out or Path(__file__).parent.parent / "docs" / "quantisation.md")
    weights = weights.split(",")
    names = names.split(",") if names else [Path(each).stem for each in weights]
    if len(set(names)) < len(weights):
        raise SystemExit(f"needs a name for each of {len(weights)} weights: names=..., found {names}")
    check_runtimes(INT8, int8=True)
    check_data(data)
    models = dict(zip(names, weights, strict=True))
    accuracies = accuracy(models, data, imgsz, split, results)
    measured = measure(models, INT8, (1,), imgsz, float(seconds), results / "exports", data, say)
    versions = environment(INT8)
    replace(results / "speed.csv", table(measured, versions))
    replace(out, markdown(names, accuracies, measured, versions, imgsz, split))
    print(out.read_text("utf-8"))


def accuracy(models, data, imgsz, split, results):
    """Validate every model: PyTorch, and each runtime in fp32 and int8."""
    file = results / "accuracy.csv"
    results.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(file.open())) if file.exists() else []
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS)
        if not rows:
            writer.writeheader()
        for name, path in models.items():
            model = load(name, path, imgsz)
            files = {("PyTorch", "fp32"): Path(path)}
            for runtime in INT8:
                for precision, calibration in (("fp32", None), ("int8", data)):
                    say(f"{name}: export for {runtime}, {precision}")
                    exported = export(model, runtime, results / "exports", imgsz, calibration)
                    files[runtime, precision] = exported
            for (runtime, precision), exported in files.items():
                key = {"model": name, "runtime": runtime, "precision": precision, "file": exported.name, "split": split}
                if not any(key.items() <= row.items() for row in rows):
                    say(f"{name}: accuracy in {runtime}, {precision}")
                    rows.append({**key, **validate(exported, data, imgsz, split)})
                    writer.writerow(rows[-1])
                    stream.flush()
    return {(row["model"], row["runtime"], row["precision"]): row for row in rows if row["model"] in models}


def validate(path, data, imgsz, split):
    from ultralytics import YOLO

    with quiet():
        box = YOLO(str(path), task="detect").val(
            data=data, imgsz=imgsz, split=split, rect=False, batch=1, device="cpu", plots=False, workers=0
        )
    return {"mAP50": f"{100 * box.box.map50:.2f}", "mAP50-95": f"{100 * box.box.map:.2f}"}


def markdown(names, accuracies, measured, versions, imgsz, split):
    lines = [
        "# INT8: accuracy and speed",
        "",
        f"Written by `scripts/quantise_bccd.py`: {imgsz} px, one thread, accuracy on the split `{split}`, calibrated "
        "with training images; OpenVINO by NNCF through Ultralytics' export, onnxruntime by yolo_lite. *Time* is over "
        f"that of {names[0]} in fp32 in the same runtime, *own fp32* over the model's own.",
        "",
        "; ".join(f"{name}: {value}" for name, value in versions.items()),
        "",
        "| model | runtime | precision | mAP50 | mAP50-95 | change by int8 | ms | time | own fp32 | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        torch = accuracies[name, "PyTorch", "fp32"]
        lines.append(f"| {name} | PyTorch | fp32 | {torch['mAP50']} | {torch['mAP50-95']} | | | | | |")
        for row in measured:
            if row.model == name and (name, row.runtime, row.precision) in accuracies:
                lines.append(line(row, accuracies, measured))
    slower = [row for row in measured if row.precision == "int8" and against_fp32(row, measured) > 1]
    lines += [""] + [f"- {row.model} in {row.runtime}: int8 is slower than fp32 on this CPU." for row in slower]
    return "\n".join(lines).rstrip() + "\n"


def line(row, accuracies, measured):
    mine = accuracies[row.model, row.runtime, row.precision]
    exact = accuracies[row.model, row.runtime, "fp32"]
    change = f"{float(mine['mAP50-95']) - float(exact['mAP50-95']):+.2f}" if row.precision == "int8" else ""
    return (
        f"| {row.model} | {row.runtime} | {row.precision} | {mine['mAP50']} | {mine['mAP50-95']} | {change} "
        f"| {row.p50:.1f} | {row.ratio:.2f} | {against_fp32(row, measured):.2f} | {row.size / 1e6:.1f} |"
    )


if __name__ == "__main__":
    main(**dict(word.split("=", 1) for word in sys.argv[1:]))
