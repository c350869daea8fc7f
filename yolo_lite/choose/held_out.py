"""Seeded split of the training images into a training and a held-out part that keeps near-duplicates together."""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from yolo_lite.datasets import scan
from yolo_lite.datasets.images import check_data, training_files
from yolo_lite.errors import ConfigError
from yolo_lite.files import write

PART = 0.2
NEAR = 4  # images whose 64-bit hashes differ in at most this many bits are near-duplicates


def hashes(files: Sequence[Path]) -> "np.ndarray":
    """Return a difference hash of each image, (N, 64) bits; all unreadable images get the same hash."""
    import cv2

    found = np.zeros((len(files), 64), bool)
    for number, file in enumerate(files):
        content = np.fromfile(str(file), np.uint8) if file.is_file() else np.empty(0, np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if content.size else None
        if image is not None:
            small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA)
            found[number] = (small[:, 1:] > small[:, :-1]).flatten()
    return found


def groups(bits: "np.ndarray") -> list[list[int]]:
    """Group near-duplicate images, directly or via others; return the indices of each group."""
    leader = list(range(len(bits)))

    def of(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    values = bits.astype(np.int16)
    for number in range(1, len(bits)):
        for other in np.flatnonzero(np.abs(values[:number] - values[number]).sum(1) <= NEAR):
            leader[of(number)] = of(int(other))
    found: dict[int, list[int]] = {}
    for number in range(len(bits)):
        found.setdefault(of(number), []).append(number)
    return list(found.values())


def split(files: Sequence[Path], seed: int = 0) -> tuple[list[Path], list[Path]]:
    """Split training images into those to train on and those held out.

    Args:
        files: Paths of the training images.
        seed: Random seed of the split.

    Raises:
        ConfigError: There are too few images, or all are near-duplicates.
    """
    together = groups(hashes(files))
    random.Random(seed).shuffle(together)
    wanted = max(round(PART * len(files)), 1)
    held: list[int] = []
    for group in together:
        if len(held) + len(group) <= wanted:
            held += group
    held = held or min(together, key=len)
    kept = sorted(set(range(len(files))).difference(held))
    if not kept:
        raise ConfigError(f"its {len(files)} training images are too few, or too similar, to hold some of them out")
    return [files[number] for number in kept], [files[number] for number in sorted(held)]


def dataset(data: str, folder: Path, seed: int = 0) -> Path:
    """Return the YAML of a dataset of the training images alone, with a held-out part as `val`; write it if needed.

    Its images are links to those of the dataset and its labels are copies, so that the two parts and the dataset itself
    do not replace one another's label caches. It is written again if the dataset or the folder has moved.

    Args:
        data: Path of the YAML of the whole dataset.
        folder: Folder to write the dataset to.
        seed: Random seed of the split.

    Raises:
        ConfigError: There are too few images, or all are near-duplicates.
    """
    whole, known = check_data(data), folder / "data.yaml"
    files = training_files(data)
    here = {"path": str(folder.absolute()), "from": str(files[0].absolute())}
    content = yaml.safe_load(known.read_text("utf-8")) if known.exists() else {}
    if {key: content.get(key) for key in here} != here:
        for name, part in zip(("train", "val"), split(files, seed), strict=True):
            _write_part(part, folder / "images" / name, folder / "labels" / name)
        content = {**here, "train": "images/train", "val": "images/val"}
        content |= {key: whole[key] for key in ("names", "channels") if key in whole}
        write(known, yaml.safe_dump(content, sort_keys=False))
    scan.load(known, "val")  # creates the label caches, which several runs would otherwise write at the same time
    return known


def _write_part(files: Sequence[Path], images: Path, labels: Path) -> None:
    """Write links to images, and copies of their labels, to two folders, which are emptied first."""
    for place in (images, labels):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    for number, file in enumerate(files):
        one, label = images / f"{number:06}{file.suffix}", labels_of(file)
        if file.is_file():
            _link(file.absolute(), one)
        if label.is_file():
            shutil.copyfile(label, labels / f"{one.stem}.txt")


def labels_of(image: Path) -> Path:
    """Return the path where Ultralytics looks for an image's labels."""
    from ultralytics.data.utils import img2label_paths

    return Path(img2label_paths([str(image)])[0])


def _link(file: Path, link: Path) -> None:
    """Link to a file, or copy it where links are not possible."""
    try:
        link.symlink_to(file)
    except OSError:  # Windows without the privilege, or a file system without links
        shutil.copyfile(file, link)
