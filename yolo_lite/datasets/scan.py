"""Find and scan the dataset of a comparison, and identify it by a digest of its content, independent of its path."""

import hashlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_lite.errors import ConfigError, one_line, suggest
from yolo_lite.files import write
from yolo_lite.output import errors_only

SAMPLES = 4  # number of images on which the report shows the detections of every model
SAMPLE_SIZE = 480  # maximum length of the longer side of a sample image in the report, pixels


@dataclass(frozen=True)
class Sample:
    """Image on which the report shows detections.

    Attributes:
        name: Name of the image file.
        truth: Labelled objects: class, x, y, width, height, relative to the image size.
        file: Path of the image on this machine; never saved.
    """

    name: str
    truth: Sequence[Sequence[float]]
    file: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return the fields to save, as plain data."""
        return {"name": self.name, "truth": [list(box) for box in self.truth]}


@dataclass(frozen=True)
class Content:
    """Content of a dataset, independent of its path.

    Attributes:
        name: Name of the YAML file.
        classes: Names of the classes.
        images: Number of images by split.
        split: Split for the final metrics.
        digest: Digest of class names, image file names and labels.
        sizes: Digest of the image files' names and sizes; None in old comparisons, which did not record it.
    """

    name: str
    classes: Sequence[str]
    images: Mapping[str, int]
    split: str
    digest: str
    sizes: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return the content as plain data."""
        found = asdict(self) | {"classes": list(self.classes)}
        return found if self.sizes is not None else {key: each for key, each in found.items() if key != "sizes"}


@dataclass(frozen=True)
class Dataset:
    """Dataset of a comparison: path of the YAML file, content, and sample images."""

    path: str
    content: Content
    samples: Sequence[Sample]

    @property
    def record(self) -> dict[str, Any]:
        """Return the part to save, as plain data."""
        return self.content.to_plain()


def load(data: str | Path, split: str) -> Dataset:
    """Find and scan a dataset with Ultralytics' own functions, which also creates the label caches for all runs.

    Args:
        data: Dataset as given by the user.
        split: Split for the final metrics.

    Raises:
        ConfigError: The dataset is missing, lacks the split, or its images or labels cannot be used.
    """
    found = _find(data)
    splits = [each for each in ("train", "val", "test") if found.get(each)]
    if split not in splits:
        raise ConfigError(f"split={split}: {data} has no such images{suggest(split, splits)}")
    sizes, digest = hashlib.sha256(), hashlib.sha256(repr(sorted(found["names"].items())).encode())
    labels = {each: _labels(data, found, each) for each in dict.fromkeys(("train", "val", split))}
    for label in (label for part in labels.values() for label in part):
        file = Path(label["im_file"])
        sizes.update(repr((file.name, file.stat().st_size)).encode())
        digest.update(file.name.encode())
        digest.update(np.ascontiguousarray(_objects(label), "<f4").tobytes())
    content = Content(
        name=Path(found["yaml_file"]).name,
        classes=list(found["names"].values()),
        images={each: len(part) for each, part in labels.items()},
        split=split,
        digest=digest.hexdigest()[:16],
        sizes=sizes.hexdigest()[:16],
    )
    return Dataset(str(Path(found["yaml_file"]).resolve()), content, _samples(labels[split]))


def _find(data: str | Path) -> dict[str, Any]:
    """Return Ultralytics' description of a dataset."""
    importlib.import_module("ultralytics.nn.tasks")  # first, so that our modules are registered before others import it
    from ultralytics.data.utils import check_det_dataset

    try:
        with errors_only():
            found: dict[str, Any] = check_det_dataset(data)
    except Exception as error:
        raise ConfigError(f"data={data}: {one_line(error)}") from None
    return found


def _labels(data: str | Path, found: dict[str, Any], split: str) -> list[dict[str, Any]]:
    """Return a split's labels as Ultralytics reads them, sorted by image name."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset

    try:
        with errors_only():
            cfg: Any = get_cfg(overrides={"task": "detect"})
            part: Any = build_yolo_dataset(cfg, found[split], 1, found, mode="val")
    except Exception as error:
        raise ConfigError(f"data={data}: its {split} images cannot be used: {one_line(error)}") from None
    return sorted(part.labels, key=lambda label: Path(label["im_file"]).name)


def _objects(label: Mapping[str, Any]) -> Any:
    """Return the objects of an image, (n, 5): class, x, y, width, height, relative to the image size."""
    return np.concatenate([label["cls"], label["bboxes"]], 1)


def _samples(labels: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Select sample images evenly from the split, sorted by name; only images with objects, unless there are none."""
    labels = [label for label in labels if len(label["cls"])] or labels
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(SAMPLES, len(labels))).round().astype(int))
    return [
        Sample(Path(label["im_file"]).name, _objects(label).round(4).tolist(), label["im_file"])
        for label in (labels[index] for index in chosen)
    ]


def write_samples(samples: Iterable[Sample], folder: Path) -> None:
    """Write reduced copies of the sample images, `<folder>/<number>.jpg`, unless they exist."""
    import cv2

    for number, sample in enumerate(samples):
        place = folder / f"{number}.jpg"
        image = None if place.exists() else cv2.imread(sample.file)
        if image is not None:  # image formats that OpenCV cannot read are skipped
            factor = min(1.0, SAMPLE_SIZE / max(image.shape[:2]))
            small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            _, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
            write(place, content.tobytes())
