"""Training images of any dataset, as files and as model inputs; nothing is downloaded."""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.errors import ConfigError, typed_line
from yolo_lite.output import silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_data(data: str | Path) -> dict[str, Any]:
    """Return Ultralytics' description of a dataset that exists locally.

    Raises:
        ConfigError: The dataset cannot be read, or its images are missing.
    """
    from ultralytics.data.utils import check_det_dataset

    try:
        with silent():
            return dict(check_det_dataset(str(data), autodownload=False))
    except Exception as error:
        raise ConfigError(f"data={data} cannot be read as a dataset: {typed_line(error)}") from None


def training_files(data: str | Path) -> list[Path]:
    """Return the files of a dataset's training images, sorted.

    Raises:
        ConfigError: The dataset cannot be read, it has no training images, or a part of the split is missing.
    """
    split = check_data(data)["train"]  # Ultralytics has only checked that `val` exists
    return files_of(split, f"data={data}")


def files_of(split: str | list[str] | None, where: str) -> list[Path]:
    """Return the image files of a split, sorted.

    Args:
        split: Folders, or files that list images, from Ultralytics' description of a dataset.
        where: Prefix of error messages.

    Raises:
        ConfigError: The split has no images, or a part of it is missing.
    """
    from ultralytics.data.utils import IMG_FORMATS

    files: list[Path] = []
    for place in map(Path, split if isinstance(split, list) else [split] if split else []):
        if place.is_dir():
            files += place.rglob("*.*")
        elif not place.is_file():
            raise ConfigError(f"{where}: its training split {place} does not exist")
        else:  # a list of files; as in Ultralytics, those that start with ./ are relative to its folder
            lines = place.read_text("utf-8-sig").splitlines()
            files += [place.parent / line if line.startswith("./") else Path(line) for line in lines]
    files = sorted(file for file in files if file.suffix[1:].lower() in IMG_FORMATS)
    if not files:
        raise ConfigError(f"{where}: no images in its training split {split}")
    return files


def letterboxed(
    files: Sequence[Path], imgsz: int, count: int, where: str, channels: int = 3, seed: int = 0
) -> "Iterator[NDArray[np.uint8]]":
    """Yield letterboxed images in random order; files that cannot be read are skipped, as in training.

    Args:
        files: Image files to sample from.
        imgsz: Height and width of the letterboxed images, pixels.
        count: Maximum number of images.
        where: Prefix of error messages.
        channels: Number of channels; 1 is greyscale, 3 is colour, other images keep the channels of their file.
        seed: Seed of the random order.

    Yields:
        (np.ndarray): (C, imgsz, imgsz), uint8, RGB for 3 channels.

    Raises:
        ConfigError: No file can be read.
    """
    import cv2
    import numpy as np
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.patches import imread

    drawn = list(files)
    random.Random(seed).shuffle(drawn)
    flags = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)
    box = LetterBox((imgsz, imgsz), auto=False)
    readable = (image for image in (imread(str(file), flags) for file in drawn) if image is not None)
    first = next(readable, None)
    if first is None:
        raise ConfigError(f"{where}: none of its {len(files)} training images can be read")
    for image in itertools.islice(itertools.chain([first], readable), count):
        image = box(image=image)
        image = image[..., None] if image.ndim == 2 else image[..., ::-1] if channels == 3 else image
        yield np.ascontiguousarray(image.transpose(2, 0, 1))


def training_images(data: str | Path, imgsz: int, count: int) -> "Iterator[NDArray[np.float32]]":
    """Yield training images as inputs of an exported model.

    Args:
        data: Dataset YAML.
        imgsz: Height and width of the images, pixels.
        count: Maximum number of images, sampled with a fixed seed.

    Yields:
        (np.ndarray): (1, 3, imgsz, imgsz), RGB, float32, 0 to 1.

    Raises:
        ConfigError: The dataset or all of its training images cannot be read.
    """
    import numpy as np

    for image in letterboxed(training_files(data), imgsz, count, f"data={data}"):
        yield image[None].astype(np.float32) / np.float32(255)
