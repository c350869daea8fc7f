"""The training images of any dataset: their files, and as a model takes them; nothing is downloaded."""

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
    """Return a dataset's description as Ultralytics has it, if all of it is here.

    Raises:
        ConfigError: It cannot be read, or its images are not here.
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
        ConfigError: There are none, or a part of the split is missing.
    """
    split = check_data(data)["train"]  # Ultralytics has looked whether `val` is there, no more
    return files_of(split, f"data={data}")


def files_of(split: str | list[str] | None, where: str) -> list[Path]:
    """Return the image files of a split, sorted.

    Args:
        split: Folders, or files that list images, as Ultralytics describes a dataset.
        where: What errors begin with.

    Raises:
        ConfigError: There are none, or a part of the split is missing.
    """
    from ultralytics.data.utils import IMG_FORMATS

    files: list[Path] = []
    for place in map(Path, split if isinstance(split, list) else [split] if split else []):
        if place.is_dir():
            files += place.rglob("*.*")
        elif not place.is_file():
            raise ConfigError(f"{where}: its training split {place} does not exist")
        else:  # a list of files; as for Ultralytics, those that begin with ./ lie beside it
            lines = place.read_text("utf-8-sig").splitlines()
            files += [place.parent / line if line.startswith("./") else Path(line) for line in lines]
    files = sorted(file for file in files if file.suffix[1:].lower() in IMG_FORMATS)
    if not files:
        raise ConfigError(f"{where}: no images in its training split {split}")
    return files


def letterboxed(
    files: Sequence[Path], imgsz: int, count: int, where: str, channels: int = 3, seed: int = 0
) -> "Iterator[NDArray[np.uint8]]":
    """Yield images as a model sees them; those that cannot be read are left out, as in training.

    Args:
        files: Their files.
        imgsz: Height and width, pixels.
        count: At most so many, drawn at random.
        where: What errors begin with.
        channels: Of the images; 1 is grey, 3 is colour, others are as the files have them.
        seed: Of the draw.

    Yields:
        (np.ndarray): (C, imgsz, imgsz), RGB, uint8.

    Raises:
        ConfigError: There are none that can be read.
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
    """Yield training images as an exported model takes them.

    Args:
        data: The dataset's YAML.
        imgsz: Height and width, pixels.
        count: At most so many, drawn at random with a fixed seed.

    Yields:
        (np.ndarray): (1, 3, imgsz, imgsz), RGB, float32, 0 to 1.

    Raises:
        ConfigError: There are none that can be read.
    """
    import numpy as np

    for image in letterboxed(training_files(data), imgsz, count, f"data={data}"):
        yield image[None].astype(np.float32) / np.float32(255)
