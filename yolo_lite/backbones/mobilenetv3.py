"""MobileNetV3, large and small.

Paper: Howard et al. 2019, Searching for MobileNetV3, https://arxiv.org/abs/1905.02244 (tables 1 and 2).
References: timm's `mobilenetv3_large_100` and `mobilenetv3_small_100`, torchvision's `mobilenet_v3_large` and
`mobilenet_v3_small`. The last 1x1 convolution, which only serves the classifier, is omitted.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stage, register_stage
from yolo_lite.blocks import ConvNormAct, InvertedResidual, Norm, SqueezeExcite, round_channels

RE, HS = nn.ReLU, nn.Hardswish


class Bneck(NamedTuple):
    """Bneck row with the columns of the paper's tables."""

    kernel: int
    exp_size: int
    out: int
    se: bool
    nl: type[nn.Module]
    s: int


LARGE = [  # table 1
    Bneck(3, 16, 16, False, RE, 1),
    Bneck(3, 64, 24, False, RE, 2),
    Bneck(3, 72, 24, False, RE, 1),
    Bneck(5, 72, 40, True, RE, 2),
    Bneck(5, 120, 40, True, RE, 1),
    Bneck(5, 120, 40, True, RE, 1),
    Bneck(3, 240, 80, False, HS, 2),
    Bneck(3, 200, 80, False, HS, 1),
    Bneck(3, 184, 80, False, HS, 1),
    Bneck(3, 184, 80, False, HS, 1),
    Bneck(3, 480, 112, True, HS, 1),
    Bneck(3, 672, 112, True, HS, 1),
    Bneck(5, 672, 160, True, HS, 2),
    Bneck(5, 960, 160, True, HS, 1),
    Bneck(5, 960, 160, True, HS, 1),
]
SMALL = [  # table 2
    Bneck(3, 16, 16, True, RE, 2),
    Bneck(3, 72, 24, False, RE, 2),
    Bneck(3, 88, 24, False, RE, 1),
    Bneck(5, 96, 40, True, HS, 2),
    Bneck(5, 240, 40, True, HS, 1),
    Bneck(5, 240, 40, True, HS, 1),
    Bneck(5, 120, 48, True, HS, 1),
    Bneck(5, 144, 48, True, HS, 1),
    Bneck(5, 288, 96, True, HS, 2),
    Bneck(5, 576, 96, True, HS, 1),
    Bneck(5, 576, 96, True, HS, 1),
]
STEM = 16  # channels of the first convolution


class Variant(NamedTuple):
    """Architecture table with the settings of one reference implementation."""

    rows: list[Bneck]
    norm: Norm
    timm: bool  # timm's rounding: expansion relative to the rounded input channels; stem not scaled below width 0.75


@register_stage
class MobileNetV3Stage(Stage):
    """One level of MobileNetV3."""

    paper = "Howard et al. 2019, https://arxiv.org/abs/1905.02244"
    variants = {
        "mobilenetv3_large_100": Variant(LARGE, Norm(eps=1e-5, momentum=0.1), timm=True),
        "mobilenetv3_small_100": Variant(SMALL, Norm(eps=1e-5, momentum=0.1), timm=True),
        "mobilenet_v3_large": Variant(LARGE, Norm(eps=1e-3, momentum=0.01), timm=False),
        "mobilenet_v3_small": Variant(SMALL, Norm(eps=1e-3, momentum=0.01), timm=False),
    }
    published = {
        "mobilenetv3_large_100": [Published("timm", "mobilenetv3_large_{percent:03d}")],
        "mobilenetv3_small_100": [Published("timm", "mobilenetv3_small_{percent:03d}")],
        "mobilenet_v3_large": [Published("torchvision", "mobilenet_v3_large")],
        "mobilenet_v3_small": [Published("torchvision", "mobilenet_v3_small")],
    }
    aliases = {"large": "mobilenetv3_large_100", "small": "mobilenetv3_small_100"}

    @classmethod
    def layers(cls, variant: Variant, c1: int, width: float) -> Iterator[Layer]:
        rows, norm, timm = variant
        stem = STEM if timm and width < 0.75 else round_channels(STEM * width)
        yield Layer(2, stem, partial(ConvNormAct, c1, stem, 3, 2, act=HS, norm=norm))
        c1, table_c1 = stem, STEM
        for row in rows:
            c2 = round_channels(row.out * width)
            mid = round_channels(c1 * row.exp_size / table_c1 if timm else row.exp_size * width)
            excite = partial(SqueezeExcite, squeezed=round_channels(mid // 4)) if row.se else None
            yield Layer(row.s, c2, partial(InvertedResidual, c1, mid, c2, row.kernel, row.s, excite, row.nl, norm))
            c1, table_c1 = c2, row.out
