"""PAN necks: all rows between backbone and head, over the levels from the head's finest to its coarsest one.

Channel numbers are not yet scaled by the model's width.
"""

from collections.abc import Callable, Mapping, Sequence

from yolo_lite.compose.base import Row

SLIM_STEP = 128  # channels of P2, and increment per coarser level; YOLOv8's channels double per level up to P5
LIGHT_CHANNELS = 256  # channels of all levels
SIZES = {2: "xsmall", 3: "small", 4: "medium", 5: "large", 6: "xlarge"}  # object sizes, as in Ultralytics' comments
UP = Row(-1, 1, "nn.Upsample", ["None", 2, "nearest"])

# (index of the first row, backbone row of each level, first row, levels) -> (rows, output row of each level)
Pan = Callable[[int, Mapping[int, int], Row, Sequence[int]], tuple[list[Row], dict[int, int]]]


def slim(n: int, places: Mapping[int, int], top: Row, levels: Sequence[int]) -> tuple[list[Row], dict[int, int]]:
    """Return YOLOv8's PAN with fewer channels.

    Args:
        n: Index of the first row of the neck.
        places: Index of the backbone row that outputs each level, by level.
        top: First row of the neck, which pools the last level; its channels are set here.
        levels: Levels to combine, finest first.

    Returns:
        (list[Row], dict[int, int]): Rows of the neck, and the index of the row that outputs each level.
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
    """Return a depthwise PAN with the same channels at all levels; arguments and return value are those of `slim`."""
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
    """Return the comment of a row: its index, and its level and object size if it is an input of the head."""
    size = f"-{SIZES[level]}" if level in SIZES else ""
    return f"{number} (P{level}/{2**level}{size})" if given else str(number)


PANS: dict[str, Pan] = {"slim": slim, "light": light}
