"""MnasNet: B1 without squeeze-excite and A1 with squeeze-excite.

Paper: Tan et al. 2019, MnasNet, https://arxiv.org/abs/1807.11626 (figure 7; B1 is the search's other result, table 1).
References: timm's `mnasnet_100` (B1) and `semnasnet_100` (A1), torchvision's `mnasnet1_0` (B1).
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stack, Stage, inverted_residuals, register_stage
from yolo_lite.blocks import ULTRALYTICS_NORM, Norm, round_channels

STEM = 32
# torchvision's momentum, 0.0003, is tuned for the hundreds of thousands of steps of ImageNet training. In the hundreds
# of steps of a small dataset the running statistics would barely change from their initial values, and the trained
# detector would detect nothing.
TORCHVISION = Norm(momentum=ULTRALYTICS_NORM.momentum)
B1 = [
    Stack(t=1, c=16, n=1, s=1),
    Stack(t=3, c=24, n=3, s=2),
    Stack(t=3, c=40, n=3, s=2, k=5),
    Stack(t=6, c=80, n=3, s=2, k=5),
    Stack(t=6, c=96, n=2, s=1),
    Stack(t=6, c=192, n=4, s=2, k=5),
    Stack(t=6, c=320, n=1, s=1),
]
A1 = [
    Stack(t=1, c=16, n=1, s=1),
    Stack(t=6, c=24, n=2, s=2),
    Stack(t=3, c=40, n=3, s=2, k=5, se=0.25),
    Stack(t=6, c=80, n=4, s=2),
    Stack(t=6, c=112, n=2, s=1, se=0.25),
    Stack(t=6, c=160, n=3, s=2, k=5, se=0.25),
    Stack(t=6, c=320, n=1, s=1),
]


class Variant(NamedTuple):
    """Architecture table with the BatchNorm settings of one reference implementation."""

    rows: list[Stack]
    norm: Norm


@register_stage
class MnasNetStage(Stage):
    """One level of MnasNet."""

    paper = "Tan et al. 2019, https://arxiv.org/abs/1807.11626"
    variants = {
        "mnasnet_100": Variant(B1, Norm()),
        "semnasnet_100": Variant(A1, Norm()),
        "mnasnet1_0": Variant(B1, TORCHVISION),
    }
    published = {
        "mnasnet_100": [Published("timm", "mnasnet_{percent:03d}")],
        "semnasnet_100": [Published("timm", "semnasnet_{percent:03d}")],
        "mnasnet1_0": [Published("torchvision", "mnasnet{factor}")],
    }
    aliases = {"b1": "mnasnet_100", "a1": "semnasnet_100"}

    @classmethod
    def layers(cls, variant: Variant, c1: int, width: float) -> Iterator[Layer]:
        return inverted_residuals(c1, round_channels(STEM * width), variant.rows, width, nn.ReLU, variant.norm)
