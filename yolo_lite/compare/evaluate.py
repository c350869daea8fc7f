"""The final figures of a run: its last checkpoint, by the host's own validator, and what the report needs besides."""

import json
import tempfile
from pathlib import Path

import numpy as np

SHOWN = 0.25  # confidence from which detections are shown on the sample images
PASSED_ON = (  # from the training
    *("imgsz", "batch", "workers", "device", "classes", "single_cls"),
    *("conf", "iou", "max_det", "agnostic_nms", "nms"),
)


def evaluate(folder, job):
    """Evaluate `weights/last.pt`, the weights of the last epoch.

    Writes `images.npz`, what the validator counted in each image, and `samples.json`, detections on the sample images.

    Returns:
        (dict): Images, P, R, F1, mAP50 and mAP50-95 over all classes, the same per class, and the checkpoint's bytes.
    """
    from ultralytics import YOLO

    last = folder / "weights" / "last.pt"
    model = YOLO(last)
    seen = {}

    def remember(validator):
        seen.update(stats=validator.metrics.stats, files=validator.dataloader.dataset.im_files)
        seen["lists"] = {key: list(seen["stats"][key]) for key in ("tp", "conf", "pred_cls", "target_cls")}

    model.add_callback("on_val_batch_end", remember)
    settings = {key: job["settings"][key] for key in PASSED_ON if key in job["settings"]}
    with tempfile.TemporaryDirectory() as elsewhere:  # the host makes a folder, and leaves it empty
        results = model.val(
            data=job["data"], split=job["split"], plots=False, project=elsewhere, name="val", verbose=False, **settings
        )
    write_images(folder / "images.npz", seen["files"], seen["lists"])
    _write_samples(folder / "samples.json", YOLO(last), job, settings)
    box, names = results.box, results.names
    counts = np.bincount(np.concatenate(seen["lists"]["target_cls"]).astype(int), minlength=len(names))
    classes = {
        names[index]: {**_figures(box.p[i], box.r[i], box.ap50[i], box.ap[i]), "objects": int(counts[index])}
        for i, index in enumerate(box.ap_class_index)
    }
    return {
        "split": job["split"],
        "images": len(seen["files"]),
        **_figures(box.mp, box.mr, box.map50, box.map),
        "classes": classes,
        "checkpoint_bytes": last.stat().st_size,
    }


def _figures(p, r, ap50, ap):
    figures = {"P": p, "R": r, "F1": f1(p, r), "mAP50": ap50, "mAP50-95": ap}
    return {key: round(float(value), 6) for key, value in figures.items()}


def f1(p, r):
    """Return the harmonic mean of precision and recall."""
    return 2 * p * r / (p + r) if p + r > 0 else 0.0


def write_images(path, files, lists):
    """Write what the validator counted, image by image, in few bytes.

    Args:
        path: The `.npz` file.
        files: The images' paths, in the validator's order.
        lists: Per image: `tp`, whether a detection is right at each of the 10 IoU thresholds, (n, 10); `conf` and
            `pred_cls`, (n,); `target_cls`, the classes of the labelled objects.
    """
    order = sorted(range(len(files)), key=lambda index: Path(files[index]).name)
    right = np.concatenate([np.reshape(lists["tp"][i], (-1, 10)) for i in order]).astype(np.uint16)
    np.savez_compressed(
        path,
        names=np.array([Path(files[i]).name for i in order]),
        right=right @ (1 << np.arange(10, dtype=np.uint16)),  # one bit per IoU threshold
        confidence=np.concatenate([lists["conf"][i] for i in order]).astype(np.float16),
        predicted=np.concatenate([lists["pred_cls"][i] for i in order]).astype(np.uint16),
        detections=np.array([len(lists["conf"][i]) for i in order], np.uint16),
        objects=np.concatenate([lists["target_cls"][i] for i in order]).astype(np.uint16),
        labelled=np.array([len(lists["target_cls"][i]) for i in order], np.uint16),
    )


def _write_samples(path, model, job, settings):
    settings = {key: value for key, value in settings.items() if key not in {"batch", "conf", "single_cls"}}
    found = []
    for result in model.predict(job["samples"], conf=SHOWN, verbose=False, save=False, stream=True, **settings):
        boxes = zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), result.boxes.xywhn.tolist(), strict=True)
        found.append([[int(c), round(p, 3), *(round(v, 4) for v in box)] for c, p, box in boxes])
    path.write_text(json.dumps(found), "utf-8")
