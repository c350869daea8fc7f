"""MobileNetV1.

Paper: Howard et al. 2017, MobileNets, https://arxiv.org/abs/1704.04861 (table 1).
Reference: timm's `mobilenetv1_100`.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stage, register_stage
from yolo_lite.blocks import ConvNormAct, round_channels

STEM = 32
ROWS = [(64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2)]  # output channels, repeats, first stride


@register_stage
class MobileNetV1Stage(Stage):
    """One level of MobileNetV1."""

    paper = "Howard et al. 2017, https://arxiv.org/abs/1704.04861"
    variants = {"mobilenetv1_100": ROWS}
    published = {"mobilenetv1_100": [Published("timm", "mobilenetv1_{percent:03d}")]}

    @classmethod
    def layers(cls, rows: Sequence[tuple[int, int, int]], c1: int, width: float) -> Iterator[Layer]:
        act = nn.ReLU6
        stem = round_channels(STEM * width)
        yield Layer(2, stem, partial(ConvNormAct, c1, stem, 3, 2, act=act))
        c1 = stem
        for c, n, stride in rows:
            c2 = round_channels(c * width)
            for s in (stride, *[1] * (n - 1)):
                yield Layer(s, c1, partial(ConvNormAct, c1, c1, 3, s, g=c1, act=act))
                yield Layer(1, c2, partial(ConvNormAct, c1, c2, act=act))
                c1 = c2
