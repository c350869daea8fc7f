"""Final metrics of a run's last checkpoint, by Ultralytics' own validator, and the other data that the report needs."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_lite.compare.process import Job
from yolo_lite.compare.record import Evaluation
from yolo_lite.files import replacing, write_json

SHOWN = 0.25  # minimum confidence of the detections shown on the sample images
PASSED_ON = (  # training arguments that also apply to the evaluation
    *("imgsz", "batch", "workers", "device", "classes", "single_cls"),
    *("conf", "iou", "max_det", "agnostic_nms", "nms"),
)


def evaluate(job: Job) -> Evaluation:
    """Evaluate `weights/last.pt`, the weights of the last epoch.

    Writes `images.npz`, per-image counts of the validator, and `samples.json`, detections on the sample images.
    """
    from ultralytics import YOLO

    folder = Path(job.folder)
    last = folder / "weights" / "last.pt"
    settings = {key: job.settings[key] for key in PASSED_ON if key in job.settings}
    results, files, lists = _validated(YOLO(last), job, settings)
    write_images(folder / "images.npz", files, lists)
    write_json(folder / "samples.json", _detections(YOLO(last), job, settings) if job.samples else [])
    box, names = results.box, results.names
    counts = np.bincount(np.concatenate(lists["target_cls"]).astype(int), minlength=len(names))
    return Evaluation(
        split=job.split,
        images=len(files),
        figures=_figures(box.mp, box.mr, box.map50, box.map),
        classes={
            names[index]: {**_figures(box.p[i], box.r[i], box.ap50[i], box.ap[i]), "objects": int(counts[index])}
            for i, index in enumerate(box.ap_class_index)
        },
        checkpoint_bytes=last.stat().st_size,
    )


def _validated(model: Any, job: Job, settings: Mapping[str, Any]) -> tuple[Any, list[str], dict[str, list[Any]]]:
    """Run Ultralytics' validation; return its results, the image files, and its counts for each image."""
    files: list[str] = []
    lists: dict[str, list[Any]] = {}

    def remember(validator: Any) -> None:
        files[:] = validator.dataloader.dataset.im_files
        lists.update({key: list(validator.metrics.stats[key]) for key in ("tp", "conf", "pred_cls", "target_cls")})

    model.add_callback("on_val_batch_end", remember)
    with tempfile.TemporaryDirectory() as elsewhere:  # Ultralytics creates a folder and leaves it empty
        results = model.val(
            data=job.data, split=job.split, plots=False, project=elsewhere, name="val", verbose=False, **settings
        )
    return results, files, lists


def _figures(p: float, r: float, ap50: float, ap: float) -> dict[str, float]:
    figures = {"P": p, "R": r, "F1": f1(p, r), "mAP50": ap50, "mAP50-95": ap}
    return {key: round(float(value), 6) for key, value in figures.items()}


def f1(p: float, r: float) -> float:
    """Return the harmonic mean of precision and recall."""
    return 2 * p * r / (p + r) if p + r > 0 else 0.0


def write_images(path: Path, files: Sequence[str], lists: Mapping[str, Sequence[Any]]) -> None:
    """Write the validator's counts for each image, in a compact form.

    Args:
        path: Path of the `.npz` file.
        files: Paths of the images, in the validator's order.
        lists: Per image: `tp`, whether a detection is correct at each of the 10 IoU thresholds, (n, 10); `conf` and
            `pred_cls`, (n,); `target_cls`, the classes of the labelled objects.
    """
    order = sorted(range(len(files)), key=lambda index: Path(files[index]).name)
    right = np.concatenate([np.reshape(lists["tp"][i], (-1, 10)) for i in order]).astype(np.uint16)
    with replacing(path) as draft:
        np.savez_compressed(
            draft,
            names=np.array([Path(files[i]).name for i in order]),
            right=right @ (1 << np.arange(10, dtype=np.uint16)),  # one bit per IoU threshold
            confidence=np.concatenate([lists["conf"][i] for i in order]).astype(np.float16),
            predicted=np.concatenate([lists["pred_cls"][i] for i in order]).astype(np.uint16),
            detections=np.array([len(lists["conf"][i]) for i in order], np.uint16),
            objects=np.concatenate([lists["target_cls"][i] for i in order]).astype(np.uint16),
            labelled=np.array([len(lists["target_cls"][i]) for i in order], np.uint16),
        )


def _detections(model: Any, job: Job, settings: Mapping[str, Any]) -> list[list[list[float]]]:
    """Return the detections on each sample image: class, confidence, x, y, width, height, relative to the image."""
    settings = {key: value for key, value in settings.items() if key not in {"batch", "conf", "single_cls"}}
    found = []
    for result in model.predict(list(job.samples), conf=SHOWN, verbose=False, save=False, stream=True, **settings):
        boxes = zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), result.boxes.xywhn.tolist(), strict=True)
        found.append([[int(c), round(p, 3), *(round(v, 4) for v in box)] for c, p, box in boxes])
    return found
