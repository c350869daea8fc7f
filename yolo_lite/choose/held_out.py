"""Seeded split of the training images into a training and a held-out part that keeps near-duplicates together."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from yolo_lite.errors import ConfigError
from yolo_lite.files import write

PART = 0.2
NEAR = 4  # images whose 64-bit hashes differ in at most this many bits are near-duplicates


def hashes(files: Sequence[Path]) -> "np.ndarray":
    """Return a difference hash of each image, (N, 64) bits; all unreadable images get the same hash."""
    import cv2

    found = np.zeros((len(files), 64), bool)
    for number, file in enumerate(files):
        image = cv2.imdecode(np.fromfile(str(file), np.uint8), cv2.IMREAD_GRAYSCALE) if file.stat().st_size else None
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
        if len(held) + len(group) <= wanted or not held:
            held += group
        if len(held) >= wanted:
            break
    kept = sorted(set(range(len(files))).difference(held))
    if not kept:
        raise ConfigError(f"its {len(files)} training images are too few, or too similar, to hold some of them out")
    return [files[number] for number in kept], [files[number] for number in sorted(held)]


def write_dataset(data: dict[str, object], files: Sequence[Path], folder: Path, seed: int = 0) -> Path:
    """Write a dataset of the training images alone, with a held-out part as `val`; return the path of its YAML.

    Args:
        data: Dataset dictionary as read by Ultralytics.
        files: Paths of the dataset's training images.
        folder: Folder to write the dataset to.
        seed: Random seed of the split.

    Raises:
        ConfigError: There are too few images, or all are near-duplicates.
    """
    kept, held = split(files, seed)
    for name, part in (("train", kept), ("val", held)):
        write(folder / f"{name}.txt", "".join(f"{file.absolute()}\n" for file in part))
    same: dict[str, object] = {key: data[key] for key in ("names", "channels") if key in data}
    content: dict[str, object] = {"path": str(folder.absolute()), "train": "train.txt", "val": "val.txt", **same}
    write(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False))
    return folder / "data.yaml"
