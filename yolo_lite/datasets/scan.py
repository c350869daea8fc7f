"""The dataset of a comparison: found, scanned once, and known by its content, wherever it lies."""

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

SAMPLES = 4  # images on which the report shows every model's detections
SAMPLE_SIZE = 480  # pixels, their longer side in the report


@dataclass(frozen=True)
class Sample:
    """An image on which the report shows detections.

    Attributes:
        name: Its file's name.
        truth: The labelled objects: class, x, y, width, height, relative to the image.
        file: Where it lies on this machine; never written down.
    """

    name: str
    truth: Sequence[Sequence[float]]
    file: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return what is written down."""
        return {"name": self.name, "truth": [list(box) for box in self.truth]}


@dataclass(frozen=True)
class Content:
    """What a dataset is, wherever it lies.

    Attributes:
        name: Its YAML file's name.
        classes: Their names.
        images: How many, by split.
        split: The split of the final figures.
        digest: Of names and labels.
        sizes: Digest of the image files' sizes; None in comparisons that were begun before it was recorded.
    """

    name: str
    classes: Sequence[str]
    images: Mapping[str, int]
    split: str
    digest: str
    sizes: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = asdict(self) | {"classes": list(self.classes)}
        return found if self.sizes is not None else {key: each for key, each in found.items() if key != "sizes"}


@dataclass(frozen=True)
class Dataset:
    """A dataset as a comparison needs it: its YAML file, what it is, and the sample images."""

    path: str
    content: Content
    samples: Sequence[Sample]

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it, as plain data."""
        return self.content.to_plain()


def load(data: str | Path, split: str) -> Dataset:
    """Find and scan a dataset, with Ultralytics' own functions; label caches are then ready for all runs.

    Args:
        data: What the user gave as `data`.
        split: The split of the final figures.

    Raises:
        ConfigError: It is missing, has no such split, or labels that cannot be used.
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
    """Return what Ultralytics makes of a dataset's YAML file."""
    importlib.import_module("ultralytics.nn.tasks")  # first, so that our modules are registered before others import it
    from ultralytics.data.utils import check_det_dataset

    try:
        with errors_only():
            found: dict[str, Any] = check_det_dataset(data)
    except Exception as error:
        raise ConfigError(f"data={data}: {one_line(error)}") from None
    return found


def _labels(data: str | Path, found: dict[str, Any], split: str) -> list[dict[str, Any]]:
    """Return a split's labels as Ultralytics reads them, by the images' names."""
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
    """An image's objects, (n, 5): class, x, y, width, height, relative to the image."""
    return np.concatenate([label["cls"], label["bboxes"]], 1)


def _samples(labels: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Choose images evenly over the split, by name, leaving out those without objects where that is possible."""
    labels = [label for label in labels if len(label["cls"])] or labels
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(SAMPLES, len(labels))).round().astype(int))
    return [
        Sample(Path(label["im_file"]).name, _objects(label).round(4).tolist(), label["im_file"])
        for label in (labels[index] for index in chosen)
    ]


def write_samples(samples: Iterable[Sample], folder: Path) -> None:
    """Write small copies of the sample images, `<folder>/<number>.jpg`, where they are not there yet."""
    import cv2

    for number, sample in enumerate(samples):
        place = folder / f"{number}.jpg"
        image = None if place.exists() else cv2.imread(sample.file)
        if image is not None:  # a kind that Ultralytics reads otherwise is left out
            factor = min(1.0, SAMPLE_SIZE / max(image.shape[:2]))
            small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            _, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
            write(place, content.tobytes())
