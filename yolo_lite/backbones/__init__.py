"""The backbones, one file a family: the paper's table as rows."""

from torch import nn

from yolo_lite.backbones._stage import LEVELS


class Backbone(nn.Module):
    """The five stages of a network; (B, 3, H, W) -> [P1, ..., P5], Pk at stride 2**k.

    Attributes:
        name: The variant's name, which is its reference's.
        channels: Channels of P1 to P5.
        strides: Strides of P1 to P5.
        stages: The five stages.
    """

    def __init__(self, stage, variant, width=1.0, edge=False):
        super().__init__()
        plan = stage.plan(variant, width=width)
        self.name = variant
        self.channels = [layers[-1].channels for layers in plan]
        self.strides = [2**level for level in range(1, LEVELS + 1)]
        inputs = [3, *self.channels]
        self.stages = nn.ModuleList(stage(inputs[i], variant, i + 1, width, edge) for i in range(LEVELS))

    def forward(self, x):
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels
