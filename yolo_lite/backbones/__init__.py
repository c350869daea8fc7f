"""Backbones, one file per family; each file lists the architecture table of the paper as rows."""

import torch
from torch import nn

from yolo_lite.backbones._stage import LEVELS, Stage


class Backbone(nn.Module):
    """Network of five stages; (B, 3, H, W) -> [P1, ..., P5], Pk at stride 2**k.

    Args:
        stage: Stage class of the family.
        variant: Name in the family's `variants`.
        width: Width multiplier alpha.
        edge: Whether to use ReLU6 instead of h-swish and SiLU, and no squeeze-excite.

    Attributes:
        name: Name of the variant, the same as that of the reference network.
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
