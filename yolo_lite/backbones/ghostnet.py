"""GhostNet V1 and V2.

Papers: Han et al. 2020, GhostNet, https://arxiv.org/abs/1911.11907 (table 1); Tang et al. 2022, GhostNetV2,
https://arxiv.org/abs/2211.12905 (attention in all but the first two bottlenecks).
References: timm's `ghostnet_100` and `ghostnetv2_100`. The last 1x1 convolution, which only serves the classifier, is
omitted.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stage, register_stage
from yolo_lite.blocks import ConvNormAct, GhostBottleneck, SqueezeExcite, round_channels

STEM = 16


class Gbneck(NamedTuple):
    """G-bneck row with the columns of the paper's table."""

    kernel: int
    exp: int
    out: int
    se: bool
    stride: int


ROWS = [
    Gbneck(3, 16, 16, False, 1),
    Gbneck(3, 48, 24, False, 2),
    Gbneck(3, 72, 24, False, 1),
    Gbneck(5, 72, 40, True, 2),
    Gbneck(5, 120, 40, True, 1),
    Gbneck(3, 240, 80, False, 2),
    Gbneck(3, 200, 80, False, 1),
    Gbneck(3, 184, 80, False, 1),
    Gbneck(3, 184, 80, False, 1),
    Gbneck(3, 480, 112, True, 1),
    Gbneck(3, 672, 112, True, 1),
    Gbneck(5, 672, 160, True, 2),
    Gbneck(5, 960, 160, False, 1),
    Gbneck(5, 960, 160, True, 1),
    Gbneck(5, 960, 160, False, 1),
    Gbneck(5, 960, 160, True, 1),
]


class Variant(NamedTuple):
    """Configuration of one version of GhostNet."""

    rows: list[Gbneck]
    dfc_from: int  # index of the first row with V2's attention


@register_stage
class GhostNetStage(Stage):
    """One level of GhostNet."""

    paper = "Han et al. 2020, https://arxiv.org/abs/1911.11907; V2 Tang et al. 2022, https://arxiv.org/abs/2211.12905"
    variants = {"ghostnet_100": Variant(ROWS, len(ROWS)), "ghostnetv2_100": Variant(ROWS, 2)}
    published = {
        "ghostnet_100": [Published("timm", "ghostnet_{percent:03d}")],
        "ghostnetv2_100": [Published("timm", "ghostnetv2_{percent:03d}")],
    }
    aliases = {"v1": "ghostnet_100", "v2": "ghostnetv2_100"}

    @classmethod
    def layers(cls, variant: Variant, c1: int, width: float) -> Iterator[Layer]:
        stem = round_channels(STEM * width, 4)
        yield Layer(2, stem, partial(ConvNormAct, c1, stem, 3, 2, act=nn.ReLU))
        c1 = stem
        for index, row in enumerate(variant.rows):
            mid, c2 = round_channels(row.exp * width, 4), round_channels(row.out * width, 4)
            excite = partial(SqueezeExcite, squeezed=round_channels(mid / 4, 4)) if row.se else None
            dfc = index >= variant.dfc_from
            yield Layer(row.stride, c2, partial(GhostBottleneck, c1, mid, c2, row.kernel, row.stride, excite, dfc))
            c1 = c2
