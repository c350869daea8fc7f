"""Create the folder of a finished comparison with made-up figures, to test reports without training."""

import json

import numpy as np

METRICS = ("P", "R", "F1", "mAP50", "mAP50-95")
HEADER = (
    "epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),"
    "metrics/mAP50-95(B),val/box_loss,val/cls_loss,val/dfl_loss,lr/pg0"
)


def make_size_matched(folder, label, *models):
    """Mark a model of a comparison as the size-matched baseline of other models."""
    record = json.loads((folder / "comparison.json").read_text())
    match_for = dict.fromkeys(models)
    record["models"][label] |= {
        "size_matched": True,
        "base": "yolov8n",
        "width": 0.5,
        "match_for": match_for,
        "yaml": {},
    }
    (folder / "comparison.json").write_text(json.dumps(record))


def write_comparison(
    folder, levels, seeds=(0, 1, 2), epochs=6, images=12, classes=("RBC", "WBC"), baseline=None, **more
):
    """Write the folder of a finished comparison, as `compare` does; return it.

    Args:
        folder: Folder to write to.
        levels: Dictionary from model name to the mAP50-95 around which the values of its seeds lie.
        more: Keys of `comparison.json` to override.
    """
    labels, rng = list(levels), np.random.default_rng(0)
    models = {
        label: {"given": label, "digest": label, "parameters": 10**6 * (i + 1), "gflops": 2.0 + i, "size": 10**7,
                "size_matched": False}
        for i, label in enumerate(labels)
    }  # fmt: skip
    truth = [[0, 0.3, 0.4, 0.2, 0.3], [1, 0.7, 0.6, 0.25, 0.2]]
    record = {
        "format": 2, "name": folder.name, "baseline": baseline or labels[0], "match": None,
        "data": {"name": "made-up.yaml", "classes": list(classes), "images": {"train": 30, "val": images},
                 "split": "val", "digest": "0"},
        "train": {"epochs": epochs, "imgsz": 64, "batch": 8}, "models": models,
        "seeds": {label: list(seeds) for label in labels},
        "samples": [{"name": f"{i}.jpg", "truth": truth} for i in range(2)],
    }  # fmt: skip
    record.update(more)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(record))
    _write_samples(folder, rng)
    for label, level in levels.items():
        for seed in record["seeds"][label]:
            _write_run(folder / "runs" / label / str(seed), label, seed, level, record, rng)
    return folder


def _write_samples(folder, rng):
    import cv2

    (folder / "samples").mkdir(exist_ok=True)
    for number in range(2):
        image = cv2.GaussianBlur(rng.integers(90, 255, (90, 120, 3)).astype(np.uint8), (0, 0), 9)
        cv2.imwrite(str(folder / "samples" / f"{number}.jpg"), image)


def _write_run(folder, label, seed, level, record, rng):
    folder.mkdir(parents=True)
    epochs, classes = record["train"]["epochs"], record["data"]["classes"]
    level += 0.004 * seed + rng.normal(0, 0.001)
    lines = [HEADER]
    for epoch in range(1, epochs + 1):
        part = 1 - np.exp(-3 * epoch / epochs)
        maps = [min(1, level * factor) * part for factor in (1.4, 1.3, 1.6, 1.0)]
        losses = rng.normal(1 + 2 * (1 - part), 0.02, 6)
        row = [epoch, 2.0 * epoch, *losses[:3], *maps, *losses[3:], 0.01]
        lines.append(",".join(f"{value:.6g}" for value in row))
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    p, r, ap50, ap = maps
    figures = {"P": p, "R": r, "F1": 2 * p * r / (p + r), "mAP50": ap50, "mAP50-95": ap}
    write_counts(folder / "images.npz", record["data"]["images"]["val"], len(classes), level, rng)
    boxes = [[0, 0.91, 0.3, 0.4, 0.2, 0.3], [1, 0.42, 0.68, 0.6, 0.25, 0.22]]
    (folder / "samples.json").write_text(json.dumps([boxes, boxes[:1]]))
    run = {
        "model": label, "seed": seed, "command": f"yolo train model={label}.yaml data=made-up.yaml seed={seed}",
        "settings": record["train"], "status": "finished", "notes": [],
        "metrics": {"split": "val", "images": record["data"]["images"]["val"], **figures,
                    "classes": {name: {**figures, "objects": 20} for name in classes}, "checkpoint_bytes": 10**6},
        "train_seconds": 100.0 + seed, "wall_seconds": 110.0, "evaluate_seconds": 3.0,
        "attempts": [{"began": "2026-01-01T00:00:00+0000", "from": {"kind": "fresh", "epoch": None, "reason": None}}],
        "peak_memory": 10**9,
        "machine": {"processor": "a processor", "cores": 2, "threads": 1, "gpus": [], "system": "Linux x86_64"},
        "versions": {"python": "3.11", "ultralytics": "8.4", "torch": "2.15", "yolo_lite": "0.1"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))


def write_counts(path, images, classes, level, rng):
    """Write per-image counts as a validator does, for detections whose confidence correlates with their correctness."""
    from yolo_lite.compare.evaluate import write_images

    lists = {"tp": [], "conf": [], "pred_cls": [], "target_cls": []}
    for _ in range(images):
        objects = rng.integers(0, classes, rng.integers(1, 6))
        found = rng.integers(0, classes, len(objects) + rng.integers(0, 6))
        quality = rng.uniform(0, 0.5, len(found))
        hit = min(len(objects), len(found))
        found[:hit] = objects[:hit]
        quality[:hit] += level
        lists["tp"].append(quality[:, None] > np.linspace(0.3, 1.1, 10))
        lists["conf"].append(np.clip(quality + rng.normal(0, 0.1, len(found)), 0.001, 1))
        lists["pred_cls"].append(found.astype(float))
        lists["target_cls"].append(objects.astype(float))
    write_images(path, [f"{i}.jpg" for i in range(images)], lists)
