"""Necks of ours: all rows between backbone and head, a PAN over the levels that detectors' heads take.

The levels stand here, once; channels are those before the model's width.
"""

from collections.abc import Callable, Mapping

from yolo_lite.compose.base import Row

HEAD_LEVELS = (3, 4, 5)
SLIM_CHANNELS = (256, 384, 512)  # at each of them
LIGHT_CHANNELS = 256  # at all of them
UP = Row(-1, 1, "nn.Upsample", ["None", 2, "nearest"])

Pan = Callable[[int, Mapping[int, int], Row], tuple[list[Row], list[int]]]


def slim(n: int, places: Mapping[int, int], top: Row) -> tuple[list[Row], list[int]]:
    """YOLOv8's PAN with fewer channels.

    Args:
        n: The number of its first row.
        places: The number of the backbone's row that gives each level.
        top: That first row, which pools the last level; it gets its channels here.

    Returns:
        (list[Row], list[int]): Its rows, and the numbers of those that the head takes.
    """
    c3, c4, c5 = SLIM_CHANNELS
    rows = [
        top.but(args=[c5, *top.args[1:]]),
        UP,
        Row([-1, places[4]], 1, "Concat", [1], "cat backbone P4"),
        Row(-1, 3, "C2f", [c4], str(n + 3)),
        UP.but(gap=True),
        Row([-1, places[3]], 1, "Concat", [1], "cat backbone P3"),
        Row(-1, 3, "C2f", [c3], f"{n + 6} (P3/8-small)"),
        Row(-1, 1, "Conv", [c3, 3, 2], gap=True),
        Row([-1, n + 3], 1, "Concat", [1], "cat head P4"),
        Row(-1, 3, "C2f", [c4], f"{n + 9} (P4/16-medium)"),
        Row(-1, 1, "Conv", [c4, 3, 2], gap=True),
        Row([-1, n], 1, "Concat", [1], "cat head P5"),
        Row(-1, 3, "C2f", [c5], f"{n + 12} (P5/32-large)"),
    ]
    return rows, [n + 6, n + 9, n + 12]


def light(n: int, places: Mapping[int, int], top: Row) -> tuple[list[Row], list[int]]:
    """A depthwise PAN whose levels all have the same channels; arguments and result as of `slim`."""
    c = LIGHT_CHANNELS
    mix = Row(-1, 1, "UniversalInvertedBottleneck", [c, 2, 5, 0])
    rows = [
        top.but(args=[c, *top.args[1:]]),
        UP,
        Row([places[4], -1], 1, "ExtraDWFusion", [c, 5], "fuse backbone P4"),
        mix.but(comment=str(n + 3)),
        UP.but(gap=True),
        Row([places[3], -1], 1, "ExtraDWFusion", [c, 5], "fuse backbone P3"),
        mix.but(comment=f"{n + 6} (P3/8-small)"),
        Row([n + 3, -1], 1, "ExtraDWFusion", [c, 5, 2], "fuse head P4, P3 by stride 2", gap=True),
        mix.but(comment=f"{n + 8} (P4/16-medium)"),
        Row([n, -1], 1, "ExtraDWFusion", [c, 5, 2], "fuse head P5, P4 by stride 2", gap=True),
        mix.but(comment=f"{n + 10} (P5/32-large)"),
    ]
    return rows, [n + 6, n + 8, n + 10]


PANS: dict[str, Pan] = {"slim": slim, "light": light}
