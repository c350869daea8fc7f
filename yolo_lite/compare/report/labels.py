"""Placement of names beside points, in pixels, without matplotlib."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

REACHES = (9, 17, 27, 39, 53)  # distances from the point, pixels
FAR = 17  # beyond this distance a line leads from the point to its name, pixels
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
LETTER, HEIGHT = 6.2, 12  # width of a letter and height of a name, pixels
POINT = 5  # half the size of a point, pixels
LINE = 2  # half the width of a line including its margin, pixels


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    def overlap(self, other: "Box") -> float:
        """Return the area of the intersection with another box."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0, width) * max(0, height)

    def outside(self, frame: "Box") -> float:
        """Return how far the box extends out of a frame, with some tolerance at the right and the top."""
        return max(
            0, frame.left - self.left, self.right - frame.right - 4, frame.bottom - self.bottom,
            self.top - frame.top - 8,
        )  # fmt: skip


class Place(NamedTuple):
    """Position of a name, and whether it needs a line to its point."""

    box: Box
    is_far: bool


def along(start: tuple[float, float], end: tuple[float, float]) -> Box:
    """Return the box of a horizontal or vertical line, in pixels."""
    (x0, x1), (y0, y1) = sorted([start[0], end[0]]), sorted([start[1], end[1]])
    return Box(x0 - LINE, y0 - LINE, x1 + LINE, y1 + LINE)


def place(points: Mapping[str, tuple[float, float]], frame: Box, lines: Sequence[Box] = ()) -> dict[str, Place]:
    """Place names beside points, from the top down, such that they overlap points, lines and other names least.

    Args:
        points: Position of the point of each name, in pixels.
        frame: Box of the plot, in pixels.
        lines: Boxes of the lines in the plot, in pixels.
    """
    taken = [*lines, *(Box(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in points.values())]
    found = {}
    for name in sorted(points, key=lambda name: -points[name][1]):
        reach, box = min(_choices(name, points[name]), key=lambda choice: _badness(choice[0], choice[1], taken, frame))
        taken.append(box)
        found[name] = Place(box, reach > FAR)
    return found


def _choices(name: str, point: tuple[float, float]) -> Iterator[tuple[int, Box]]:
    x, y = point
    width = LETTER * len(name)
    for reach in REACHES:
        for dx, dy in DIRECTIONS:
            left = x + dx * reach - (width if dx < 0 else width / 2 if dx == 0 else 0)
            bottom = y + dy * reach - HEIGHT / 2
            yield reach, Box(left, bottom, left + width, bottom + HEIGHT)


def _badness(reach: int, box: Box, taken: Sequence[Box], frame: Box) -> float:
    return sum(map(box.overlap, taken)) * 3 + box.outside(frame) * 40 + reach * 2
