"""The dataset of a comparison: found, scanned once, and known by its content, wherever it lies."""

import hashlib
import importlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yolo_lite.errors import ConfigError, one_line, suggest
from yolo_lite.files import write
from yolo_lite.output import errors_only

SAMPLES = 4  # images on which the report shows every model's detections
SAMPLE_SIZE = 480  # pixels, their longer side in the report


class Dataset(NamedTuple):
    """A dataset as the comparison needs it."""

    path: str  # the YAML file
    record: dict  # what is written down: name, classes, images per split, digest; no path
    samples: list  # of {"name", "file", "truth": [[class, x, y, width, height], ...]}, relative to the image


def load(data, split):
    """Find and scan a dataset, with Ultralytics' own functions; label caches are then ready for all runs.

    Args:
        data: What the user gave as `data`.
        split: The split of the final figures.

    Raises:
        ConfigError: It is missing, has no such split, or labels that cannot be used.
    """
    importlib.import_module("ultralytics.nn.tasks")  # first, so that our modules are registered before others import it
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    try:
        with errors_only():
            found = check_det_dataset(data)
    except Exception as error:
        raise ConfigError(f"data={data}: {one_line(error)}") from None
    splits = [each for each in ("train", "val", "test") if found.get(each)]
    if split not in splits:
        raise ConfigError(f"split={split}: {data} has no such images{suggest(split, splits)}")
    sizes = hashlib.sha256()
    images, digest, scanned = {}, hashlib.sha256(repr(sorted(found["names"].items())).encode()), None
    for each in dict.fromkeys(("train", "val", split)):
        try:
            with errors_only():
                part = build_yolo_dataset(get_cfg(overrides={"task": "detect"}), found[each], 1, found, mode="val")
        except Exception as error:
            raise ConfigError(f"data={data}: its {each} images cannot be used: {one_line(error)}") from None
        images[each] = len(part.im_files)
        for label in sorted(part.labels, key=lambda label: Path(label["im_file"]).name):
            sizes.update(repr((Path(label["im_file"]).name, Path(label["im_file"]).stat().st_size)).encode())
            digest.update(Path(label["im_file"]).name.encode())
            digest.update(np.ascontiguousarray(np.concatenate([label["cls"], label["bboxes"]], 1), "<f4").tobytes())
        scanned = part if each == split else scanned
    record = {
        "name": Path(found["yaml_file"]).name,
        "classes": list(found["names"].values()),
        "images": images,
        "split": split,
        "digest": digest.hexdigest()[:16],
        "sizes": sizes.hexdigest()[:16],
    }
    return Dataset(str(Path(found["yaml_file"]).resolve()), record, _samples(scanned))


def _samples(part):
    """Choose images evenly over the split, by name, leaving out those without objects where that is possible."""
    labels = sorted(part.labels, key=lambda label: Path(label["im_file"]).name)
    labels = [label for label in labels if len(label["cls"])] or labels
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(SAMPLES, len(labels))).round().astype(int))
    return [
        {
            "name": Path(labels[index]["im_file"]).name,
            "file": labels[index]["im_file"],
            "truth": np.concatenate([labels[index]["cls"], labels[index]["bboxes"]], 1).round(4).tolist(),
        }
        for index in chosen
    ]


def write_samples(samples, folder):
    """Write small copies of the sample images, `<folder>/<number>.jpg`, where they are not there yet."""
    import cv2

    for number, sample in enumerate(samples):
        place = folder / f"{number}.jpg"
        image = None if place.exists() else cv2.imread(sample["file"])
        if image is not None:  # a kind that the host reads otherwise is left out
            factor = min(1.0, SAMPLE_SIZE / max(image.shape[:2]))
            small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            _, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
            write(place, content.tobytes())
