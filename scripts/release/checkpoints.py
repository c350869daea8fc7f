"""Make a checkpoint to release: train it from a published YOLO, evaluate, export, time it, and write its model card.

    python scripts/release/checkpoints.py [model=yolo26s-lite] [source=yolov8n.pt] [data=coco.yaml]
        [folder=runs/checkpoints] [against=yolov8n] [formats=onnx] [runtimes=onnxruntime,openvino] [tag=v0.1.0]
        [epochs=300] [imgsz=640] [batch=128]

Accepts any other training argument of Ultralytics, such as device=0,1 or distill_model=yolov8m.pt. It may be killed at
any time: the same command resumes. It writes FOLDER/MODEL.pt, its exports, its card MODEL.md, and MODEL.json, its entry
for yolo_lite/ultralytics_hooks/released.json: with that entry, and the file among the release's assets,
`model=MODEL.pt` works everywhere.

Defaults: 300 epochs, because Ultralytics' own schedules of 500 and more start from random weights and this one does
not; batch 128, twice the nominal batch size of 64 that Ultralytics' learning rates are meant for, which its trainer
compensates for; all else as in Ultralytics, whose settings were tuned on COCO. No distillation: it showed no gain on
the one small dataset where it was tried (docs/lite.md). This has not been trained on COCO yet. source=None starts from
random weights.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from yolo_lite.bench.run import run as bench
from yolo_lite.compare import compare
from yolo_lite.compare.report.results import Results, gather
from yolo_lite.compare.settings import parse
from yolo_lite.errors import ConfigError
from yolo_lite.files import read_json, write, write_json
from yolo_lite.ultralytics_hooks.released import digest

TRAINING = {"epochs": 300, "imgsz": 640, "batch": 128}
ASSETS = "https://github.com/yolo-lite/yolo-lite/releases/download"
OF_THIS_MACHINE = ("data", "project", "name", "save_dir", "model", "pretrained", "distill_model", "device")  # paths


def main(words: list[str]) -> int:
    """Run the steps that are not done yet; return the exit status."""
    _, settings = parse(words)
    settings = {**TRAINING, **settings}
    model, source = settings.pop("model", "yolo26s-lite"), settings.pop("source", "yolov8n.pt")
    folder, against = Path(settings.pop("folder", "runs/checkpoints")).absolute(), settings.pop("against", "yolov8n")
    formats, tag = str(settings.pop("formats", "onnx")).split(","), settings.pop("tag", "v0.1.0")
    runtimes, imgsz = settings.pop("runtimes", ["onnxruntime", "openvino"]), settings["imgsz"]
    checkpoint = folder / f"{model}.pt"
    clear(folder)
    trained = train(model, source, folder / "training", {"data": "coco.yaml", **settings})
    if not checkpoint.exists():
        write(checkpoint, released(trained / "runs" / model / "0" / "weights" / "last.pt"))
    for kind in formats:
        export(checkpoint, kind, imgsz)
    times = folder / f"{model}-bench"
    if read_json(times / "done.json") is None:
        measured = bench([against, str(checkpoint)], runtimes, imgsz, out=times)
        rows = [
            [each.runtime, each.precision, each.p50, each.ratio] for each in measured if each.model == checkpoint.name
        ]
        write_json(times / "done.json", rows)
    row = {"url": f"{ASSETS}/{tag}/{checkpoint.name}", "size": checkpoint.stat().st_size, "sha256": digest(checkpoint)}
    command = " ".join(["python scripts/release/checkpoints.py", *words])
    rows = read_json(times / "done.json")
    write(folder / f"{model}.md", "\n".join(card(model, source, gather(trained), against, rows, row, command)) + "\n")
    write_json(folder / f"{model}.json", {checkpoint.name: row})
    print(f"{checkpoint}, its card {model}.md, and its row for released.json: {model}.json")
    return 0


def clear(folder: Path) -> None:
    """Remove the temporary files of a killed command."""
    for each in folder.glob(".*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def train(model: str, source: str, folder: Path, settings: dict[str, Any]) -> Path:
    """Train with `yolo-lite compare`, which resumes a killed training; return the comparison's folder.

    Raises:
        ConfigError: The training failed.
    """
    if source:
        from ultralytics.utils.downloads import attempt_download_asset

        settings["pretrained"] = attempt_download_asset(source)
    more = {"latency": False, "project": str(folder), "name": model, "plots": False}
    outcome = compare({"models": [model], "seeds": [0], **more, **settings})
    if outcome.failed:
        raise ConfigError(f"the training failed, see {outcome.folder}; the same command tries again")
    return outcome.folder


def released(last: Path) -> bytes:
    """Return a checkpoint's bytes without the paths of the machine that it was trained on."""
    checkpoint = torch.load(last, map_location="cpu", weights_only=False)
    for arguments in (checkpoint["train_args"], getattr(checkpoint["model"], "args", {})):
        for key in OF_THIS_MACHINE:
            if isinstance(arguments.get(key), str):
                arguments[key] = Path(arguments[key]).name
        arguments["resume"] = None
    vars(checkpoint["model"]).pop("pt_path", None)
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def export(checkpoint: Path, kind: str, imgsz: int) -> None:
    """Export a checkpoint atomically; keep an existing export."""
    from ultralytics import YOLO

    if list(checkpoint.parent.glob(f"{checkpoint.stem}.{kind}*")) + list(checkpoint.parent.glob(f"*_{kind}_model")):
        return
    with tempfile.TemporaryDirectory(prefix=".export-", dir=checkpoint.parent) as place:
        copy = Path(place, checkpoint.name)
        copy.write_bytes(checkpoint.read_bytes())
        made = Path(YOLO(copy).export(format=kind, imgsz=imgsz))
        made.replace(checkpoint.with_name(made.name))


def card(
    model: str, source: str, results: Results, against: str, times: list[Any], row: dict[str, Any], command: str
) -> list[str]:
    """Return the lines of the model card."""
    found, record, data = results.models[model], results.runs[0].record, results.comparison.data
    versions = ", ".join(f"{name} {version}" for name, version in (record.versions or {}).items())
    part = "" if results.comparison.fraction == 1 else f" (fraction={results.comparison.fraction})"
    begun = f"transferred from {Path(source).name}" if source else "random weights"
    return [
        f"# {model}",
        "",
        f"A detector of {len(data.classes)} classes by yolo_lite, made with `{command}`.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {metric}, {data.split} | {100 * found.metrics[metric].mean:.1f} |" for metric in ("mAP50-95", "mAP50")),
        f"| parameters, fused | {found.record.parameters / 1e6:.2f} M |",
        f"| GFLOPs, {results.comparison.pixels} px | {found.record.gflops:.2f} |",
        *(
            f"| {name} {precision}, 1 thread | {p50:.1f} ms, {ratio:.2f} of {against}'s |"
            for name, precision, p50, ratio in times
        ),
        f"| trained on | {data.name}, {data.images.get('train')} images{part} |",
        f"| epochs | {results.comparison.train['epochs']} |",
        f"| initial weights | {begun} |",
        "| licence | AGPL-3.0, as yolo_lite's and Ultralytics' code; mind the terms of the images |",
        f"| made with | {versions} |",
        f"| file | {Path(row['url']).name}, {row['size']} bytes |",
        f"| SHA-256 | `{row['sha256']}` |",
    ]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"checkpoints: {error}")
