"""CSPLite: YOLOv8's backbone of C2f blocks, without the block at P2 and with fewer channels at P5.

Trained from scratch, it is the most accurate backbone for its latency of those in docs/lite.md. It has no published
weights.
Paper: Wang et al. 2019, CSPNet, https://arxiv.org/abs/1911.11929; C2f is Ultralytics' form of it,
https://docs.ultralytics.com/models/yolov8.
Reference: Ultralytics' YOLOv8; the tests substitute its table for this one.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import nn
from ultralytics.nn.modules.block import C2f
from ultralytics.nn.modules.conv import Conv

from yolo_lite.backbones._stage import Layer, Stage, register_stage
from yolo_lite.blocks import ULTRALYTICS_NORM, round_channels

Module = TypeVar("Module", bound=nn.Module)


class Row(NamedTuple):
    """Level with a strided convolution and a C2f of n bottlenecks, which is omitted if n is 0."""

    c: int
    n: int


ROWS = [Row(16, 0), Row(32, 0), Row(64, 2), Row(128, 2), Row(192, 1)]


@register_stage
class CSPLiteStage(Stage):
    """One level of CSPLite."""

    paper = "Wang et al. 2019, https://arxiv.org/abs/1911.11929"
    variants = {"csplite_100": ROWS}
    aliases = {"lite": "csplite_100"}

    @classmethod
    def layers(cls, rows: Sequence[Row], c1: int, width: float) -> Iterator[Layer]:
        for row in rows:
            c2 = round_channels(row.c * width)
            yield Layer(2, c2, partial(as_in_yolo, Conv, c1, c2, 3, 2))
            if row.n:
                yield Layer(1, c2, partial(as_in_yolo, C2f, c2, c2, row.n, True))
            c1 = c2


def as_in_yolo(cls: Callable[..., Module], *args: Any) -> Module:
    """Build an Ultralytics module with the BatchNorm settings that Ultralytics applies in models."""
    module = cls(*args)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps, norm.momentum = ULTRALYTICS_NORM
    return module
