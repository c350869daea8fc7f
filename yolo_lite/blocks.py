"""Blocks shared by backbones and necks, built on Ultralytics' `Conv` so that its `fuse()` folds their BatchNorms."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv


class Norm(NamedTuple):
    """BatchNorm settings of a network; part of its definition, since state dicts do not contain them."""

    eps: float = 1e-5
    momentum: float = 0.1


ULTRALYTICS_NORM = Norm(eps=1e-3, momentum=0.03)  # settings that Ultralytics gives to its own BatchNorms
WEIGHT_STD = 0.025  # of initial convolution weights; PyTorch's default for a dense 3x3 with 64 input channels

Activation: TypeAlias = type[nn.Module] | bool | None  # a class that takes `inplace`; True is Ultralytics' default
Excite: TypeAlias = Callable[[int], nn.Module] | None  # builds the squeeze-excite for a number of channels
Module = TypeVar("Module", bound=nn.Module)


class BatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that keeps its own eps and momentum.

    Whenever Ultralytics builds a model, it overwrites both in every module whose type is exactly `nn.BatchNorm2d`,
    which would change the outputs of pretrained weights. Subclasses are not affected.
    """


class ConvNormAct(Conv):
    """Convolution, BatchNorm, activation; (B, c1, H, W) -> (B, c2, H/s, W/s).

    The weights are initialised by `start_evenly`.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size; the padding keeps the spatial size at stride 1.
        s: Stride.
        g: Groups.
        act: Activation class, None for no activation, True for Ultralytics' default.
        norm: BatchNorm settings.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int | tuple[int, int] = 1,
        s: int = 1,
        g: int = 1,
        act: Activation = None,
        norm: Norm = Norm(),
    ) -> None:
        super().__init__(c1, c2, k, s, g=g, act=act(inplace=True) if isinstance(act, type) else bool(act))
        self.bn = BatchNorm2d(c2, eps=norm.eps, momentum=norm.momentum)
        start_evenly(self)


def start_evenly(module: Module) -> Module:
    """Initialise all convolution weights of a module with the same standard deviation, in place; return the module.

    PyTorch's default initialisation gives a depthwise filter, with its nine inputs, weights eight times as large as
    those of a dense one. BatchNorm hides that in the output, but the steps of an optimizer like AdamW are then eight
    times smaller relative to the weights, and depthwise networks learn slowly: docs/design.md reports the loss in
    accuracy. The running variance is initialised to its value for inputs of unit power, so that the features of an
    untrained network do not vanish.

    Args:
        module: Module that contains Ultralytics' `Conv` modules (convolution and BatchNorm).
    """
    for each in module.modules():
        if isinstance(each, Conv):
            nn.init.normal_(each.conv.weight, std=WEIGHT_STD)
            _statistics(each.bn)[1].fill_(each.conv.weight[0].numel() * WEIGHT_STD**2)
    return module


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scale each channel by a gate computed from all channels' means; (B, c, H, W) -> same.

    Args:
        c: Input and output channels.
        squeezed: Channels between the two fully connected layers.
        act: Activation class between the two layers.
        gate: Activation class of the gate.

    Source: Hu et al. 2018, https://arxiv.org/abs/1709.01507, figure 3; the hard gate is MobileNetV3's (section 5.3).
    """

    def __init__(
        self, c: int, squeezed: int, act: type[nn.Module] = nn.ReLU, gate: type[nn.Module] = nn.Hardsigmoid
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)  # a module, so that Ultralytics' FLOP counter finds it
        self.reduce = nn.Conv2d(c, squeezed, 1)
        self.act = act(inplace=True)
        self.expand = nn.Conv2d(squeezed, c, 1)
        self.gate = gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.pool(x)  # (B, c, 1, 1)
        return x * self.gate(self.expand(self.act(self.reduce(scale))))


class InvertedResidual(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, squeeze-excite, project 1x1; (B, c1, H, W) -> (B, c2, H/s, W/s).

    The residual is added if the stride is 1 and c1 equals c2; the expansion is omitted if mid equals c1.

    Args:
        c1: Input channels.
        mid: Expanded channels.
        c2: Output channels.
        k: Depthwise kernel size.
        s: Stride.
        excite: Function that builds the squeeze-excite for a number of channels, None for no squeeze-excite.
        act: Activation class.
        norm: BatchNorm settings.
        skip: Whether the residual connection is allowed.

    Source: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, figure 4; with squeeze-excite Howard et al. 2019,
    https://arxiv.org/abs/1905.02244, figure 4.
    """

    def __init__(
        self,
        c1: int,
        mid: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        excite: Excite = None,
        act: Activation = nn.ReLU6,
        norm: Norm = Norm(),
        skip: bool = True,
    ) -> None:
        super().__init__()
        self.expand = ConvNormAct(c1, mid, act=act, norm=norm) if mid != c1 else nn.Identity()
        self.depthwise = ConvNormAct(mid, mid, k, s, g=mid, act=act, norm=norm)
        self.excite = excite(mid) if excite else nn.Identity()
        self.project = ConvNormAct(mid, c2, norm=norm)
        self.add = skip and s == 1 and c1 == c2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.add else y


class FusedInvertedResidual(nn.Module):
    """Fused inverted residual: expand with a dense kxk convolution, project 1x1; (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args: see `InvertedResidual`.

    Source: Xiong et al. 2021, MobileDets, https://arxiv.org/abs/2004.14525, section 3.2.
    """

    def __init__(
        self, c1: int, mid: int, c2: int, k: int = 3, s: int = 1, act: Activation = nn.ReLU, norm: Norm = Norm()
    ) -> None:
        super().__init__()
        self.expand = ConvNormAct(c1, mid, k, s, act=act, norm=norm)
        self.project = ConvNormAct(mid, c2, norm=norm)
        self.add = s == 1 and c1 == c2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.expand(x))
        return x + y if self.add else y


class LayerScale(nn.Module):
    """Learned scale per channel, initialised to a small value; (B, c, H, W) -> same.

    Source: Touvron et al. 2021, https://arxiv.org/abs/2103.17239, equation 4.
    """

    def __init__(self, c: int, start: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((c,), start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma.view(1, -1, 1, 1)


class UniversalInvertedBottleneck(nn.Module):
    """Universal inverted bottleneck: [depthwise,] expand, [depthwise,] project; (B, c1, H, W) -> (B, c2, H/s, W/s).

    The two optional depthwise convolutions define its four variants: ExtraDW (both), IB (only the middle one), ConvNext
    (only the first one), FFN (none).

    Args:
        c1: Input channels.
        mid: Expanded channels.
        c2: Output channels.
        start: Kernel size of the first depthwise convolution, 0 to omit it.
        k: Kernel size of the middle depthwise convolution, 0 to omit it.
        s: Stride, applied by the middle depthwise convolution if present, otherwise by the first.
        act: Activation class.
        norm: BatchNorm settings.
        scale: Initial layer scale, None for no layer scale.

    Source: Qin et al. 2024, MobileNetV4, https://arxiv.org/abs/2404.10518, figure 4.
    """

    def __init__(
        self,
        c1: int,
        mid: int,
        c2: int,
        start: int = 3,
        k: int = 3,
        s: int = 1,
        act: Activation = nn.ReLU,
        norm: Norm = Norm(),
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.start = ConvNormAct(c1, c1, start, 1 if k else s, g=c1, norm=norm) if start else nn.Identity()
        self.expand = ConvNormAct(c1, mid, act=act, norm=norm)
        self.depthwise = ConvNormAct(mid, mid, k, s, g=mid, act=act, norm=norm) if k else nn.Identity()
        self.project = ConvNormAct(mid, c2, norm=norm)
        self.scale = nn.Identity() if scale is None else LayerScale(c2, scale)
        self.add = s == 1 and c1 == c2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.scale(self.project(self.depthwise(self.expand(self.start(x)))))
        return x + y if self.add else y


class MobileMQA(nn.Module):
    """Mobile multi-query attention: all heads share one key and one value; (B, c, H, W) -> same.

    Args:
        c: Input and output channels.
        heads: Number of attention heads.
        dim: Channels of each head's query, and of the shared key and value.
        kv_stride: Stride of the depthwise convolutions that downsample key and value.
        k: Kernel size of the depthwise convolutions that downsample key and value.
        norm: BatchNorm settings.
        scale: Initial layer scale, None for no layer scale.

    Source: Qin et al. 2024, MobileNetV4, https://arxiv.org/abs/2404.10518, section 4.2.
    """

    def __init__(
        self,
        c: int,
        heads: int = 4,
        dim: int = 64,
        kv_stride: int = 1,
        k: int = 3,
        norm: Norm = Norm(),
        scale: float | None = 1e-5,
    ) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.norm: nn.Module = BatchNorm2d(c, eps=norm.eps, momentum=norm.momentum)
        self.query = nn.Conv2d(c, heads * dim, 1, bias=False)
        self.key = self._shared(c, dim, kv_stride, k, norm)
        self.value = self._shared(c, dim, kv_stride, k, norm)
        self.output = nn.Conv2d(heads * dim, c, 1, bias=False)
        self.scale = nn.Identity() if scale is None else LayerScale(c, scale)

    @staticmethod
    def _shared(c: int, dim: int, stride: int, k: int, norm: Norm) -> nn.Module:
        project = nn.Conv2d(c, dim, 1, bias=False)
        return nn.Sequential(ConvNormAct(c, c, k, stride, g=c, norm=norm), project) if stride > 1 else project

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, h, w = x.shape
        y = self.norm(x)
        query = self.query(y).reshape(b, self.heads, self.dim, h * w).transpose(2, 3)  # (B, heads, HW, dim)
        key = self.key(y).flatten(2).unsqueeze(1)  # (B, 1, dim, hw)
        value = self.value(y).flatten(2).transpose(1, 2).unsqueeze(1)  # (B, 1, hw, dim)
        weights = (query @ key * self.dim**-0.5).softmax(-1)  # (B, heads, HW, hw)
        y = (weights @ value).transpose(2, 3).reshape(b, self.heads * self.dim, h, w)
        return x + self.scale(self.output(y))

    @property
    def folded(self) -> bool:
        """Return whether `fold` has been called."""
        return not isinstance(self.norm, nn.BatchNorm2d)

    def fold(self) -> None:
        """Replace the input BatchNorm by an equivalent depthwise 1x1 convolution, exact even at padded borders."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.norm = norm_as_conv(self.norm)


def norm_as_conv(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return the depthwise 1x1 convolution that is equivalent to a BatchNorm in eval mode."""
    mean, variance = _statistics(norm)
    conv = nn.Conv2d(norm.num_features, norm.num_features, 1, groups=norm.num_features).to(mean)
    with torch.no_grad():
        factor = norm.weight / torch.sqrt(variance + norm.eps)
        conv.weight.copy_(factor.view(-1, 1, 1, 1))
        conv.bias = nn.Parameter(norm.bias - mean * factor)
    return conv.requires_grad_(False)


def _statistics(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the running mean and variance of a BatchNorm, which all BatchNorms of this package have."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


class GhostModule(nn.Module):
    """Ghost module: 1x1 convolution for half the output, cheap depthwise for the rest; (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: Input channels.
        c2: Output channels.
        act: Activation class, None for no activation.
        dfc: Whether to gate the output with GhostNetV2's decoupled fully connected attention.
        norm: BatchNorm settings.

    Source: Han et al. 2020, https://arxiv.org/abs/1911.11907, figure 1 and equation 5; the attention Tang et al. 2022,
    https://arxiv.org/abs/2211.12905, figure 4.
    """

    def __init__(self, c1: int, c2: int, act: Activation = nn.ReLU, dfc: bool = False, norm: Norm = Norm()) -> None:
        super().__init__()
        half = -(-c2 // 2)
        self.c2 = c2
        self.primary = ConvNormAct(c1, half, act=act, norm=norm)
        self.cheap = ConvNormAct(half, half, 3, g=half, act=act, norm=norm)
        self.attention = (
            nn.Sequential(
                nn.AvgPool2d(2),
                ConvNormAct(c1, c2, norm=norm),
                ConvNormAct(c2, c2, (1, 5), g=c2, norm=norm),
                ConvNormAct(c2, c2, (5, 1), g=c2, norm=norm),
                nn.Sigmoid(),
            )
            if dfc
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        primary = self.primary(x)
        y = torch.cat((primary, self.cheap(primary)), 1)[:, : self.c2]
        if self.attention is None:
            return y
        return y * nn.functional.interpolate(self.attention(x), size=y.shape[2:], mode="nearest")


class GhostBottleneck(nn.Module):
    """Ghost bottleneck: two ghost modules around a strided depthwise convolution; (B, c1, H, W) -> (B, c2, H/s, W/s).

    Args:
        c1: Input channels.
        mid: Channels between the ghost modules.
        c2: Output channels.
        k: Depthwise kernel size.
        s: Stride.
        excite: Function that builds the squeeze-excite for a number of channels, None for no squeeze-excite.
        dfc: Whether the first ghost module has GhostNetV2's attention.
        norm: BatchNorm settings.

    Source: Han et al. 2020, https://arxiv.org/abs/1911.11907, figure 3.
    """

    def __init__(
        self,
        c1: int,
        mid: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        excite: Excite = None,
        dfc: bool = False,
        norm: Norm = Norm(),
    ) -> None:
        super().__init__()
        self.ghost1 = GhostModule(c1, mid, dfc=dfc, norm=norm)
        self.depthwise = ConvNormAct(mid, mid, k, s, g=mid, norm=norm) if s > 1 else nn.Identity()
        self.excite = excite(mid) if excite else nn.Identity()
        self.ghost2 = GhostModule(mid, c2, act=None, norm=norm)
        self.shortcut = (
            nn.Identity()
            if c1 == c2 and s == 1
            else nn.Sequential(ConvNormAct(c1, c1, k, s, g=c1, norm=norm), ConvNormAct(c1, c2, norm=norm))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ghost2(self.excite(self.depthwise(self.ghost1(x)))) + self.shortcut(x)


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Interleave the channels of the groups; (B, c, H, W) -> same."""
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class ShuffleUnitV1(nn.Module):
    """ShuffleNet unit: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; (B, c1, H, W) -> (B, c2, H/s, W/s).

    At stride 2 the input is average-pooled and concatenated instead of added.

    Args:
        c1: Input channels.
        c2: Output channels.
        s: Stride.
        groups: Groups of the 1x1 convolutions.
        first: Whether this is the network's first unit, whose first convolution is not grouped.
        norm: BatchNorm settings.

    Source: Zhang et al. 2018, https://arxiv.org/abs/1707.01083, figure 2 (b, c).
    """

    def __init__(self, c1: int, c2: int, s: int = 1, groups: int = 3, first: bool = False, norm: Norm = Norm()) -> None:
        super().__init__()
        mid, made = c2 // 4, c2 - c1 if s == 2 else c2
        self.groups = groups
        self.reduce = ConvNormAct(c1, mid, g=1 if first else groups, act=nn.ReLU, norm=norm)
        self.depthwise = ConvNormAct(mid, mid, 3, s, g=mid, norm=norm)
        self.expand = ConvNormAct(mid, made, g=groups, norm=norm)
        self.pool = nn.AvgPool2d(3, 2, 1) if s == 2 else None
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(self.depthwise(channel_shuffle(self.reduce(x), self.groups)))
        return self.act(x + y if self.pool is None else torch.cat((self.pool(x), y), 1))


class ShuffleUnitV2(nn.Module):
    """ShuffleNetV2 unit: split, transform one half, concatenate, shuffle; (B, c1, H, W) -> (B, c2, H/s, W/s).

    At stride 2 both branches process the whole input.

    Args:
        c1: Input channels, equal to c2 at stride 1.
        c2: Output channels, an even number.
        s: Stride, 1 or 2.
        norm: BatchNorm settings.

    Source: Ma et al. 2018, https://arxiv.org/abs/1807.11164, figure 3 (c, d).
    """

    def __init__(self, c1: int, c2: int, s: int = 1, norm: Norm = Norm()) -> None:
        super().__init__()
        half = c2 // 2
        c1 = c1 if s == 2 else half
        self.left = (
            nn.Sequential(ConvNormAct(c1, c1, 3, 2, g=c1, norm=norm), ConvNormAct(c1, half, act=nn.ReLU, norm=norm))
            if s == 2
            else None
        )
        self.right = nn.Sequential(
            ConvNormAct(c1, half, act=nn.ReLU, norm=norm),
            ConvNormAct(half, half, 3, s, g=half, norm=norm),
            ConvNormAct(half, half, act=nn.ReLU, norm=norm),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, 1) if self.left is None else (self.left(x), x)
        return channel_shuffle(torch.cat((left, self.right(right)), 1), 2)


class Repeat(nn.Sequential):
    """Sequence of instances of one registered module; the first maps c1 to c2 channels, the others keep c2."""

    def __init__(self, cls: Callable[..., nn.Module], *calls: Sequence[Any]) -> None:
        super().__init__(*(cls(*arguments) for arguments in calls))


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, at least `divisor`, never down by over 10 % (as in timm and torchvision)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def to_fast_layout(x: torch.Tensor) -> torch.Tensor:
    """Convert an image batch to channels-last on a CPU, where depthwise convolutions then train up to 2.4 times faster.

    The memory format propagates with the activations through the whole network. The weights, and so the checkpoints,
    stay unchanged. The input is returned as it is while a graph is traced or exported: exporters choose layouts
    themselves.
    """
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]  # documented, but not in torch's `__all__`
    recorded = tracing or torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
    if x.device.type != "cpu" or recorded:
        return x
    return x.contiguous(memory_format=torch.channels_last)
