"""The blocks that backbones and necks share, built from Ultralytics' `Conv` so that the host's `fuse()` folds them."""

from typing import NamedTuple

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv


class Norm(NamedTuple):
    """The BatchNorm settings of a network: part of its definition, since no state dict carries them."""

    eps: float = 1e-5
    momentum: float = 0.1


class BatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that keeps its eps and momentum.

    Ultralytics overwrites both in every module whose type is exactly `nn.BatchNorm2d`, each time it builds a model,
    which would change what pretrained weights compute. A type of its own is left alone.
    """


class ConvNormAct(Conv):
    """Convolution, BatchNorm, activation; (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size; padded to keep the size at stride 1.
        s: Stride.
        g: Groups.
        act: Activation class, None for none.
        norm: The BatchNorm's settings.
    """

    def __init__(self, c1, c2, k=1, s=1, g=1, act=None, norm=Norm()):
        super().__init__(c1, c2, k, s, g=g, act=act(inplace=True) if act else False)
        self.bn = BatchNorm2d(c2, eps=norm.eps, momentum=norm.momentum)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scale each channel by a gate computed from all channels' means; (B, c, H, W) -> same.

    Args:
        c: Channels.
        squeezed: Channels between the two fully connected layers.
        act: Activation class between them.
        gate: Activation class of the gate.

    Source: Hu et al. 2018, https://arxiv.org/abs/1709.01507, figure 3; the hard gate is MobileNetV3's (section 5.3).
    """

    def __init__(self, c, squeezed, act=nn.ReLU, gate=nn.Hardsigmoid):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)  # a module, because the host's FLOP counter looks for one
        self.reduce = nn.Conv2d(c, squeezed, 1)
        self.act = act(inplace=True)
        self.expand = nn.Conv2d(squeezed, c, 1)
        self.gate = gate()

    def forward(self, x):
        scale = self.pool(x)  # (B, c, 1, 1)
        return x * self.gate(self.expand(self.act(self.reduce(scale))))


class InvertedResidual(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, squeeze-excite, project 1x1; (B, c1, H, W) -> (B, c2, H/s, W/s).

    The input is added where stride and channels allow it; the expansion is left out where it would not expand.

    Args:
        c1: Input channels.
        mid: Expanded channels.
        c2: Output channels.
        k: Depthwise kernel size.
        s: Stride.
        squeezed: Channels inside the squeeze-excite, 0 for none.
        act: Activation class.
        norm: The BatchNorms' settings.

    Source: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, figure 4; with squeeze-excite Howard et al. 2019,
    https://arxiv.org/abs/1905.02244, figure 4.
    """

    def __init__(self, c1, mid, c2, k=3, s=1, squeezed=0, act=nn.ReLU6, norm=Norm()):
        super().__init__()
        self.expand = ConvNormAct(c1, mid, act=act, norm=norm) if mid != c1 else nn.Identity()
        self.depthwise = ConvNormAct(mid, mid, k, s, g=mid, act=act, norm=norm)
        self.excite = SqueezeExcite(mid, squeezed) if squeezed else nn.Identity()
        self.project = ConvNormAct(mid, c2, norm=norm)
        self.add = s == 1 and c1 == c2

    def forward(self, x):
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.add else y


class Repeat(nn.Sequential):
    """A registered module several times in sequence: the first turns c1 into c2 channels, the others keep them."""

    def __init__(self, cls, *calls):
        super().__init__(*(cls(*arguments) for arguments in calls))


def round_channels(channels, divisor=8):
    """Round to a multiple of `divisor`, at least one and never down by more than a tenth (timm's and torchvision's)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def to_fast_layout(x):
    """Lay an image batch out channels-last on a CPU, where depthwise convolutions train up to 2.4 times as fast.

    The layout travels with the activations through the whole network. The weights stay as they are, so checkpoints
    do too. Nothing happens while a graph is recorded: exporters choose layouts themselves.
    """
    recorded = torch.jit.is_tracing() or torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
    if x.device.type != "cpu" or recorded:
        return x
    return x.contiguous(memory_format=torch.channels_last)
