"""MobileNetV4: conv small, medium and large, hybrid medium.

Paper: Qin et al. 2024, MobileNetV4, https://arxiv.org/abs/2404.10518 (tables 11 to 14).
References: timm's `mobilenetv4_conv_small`, `_conv_medium`, `_conv_large` and `mobilenetv4_hybrid_medium`. The last 1x1
convolution, which only serves the classifier, is omitted.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stage, register_stage
from yolo_lite.blocks import (
    ConvNormAct,
    FusedInvertedResidual,
    MobileMQA,
    Norm,
    UniversalInvertedBottleneck,
    round_channels,
)


class ConvRow(NamedTuple):
    """Row of the table: plain convolution."""

    k: int
    c: int
    s: int = 1


class FusedRow(NamedTuple):
    """Row of the table: fused inverted residual."""

    k: int
    exp: int
    c: int
    s: int = 1


class UIB(NamedTuple):
    """Row of the table: universal inverted bottleneck; `start` and `mid` are its depthwise kernel sizes, 0 for none."""

    start: int
    mid: int
    exp: int
    c: int
    s: int = 1


class MQA(NamedTuple):
    """Row of the table: mobile multi-query attention."""

    heads: int
    dim: int
    kv_stride: int
    c: int


Row = ConvRow | FusedRow | UIB | MQA


CONV_SMALL: list[Row] = [
    ConvRow(3, 32, 2),
    ConvRow(1, 32),
    ConvRow(3, 96, 2),
    ConvRow(1, 64),
    UIB(5, 5, 3, 96, 2),
    *[UIB(0, 3, 2, 96)] * 4,
    UIB(3, 0, 4, 96),
    UIB(3, 3, 6, 128, 2),
    UIB(5, 5, 4, 128),
    UIB(0, 5, 4, 128),
    UIB(0, 5, 3, 128),
    *[UIB(0, 3, 4, 128)] * 2,
]
CONV_MEDIUM: list[Row] = [
    FusedRow(3, 4, 48, 2),
    UIB(3, 5, 4, 80, 2),
    UIB(3, 3, 2, 80),
    UIB(3, 5, 6, 160, 2),
    *[UIB(3, 3, 4, 160)] * 2,
    UIB(3, 5, 4, 160),
    UIB(3, 3, 4, 160),
    UIB(3, 0, 4, 160),
    UIB(0, 0, 2, 160),
    UIB(3, 0, 4, 160),
    UIB(5, 5, 6, 256, 2),
    UIB(5, 5, 4, 256),
    *[UIB(3, 5, 4, 256)] * 2,
    UIB(0, 0, 4, 256),
    UIB(3, 0, 4, 256),
    UIB(3, 5, 2, 256),
    UIB(5, 5, 4, 256),
    *[UIB(0, 0, 4, 256)] * 2,
    UIB(5, 0, 2, 256),
]
CONV_LARGE: list[Row] = [
    FusedRow(3, 4, 48, 2),
    UIB(3, 5, 4, 96, 2),
    UIB(3, 3, 4, 96),
    UIB(3, 5, 4, 192, 2),
    *[UIB(3, 3, 4, 192)] * 3,
    UIB(3, 5, 4, 192),
    *[UIB(5, 3, 4, 192)] * 5,
    UIB(3, 0, 4, 192),
    UIB(5, 5, 4, 512, 2),
    *[UIB(5, 5, 4, 512)] * 3,
    UIB(5, 0, 4, 512),
    UIB(5, 3, 4, 512),
    *[UIB(5, 0, 4, 512)] * 2,
    UIB(5, 3, 4, 512),
    UIB(5, 5, 4, 512),
    *[UIB(5, 0, 4, 512)] * 3,
]
HYBRID_MEDIUM: list[Row] = [
    FusedRow(3, 4, 48, 2),
    UIB(3, 5, 4, 80, 2),
    UIB(3, 3, 2, 80),
    UIB(3, 5, 6, 160, 2),
    UIB(0, 0, 2, 160),
    UIB(3, 3, 4, 160),
    UIB(3, 5, 4, 160),
    MQA(4, 64, 2, 160),
    UIB(3, 3, 4, 160),
    MQA(4, 64, 2, 160),
    UIB(3, 0, 4, 160),
    MQA(4, 64, 2, 160),
    UIB(3, 3, 4, 160),
    MQA(4, 64, 2, 160),
    UIB(3, 0, 4, 160),
    UIB(5, 5, 6, 256, 2),
    UIB(5, 5, 4, 256),
    *[UIB(3, 5, 4, 256)] * 2,
    UIB(0, 0, 2, 256),
    UIB(3, 5, 2, 256),
    UIB(0, 0, 2, 256),
    UIB(0, 0, 4, 256),
    MQA(4, 64, 1, 256),
    UIB(3, 0, 4, 256),
    MQA(4, 64, 1, 256),
    UIB(5, 5, 4, 256),
    MQA(4, 64, 1, 256),
    UIB(5, 0, 4, 256),
    MQA(4, 64, 1, 256),
    UIB(5, 0, 4, 256),
]


class Variant(NamedTuple):
    """Architecture table with the channels of the first convolution and the initial layer scale."""

    stem: int
    rows: list[Row]
    scale: float | None = None


@register_stage
class MobileNetV4Stage(Stage):
    """One level of MobileNetV4."""

    paper = "Qin et al. 2024, https://arxiv.org/abs/2404.10518"
    variants = {
        "mobilenetv4_conv_small": Variant(32, CONV_SMALL),
        "mobilenetv4_conv_medium": Variant(32, CONV_MEDIUM),
        "mobilenetv4_conv_large": Variant(24, CONV_LARGE),
        "mobilenetv4_hybrid_medium": Variant(32, HYBRID_MEDIUM, scale=1e-5),
    }
    published = {name: [Published("timm", name)] for name in variants}
    published["mobilenetv4_conv_small"].append(Published("timm", "mobilenetv4_conv_small_{percent:03d}"))
    aliases = {name.removeprefix("mobilenetv4_"): name for name in variants}

    @classmethod
    def layers(cls, variant: Variant, c1: int, width: float) -> Iterator[Layer]:
        act, norm = nn.ReLU, Norm()
        stem = variant.stem if width < 1 else round_channels(variant.stem * width)
        yield Layer(2, stem, partial(ConvNormAct, c1, stem, 3, 2, act=act, norm=norm))
        c1 = stem
        for row in variant.rows:
            c2 = round_channels(row.c * width)
            stride, mid = getattr(row, "s", 1), round_channels(c1 * getattr(row, "exp", 1))
            build: Callable[[], nn.Module]
            if isinstance(row, ConvRow):
                build = partial(ConvNormAct, c1, c2, row.k, stride, act=act, norm=norm)
            elif isinstance(row, FusedRow):
                build = partial(FusedInvertedResidual, c1, mid, c2, row.k, stride, act, norm)
            elif isinstance(row, UIB):
                build = partial(
                    UniversalInvertedBottleneck, c1, mid, c2, row.start, row.mid, stride, act, norm, variant.scale
                )
            else:
                build = partial(MobileMQA, c1, row.heads, row.dim, row.kv_stride, norm=norm, scale=variant.scale)
            yield Layer(stride, c2, build)
            c1 = c2
