"""MobileNetV2.

Paper: Sandler et al. 2018, MobileNetV2, https://arxiv.org/abs/1801.04381 (table 2).
References: timm's `mobilenetv2_100`, torchvision's `mobilenet_v2`; they are the same network. The last 1x1 convolution,
which only serves the classifier, is omitted.
"""

from collections.abc import Iterator, Sequence

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stack, Stage, inverted_residuals, register_stage
from yolo_lite.blocks import round_channels

STEM = 32
ROWS = [
    Stack(t=1, c=16, n=1, s=1),
    Stack(t=6, c=24, n=2, s=2),
    Stack(t=6, c=32, n=3, s=2),
    Stack(t=6, c=64, n=4, s=2),
    Stack(t=6, c=96, n=3, s=1),
    Stack(t=6, c=160, n=3, s=2),
    Stack(t=6, c=320, n=1, s=1),
]


@register_stage
class MobileNetV2Stage(Stage):
    """One level of MobileNetV2."""

    paper = "Sandler et al. 2018, https://arxiv.org/abs/1801.04381"
    variants = {"mobilenetv2_100": ROWS, "mobilenet_v2": ROWS}
    published = {
        "mobilenetv2_100": [Published("timm", "mobilenetv2_{percent:03d}")],
        "mobilenet_v2": [Published("torchvision", "mobilenet_v2")],
    }

    @classmethod
    def layers(cls, rows: Sequence[Stack], c1: int, width: float) -> Iterator[Layer]:
        return inverted_residuals(c1, round_channels(STEM * width), rows, width, nn.ReLU6)
