"""The generated dataset `shapes`: circles, triangles, squares and stars, drawn the same on every machine.

Ultralytics runs `generate` through the `download:` key of `cfg/datasets/shapes.yaml` when the images are missing. A
picture is a list of `Shape`s first and pixels second, so that each task's labels are one more line in `LABELS`.
"""

import math
import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

NAMES = ("circle", "triangle", "square", "star")
SIZE = 320  # pixels, width and height
SPLITS = {"train": 512, "val": 128}  # pictures


class Shape(NamedTuple):
    """One drawn object."""

    cls: int
    outline: np.ndarray  # (corners, 2), pixels
    colour: tuple[int, int, int]


def generate(folder):
    """Draw the dataset into `folder`, as images/<split>/*.jpg and labels/<split>/*.txt.

    A split appears whole or not at all: it is drawn beside its place and moved there at the end. One that is there
    already is left alone.
    """
    for number, (split, count) in enumerate(SPLITS.items()):
        places = [Path(folder, kind, split) for kind in ("labels", "images")]  # images last: they tell it is complete
        if places[-1].exists():
            continue
        drafts = [place.with_name(f".{split}") for place in places]
        for leftover in (*drafts, places[0]):
            shutil.rmtree(leftover, ignore_errors=True)
        for draft in drafts:
            draft.mkdir(parents=True)
        for index in range(count):
            image, shapes = draw(np.random.default_rng((number, index)))
            (drafts[0] / f"{index:04}.txt").write_text("".join(f"{LABELS['detect'](shape)}\n" for shape in shapes))
            cv2.imwrite(str(drafts[1] / f"{index:04}.jpg"), image)
        for draft, place in zip(drafts, places, strict=True):
            draft.rename(place)


def draw(rng):
    """Draw one picture.

    Args:
        rng: The random generator that decides everything.

    Returns:
        (np.ndarray, list[Shape]): BGR, (SIZE, SIZE, 3), uint8; the shapes, those in front last.
    """
    image = _background(rng)
    shapes = []
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


def _background(rng):
    """A gradient between two colours with some lines across it, which a detector has to learn to ignore."""
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


def _shape(rng):
    cls = int(rng.integers(len(NAMES)))
    corners = {"circle": 48, "triangle": 3, "square": 4, "star": 10}[NAMES[cls]]
    radius = 10 ** rng.uniform(math.log10(20), math.log10(80))
    turn = np.arange(corners) / corners * 2 * math.pi + rng.uniform(0, 2 * math.pi)
    reach = np.where(np.arange(corners) % 2, 0.45, 1.0) if NAMES[cls] == "star" else np.ones(corners)
    outline = np.stack([np.cos(turn), np.sin(turn)], 1) * reach[:, None] * radius
    outline += rng.uniform(radius * 0.8, SIZE - radius * 0.8, 2)  # some reach over the border
    return Shape(cls, np.clip(outline, 0, SIZE - 1), tuple(int(c) for c in rng.integers(0, 256, 3)))


def _overlap(a, b):
    """The part of the smaller one's box that the other one's box covers."""
    low, high = np.maximum(a.outline.min(0), b.outline.min(0)), np.minimum(a.outline.max(0), b.outline.max(0))
    smaller = min(np.prod(np.ptp(each.outline, 0)) for each in (a, b))
    return np.prod(np.maximum(high - low, 0)) / smaller


def _box(shape):
    low, high = shape.outline.min(0) / SIZE, shape.outline.max(0) / SIZE
    return " ".join([str(shape.cls), *(f"{v:.6f}" for v in (*((low + high) / 2), *(high - low)))])


LABELS = {"detect": _box}  # task -> a shape's line in its label file
