"""EfficientNet B0 and Lite0.

Paper: Tan and Le 2019, EfficientNet, https://arxiv.org/abs/1905.11946 (table 1). Lite0 is its authors' variant for edge
devices: ReLU6, no squeeze-excite, a stem that is never scaled.
References: timm's `efficientnet_b0` and `efficientnet_lite0`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stack, Stage, inverted_residuals, register_stage
from yolo_lite.blocks import round_channels

STEM = 32
B0 = [
    Stack(t=1, c=16, n=1, s=1, k=3, se=0.25),
    Stack(t=6, c=24, n=2, s=2, k=3, se=0.25),
    Stack(t=6, c=40, n=2, s=2, k=5, se=0.25),
    Stack(t=6, c=80, n=3, s=2, k=3, se=0.25),
    Stack(t=6, c=112, n=3, s=1, k=5, se=0.25),
    Stack(t=6, c=192, n=4, s=2, k=5, se=0.25),
    Stack(t=6, c=320, n=1, s=1, k=3, se=0.25),
]


class Variant(NamedTuple):
    """Configuration of one variant of EfficientNet."""

    rows: list[Stack]
    act: type[nn.Module]
    scaled_stem: bool


@register_stage
class EfficientNetStage(Stage):
    """One level of EfficientNet."""

    paper = "Tan and Le 2019, https://arxiv.org/abs/1905.11946"
    variants = {
        "efficientnet_b0": Variant(B0, nn.SiLU, scaled_stem=True),
        "efficientnet_lite0": Variant([row._replace(se=0.0) for row in B0], nn.ReLU6, scaled_stem=False),
    }
    published = {name: [Published("timm", name)] for name in variants}
    aliases = {"b0": "efficientnet_b0", "lite0": "efficientnet_lite0"}

    @classmethod
    def layers(cls, variant: Variant, c1: int, width: float) -> Iterator[Layer]:
        stem = round_channels(STEM * width) if variant.scaled_stem else STEM
        return inverted_residuals(c1, stem, variant.rows, width, variant.act)
