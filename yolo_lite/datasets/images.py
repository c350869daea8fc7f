"""The training images of any dataset: their files, and as a model takes them; nothing is downloaded."""

import itertools
import random
from collections.abc import Iterator
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
    from ultralytics.data.utils import IMG_FORMATS

    split = check_data(data)["train"]  # Ultralytics has looked whether `val` is there, no more
    files: list[Path] = []
    for place in map(Path, split if isinstance(split, list) else [split] if split else []):
        if place.is_dir():
            files += place.rglob("*.*")
        elif not place.is_file():
            raise ConfigError(f"data={data}: its training split {place} does not exist")
        else:  # a list of files; as for Ultralytics, those that begin with ./ lie beside it
            lines = place.read_text("utf-8-sig").splitlines()
            files += [place.parent / line if line.startswith("./") else Path(line) for line in lines]
    files = sorted(file for file in files if file.suffix[1:].lower() in IMG_FORMATS)
    if not files:
        raise ConfigError(f"data={data}: no images in its training split {split}")
    return files


def training_images(data: str | Path, imgsz: int, count: int) -> "Iterator[NDArray[np.float32]]":
    """Yield training images as a model takes them.

    Args:
        data: The dataset's YAML.
        imgsz: Height and width, pixels.
        count: At most so many, drawn at random with a fixed seed.

    Yields:
        (np.ndarray): (1, 3, imgsz, imgsz), RGB, float32, 0 to 1.

    Raises:
        ConfigError: There are none that can be read.
    """
    import cv2
    import numpy as np
    from ultralytics.data.augment import LetterBox

    files = training_files(data)
    random.Random(0).shuffle(files)
    box = LetterBox((imgsz, imgsz), auto=False)
    readable = (image for image in map(cv2.imread, map(str, files)) if image is not None)  # as in training
    first = next(readable, None)
    if first is None:
        raise ConfigError(f"data={data}: none of its {len(files)} training images can be read")
    for image in itertools.islice(itertools.chain([first], readable), count):
        image = box(image=image)[..., ::-1]
        yield np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
