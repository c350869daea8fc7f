"""Necks of ours: all rows between backbone and head, a PAN over the levels between the head's finest and coarsest one.

Channels are those before the model's width.
"""

from collections.abc import Callable, Mapping, Sequence

from yolo_lite.compose.base import Row

SLIM_STEP = 128  # channels that each level has more than the one before, P2 the first; YOLOv8's double up to P5
LIGHT_CHANNELS = 256  # at all levels
SIZES = {2: "xsmall", 3: "small", 4: "medium", 5: "large", 6: "xlarge"}  # of the objects, as Ultralytics' comments say
UP = Row(-1, 1, "nn.Upsample", ["None", 2, "nearest"])

# number of its first row, the row that gives each level of the backbone, that first row, levels -> rows, row by level
Pan = Callable[[int, Mapping[int, int], Row, Sequence[int]], tuple[list[Row], dict[int, int]]]


def slim(n: int, places: Mapping[int, int], top: Row, levels: Sequence[int]) -> tuple[list[Row], dict[int, int]]:
    """YOLOv8's PAN with fewer channels.

    Args:
        n: The number of its first row.
        places: The number of the backbone's row that gives each level.
        top: That first row, which pools the last level; it gets its channels here.
        levels: Those that it joins, finest first.

    Returns:
        (list[Row], dict[int, int]): Its rows, and the number of the row that gives each level.
    """
    channels = {level: SLIM_STEP * (level - 1) for level in levels}
    rows, down, found = [top.but(args=[channels[levels[-1]], *top.args[1:]])], {levels[-1]: n}, {}
    for level in reversed(levels[:-1]):
        rows += [UP.but(gap=len(rows) > 1), Row([-1, places[level]], 1, "Concat", [1], f"cat backbone P{level}")]
        down[level] = n + len(rows)
        rows.append(Row(-1, 3, "C2f", [channels[level]], _comment(down[level], level, level == levels[0])))
    found[levels[0]] = down[levels[0]]
    for finer, level in zip(levels, levels[1:], strict=False):
        rows.append(Row(-1, 1, "Conv", [channels[finer], 3, 2], gap=True))
        rows.append(Row([-1, down[level]], 1, "Concat", [1], f"cat head P{level}"))
        found[level] = n + len(rows)
        rows.append(Row(-1, 3, "C2f", [channels[level]], _comment(found[level], level)))
    return rows, found


def light(n: int, places: Mapping[int, int], top: Row, levels: Sequence[int]) -> tuple[list[Row], dict[int, int]]:
    """A depthwise PAN whose levels all have the same channels; arguments and result as of `slim`."""
    c = LIGHT_CHANNELS
    mix = Row(-1, 1, "UniversalInvertedBottleneck", [c, 2, 5, 0])
    rows, down, found = [top.but(args=[c, *top.args[1:]])], {levels[-1]: n}, {}
    for level in reversed(levels[:-1]):
        rows.append(UP.but(gap=len(rows) > 1))
        rows.append(Row([places[level], -1], 1, "ExtraDWFusion", [c, 5], f"fuse backbone P{level}"))
        down[level] = n + len(rows)
        rows.append(mix.but(comment=_comment(down[level], level, level == levels[0])))
    found[levels[0]] = down[levels[0]]
    for finer, level in zip(levels, levels[1:], strict=False):
        said = f"fuse head P{level}, P{finer} by stride 2"
        rows.append(Row([down[level], -1], 1, "ExtraDWFusion", [c, 5, 2], said, gap=True))
        found[level] = n + len(rows)
        rows.append(mix.but(comment=_comment(found[level], level)))
    return rows, found


def _comment(number: int, level: int, given: bool = True) -> str:
    """Number a row, and say what level it gives to the head if it does."""
    size = f"-{SIZES[level]}" if level in SIZES else ""
    return f"{number} (P{level}/{2**level}{size})" if given else str(number)


PANS: dict[str, Pan] = {"slim": slim, "light": light}
