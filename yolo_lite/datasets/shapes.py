"""Generated dataset `shapes`: circles, triangles, squares and stars, drawn identically on every machine.

Ultralytics runs `generate` through the `download:` key of `cfg/datasets/shapes.yaml` if the images are missing. Each
image is first generated as a list of `Shape`s, from which the labels of every task are derived; a new task needs only
another row in `LABELS`.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (SIZE, SIZE, 3), BGR
Numbers = NDArray[Any]

NAMES = ("circle", "triangle", "square", "star")
SIZE = 320  # width and height of the images, pixels
SPLITS = {"train": 512, "val": 128}  # number of images


@dataclass(frozen=True)
class Shape:
    """Object to draw.

    Attributes:
        cls: Class, an index in `NAMES`.
        outline: Corners of the outline, (corners, 2), pixels.
        colour: Fill colour: blue, green, red, 0 to 255.
    """

    cls: int
    outline: Numbers
    colour: tuple[int, int, int]


def generate(folder: str | Path, task: str = "detect", splits: Mapping[str, int] | None = None) -> None:
    """Draw the dataset in the layout that Ultralytics reads for a task; all tasks use the same drawings.

    The layout is image and label files, or for "classify" a folder per class with one cut-out shape per image. Splits
    are written atomically: each one is drawn in a temporary folder and renamed at the end. Existing splits are kept.

    Args:
        folder: Folder to write to.
        task: Key of `LABELS`, or "classify".
        splits: Number of images per split; None for `SPLITS`. Splits after the standard ones do not change those.
    """
    for number, (split, count) in enumerate((splits or SPLITS).items()):
        # images last, since their folder marks a complete split
        places = [Path(folder, split)] if task == "classify" else [Path(folder, k, split) for k in ("labels", "images")]
        if places[-1].exists():
            continue
        drafts = [place.with_name(f".{split}") for place in places]
        _remove(*drafts, *places)
        try:
            for draft in drafts:
                draft.mkdir(parents=True)
            for index in range(count):
                _write(task, drafts, index, *draw(np.random.default_rng((number, index))))
            for draft, place in zip(drafts, places, strict=True):
                draft.rename(place)
        except BaseException:
            _remove(*drafts)
            raise


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _write(task: str, folders: Sequence[Path], index: int, image: Image, shapes: Iterable[Shape]) -> None:
    """Write an image and its labels; the last of `folders` is that of the images."""
    if task == "classify":
        _cut_out(image, shapes, folders[-1], index)
        return
    labels, images = folders
    (labels / f"{index:04}.txt").write_text("".join(f"{LABELS[task](shape)}\n" for shape in shapes))
    _write_jpeg(images / f"{index:04}.jpg", image)


def _cut_out(image: Image, shapes: Iterable[Shape], folder: Path, index: int) -> None:
    """Write a crop of each shape's box with a margin, in which other shapes may be visible."""
    for number, shape in enumerate(shapes):
        place = folder / NAMES[shape.cls]
        place.mkdir(exist_ok=True)
        low, high = np.floor(shape.outline.min(0)).astype(int), np.ceil(shape.outline.max(0)).astype(int)
        margin = int(0.1 * max(high - low)) + 1
        (left, top), (right, bottom) = np.maximum(low - margin, 0), high + margin + 1
        _write_jpeg(place / f"{index:04}-{number}.jpg", image[top:bottom, left:right])


def _write_jpeg(path: Path, image: Image) -> None:
    path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())  # `cv2.imwrite` does not report a full disk


def draw(rng: np.random.Generator) -> tuple[Image, list[Shape]]:
    """Draw one image.

    Args:
        rng: Random generator that determines the image.

    Returns:
        (np.ndarray, list[Shape]): Image, BGR, (SIZE, SIZE, 3), uint8; shapes from back to front.
    """
    image = _background(rng)
    shapes: list[Shape] = []
    for _ in range(rng.integers(1, 8)):
        shape = _shape(rng)
        if all(_overlap(shape, other) < 0.3 for other in shapes):
            shapes.append(shape)
    for shape in shapes:
        corners = [np.round(shape.outline * 16).astype(np.int32)]  # 4 fractional bits
        cv2.fillPoly(image, corners, shape.colour, cv2.LINE_AA, shift=4)
        if rng.random() < 0.5:
            edge = tuple(int(c) for c in rng.integers(0, 256, 3))
            cv2.polylines(image, corners, True, edge, int(rng.integers(1, 4)), cv2.LINE_AA, shift=4)
    noise = rng.normal(0, rng.uniform(0, 12), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), shapes


def _background(rng: np.random.Generator) -> Image:
    """Return a gradient between two colours with some lines as distractors."""
    ends = rng.integers(0, 256, (2, 3))
    ramp = np.linspace(0, 1, SIZE)
    angle = rng.uniform(0, 2 * math.pi)
    mix = np.clip(ramp[None, :] * math.cos(angle) + ramp[:, None] * math.sin(angle), 0, 1)[..., None]
    image = np.ascontiguousarray((ends[0] * (1 - mix) + ends[1] * mix).astype(np.uint8))
    for _ in range(rng.integers(0, 6)):
        start, end = rng.integers(0, SIZE, (2, 2))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        cv2.line(image, [int(v) for v in start], [int(v) for v in end], colour, int(rng.integers(1, 5)), cv2.LINE_AA)
    return image


def _shape(rng: np.random.Generator) -> Shape:
    cls = int(rng.integers(len(NAMES)))
    corners = {"circle": 48, "triangle": 3, "square": 4, "star": 10}[NAMES[cls]]
    radius = 10 ** rng.uniform(math.log10(28), math.log10(90))
    turn = np.arange(corners) / corners * 2 * math.pi + rng.uniform(0, 2 * math.pi)
    reach = np.where(np.arange(corners) % 2, 0.45, 1.0) if NAMES[cls] == "star" else np.ones(corners)
    outline = np.stack([np.cos(turn), np.sin(turn)], 1) * reach[:, None] * radius
    outline += rng.uniform(radius * 0.8, SIZE - radius * 0.8, 2)  # some extend beyond the border
    blue, green, red = (int(c) for c in rng.integers(0, 256, 3))
    return Shape(cls, np.clip(outline, 0, SIZE - 1), (blue, green, red))


def _overlap(a: Shape, b: Shape) -> float:
    """Return the intersection of the boxes of two shapes, divided by the area of the smaller box."""
    low, high = np.maximum(a.outline.min(0), b.outline.min(0)), np.minimum(a.outline.max(0), b.outline.max(0))
    smaller = min(np.prod(np.ptp(each.outline, 0)) for each in (a, b))
    return float(np.prod(np.maximum(high - low, 0)) / smaller)


def _line(shape: Shape, values: Iterable[float]) -> str:
    return " ".join([str(shape.cls), *(f"{value:.6f}" for value in values)])


def _box_values(shape: Shape) -> tuple[float, ...]:
    low, high = shape.outline.min(0) / SIZE, shape.outline.max(0) / SIZE
    return (*((low + high) / 2), *(high - low))


def _box(shape: Shape) -> str:
    return _line(shape, _box_values(shape))


def _polygon(shape: Shape) -> str:
    return _line(shape, (shape.outline / SIZE).flatten())


def _rotated_box(shape: Shape) -> str:
    """Return the label with the corners of the smallest rotated rectangle; OpenCV selects one of several equal ones."""
    return _line(shape, (cv2.boxPoints(cv2.minAreaRect(shape.outline.astype(np.float32))) / SIZE).clip(0, 1).flatten())


def _keypoints(shape: Shape) -> str:
    """Return the label with the box and the outline's centre, top, right, bottom and left, each with 2 for visible."""
    x, y = shape.outline.T
    points = [shape.outline.mean(0), *(shape.outline[i] for i in (y.argmin(), x.argmax(), y.argmax(), x.argmin()))]
    return _line(shape, (*_box_values(shape), *(value for point in points for value in (*point / SIZE, 2))))


LABELS: dict[str, Callable[[Shape], str]] = {  # task -> function that returns the label line of a shape
    "detect": _box,
    "segment": _polygon,
    "obb": _rotated_box,
    "pose": _keypoints,
}
