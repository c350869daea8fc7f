"""The backbones, one file a family: the paper's table as rows."""

import torch
from torch import nn

from yolo_lite.backbones._stage import LEVELS, Stage


class Backbone(nn.Module):
    """The five stages of a network; (B, 3, H, W) -> [P1, ..., P5], Pk at stride 2**k.

    Args:
        stage: The family's class.
        variant: A name in its `variants`.
        width: The width multiplier alpha.
        edge: ReLU6 instead of h-swish and SiLU, and no squeeze-excite.

    Attributes:
        name: The variant's name, which is its reference's.
        channels: Channels of P1 to P5.
        strides: Strides of P1 to P5.
        stages: The five stages.
    """

    def __init__(self, stage: type[Stage], variant: str, width: float = 1.0, edge: bool = False) -> None:
        super().__init__()
        plan = stage.plan(variant, width=width)
        self.name = variant
        self.channels = [layers[-1].channels for layers in plan]
        self.strides = [2**level for level in range(1, LEVELS + 1)]
        inputs = [3, *self.channels]
        self.stages = nn.ModuleList(stage(inputs[i], variant, i + 1, width, edge) for i in range(LEVELS))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels
