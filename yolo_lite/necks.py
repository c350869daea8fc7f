"""Blocks for necks: ASPP, LR-ASPP, C3k2ExtraDW, ExtraDWFusion, and the rules for the shared blocks in YAML rows.

Channel arguments scale with the model's width like those of Ultralytics' own neck modules. Activation and BatchNorm
are Ultralytics' too (the YAML's `activation:` applies to them), unless the paper specifies another activation.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.block import C2f, C3k, PSABlock
from ultralytics.nn.modules.conv import Conv

from yolo_lite.blocks import (
    ULTRALYTICS_NORM,
    GhostModule,
    InvertedResidual,
    MobileMQA,
    ShuffleUnitV2,
    SqueezeExcite,
    UniversalInvertedBottleneck,
    round_channels,
    start_evenly,
)
from yolo_lite.errors import ConfigError
from yolo_lite.registry import Count, Factor, Heads, Kernel, KernelOrNone, Part, PartOrNone, Scale, Stride, register

ULTRALYTICS_ACT = True  # selects the default activation of Ultralytics' Conv

Call = tuple[list[Any], int]  # the constructor's arguments, output channels


@register(repeats="stack")
class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, dilated 3x3s and global mean, fused; (B, c1, H, W) -> (B, c2, H, W).

    The mean branch has no BatchNorm, so that a last batch of a single image can be trained on.

    Args:
        c1: Input channels.
        c2: Output channels of the module and of each branch.
        rates: Dilations of the 3x3 convolutions. The defaults have receptive fields of 5, 9 and 13 pixels, like the
            poolings of SPPF: on a map of 20 x 20 or smaller most taps of larger dilations (DeepLab's are 6, 12, 18)
            fall outside.
        separable: Whether the dilated convolutions are depthwise, each followed by a 1x1.

    Raises:
        ConfigError: A rate is below 1, or there are no rates.

    Source: Chen et al. 2017, https://arxiv.org/abs/1706.05587, figure 5; separable Chen et al. 2018,
    https://arxiv.org/abs/1802.02611, section 3.1.
    """

    def __init__(self, c1: int, c2: int, rates: list[int] = [2, 4, 6], separable: bool = False) -> None:  # noqa: B006 (it is only read)
        super().__init__()
        if not rates or min(rates) < 1:
            raise ConfigError(f"rates has to be one or more whole numbers from 1, found {list(rates)}")
        self.point = Conv(c1, c2, 1)
        self.dilated = nn.ModuleList(
            start_evenly(nn.Sequential(Conv(c1, c1, 3, g=c1, d=rate), Conv(c1, c2, 1)))
            if separable
            else Conv(c1, c2, 3, d=rate)
            for rate in rates
        )
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c1, c2, 1), Conv.default_act)
        self.project = Conv((len(rates) + 2) * c2, c2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.mean(x).expand(-1, -1, x.shape[2], x.shape[3])  # (B, c2, 1, 1) -> (B, c2, H, W)
        return self.project(torch.cat([self.point(x), *(branch(x) for branch in self.dilated), mean], 1))


@register(repeats="stack")
class LRASPP(nn.Module):
    """Lite reduced ASPP: a 1x1 convolution gated by the global mean; (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: Input channels.
        c2: Output channels.

    Source: Howard et al. 2019, MobileNetV3, https://arxiv.org/abs/1905.02244, figure 10, without its skip connection.
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.point = Conv(c1, c2, 1, act=nn.ReLU(inplace=True))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c1, c2, 1, bias=False), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.point(x) * self.gate(x)


def extra_dw(c: int, expansion: float = 2, k: int = 3, shortcut: bool = True) -> UniversalInvertedBottleneck:
    """Return MobileNetV4's ExtraDW block with Ultralytics' activation and BatchNorm; (B, c, H, W) -> same."""
    block = UniversalInvertedBottleneck(
        c, round_channels(c * expansion), c, k, k, act=ULTRALYTICS_ACT, norm=ULTRALYTICS_NORM
    )
    block.add = shortcut
    return block


def _c3k2(c1: int, scale: Scale, c2: int, c3k: bool = False, *args: Any) -> Call:
    """Rule like Ultralytics' for C3k2, which uses inner C3k blocks at the scales m, l and x."""
    c2 = scale.channels(c2)
    return [c1, c2, c3k or scale.letter in {"m", "l", "x"}, *args], c2


@register(rule=_c3k2, repeats="argument", legacy=False)
class C3k2ExtraDW(C2f):
    """YOLO11's C3k2 with ExtraDW blocks in place of its bottlenecks; (B, c1, H, W) -> (B, c2, H, W).

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Number of inner blocks.
        c3k: Whether the inner blocks are C3k, with their bottlenecks replaced.
        e: Ratio of inner channels to c2.
        attn: Whether each inner block is a bottleneck followed by attention, as in YOLO26's last C3k2.
        shortcut: Whether the inner bottlenecks have residual connections.
        expansion: Expansion ratio of the ExtraDW blocks.
        kernel: Kernel size of the depthwise convolutions in the ExtraDW blocks.

    Source: https://docs.ultralytics.com/models/yolo11 for C3k2; Qin et al. 2024, MobileNetV4,
    https://arxiv.org/abs/2404.10518, figure 4, for ExtraDW.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        c3k: bool = False,
        e: Part = 0.5,
        attn: bool = False,
        shortcut: bool = True,
        expansion: Factor = 2,
        kernel: Kernel = 3,
    ) -> None:
        super().__init__(c1, c2, 0, shortcut, 1, e)
        self.cv2 = Conv((2 + n) * self.c, c2, 1)
        block = partial(extra_dw, expansion=expansion, k=kernel, shortcut=shortcut)
        self.m = nn.ModuleList(self._inner(block, c3k, attn) for _ in range(n))

    def _inner(self, block: Callable[[int], nn.Module], c3k: bool, attn: bool) -> nn.Module:
        if attn:
            return nn.Sequential(block(self.c), PSABlock(self.c, attn_ratio=0.5, num_heads=max(self.c // 64, 1)))
        if not c3k:
            return block(self.c)
        inner = C3k(self.c, self.c, 0)
        inner.m = nn.Sequential(*(block(self.c // 2) for _ in range(2)))
        return inner


@register(inputs=2, repeats="once")
class ExtraDWFusion(nn.Module):
    """Add a second map to the main one: main + 1x1(depthwise(extra)); (B, c, H, W), (B, c', H*s, W*s) -> (B, c2, H, W).

    The main map is projected to c2 channels if it has another number. The module replaces Concat and C2f of an FPN or
    PAN.

    Args:
        c1: Input channels of the main and the extra map.
        c2: Output channels.
        k: Depthwise kernel size.
        s: Stride of the depthwise convolution, the ratio of the extra map's size to the main map's.

    Source: the first depthwise convolution of MobileNetV4's ExtraDW, https://arxiv.org/abs/2404.10518, figure 4, used
    for fusion.
    """

    def __init__(self, c1: Sequence[int], c2: int, k: Kernel = 3, s: Stride = 1) -> None:
        super().__init__()
        main, extra = c1
        self.main = nn.Identity() if main == c2 else Conv(main, c2, 1, act=False)
        depthwise = Conv(extra, extra, k, s, g=extra, act=False)
        self.extra = start_evenly(nn.Sequential(depthwise, Conv(extra, c2, 1, act=False)))

    def forward(self, x: Sequence[torch.Tensor]) -> torch.Tensor:
        main, extra = x
        return self.main(main) + self.extra(extra)


# Shared blocks as YAML rows -------------------------------------------------------------------------------------------


def _squeeze_excite(c1: int, scale: Scale, ratio: Factor = 0.25) -> Call:
    return [c1, round_channels(c1 * ratio)], c1


def _inverted_residual(
    c1: int,
    scale: Scale,
    c2: int,
    expansion: Factor = 4,
    k: Kernel = 3,
    s: Stride = 1,
    se: PartOrNone = 0.0,
) -> Call:
    c2, mid = scale.channels(c2), round_channels(c1 * expansion)
    excite = partial(SqueezeExcite, squeezed=round_channels(mid * se)) if se else None
    return [c1, mid, c2, k, s, excite, ULTRALYTICS_ACT, ULTRALYTICS_NORM], c2


def _universal(
    c1: int,
    scale: Scale,
    c2: int,
    expansion: Factor = 4,
    start: KernelOrNone = 3,
    k: KernelOrNone = 3,
    s: Stride = 1,
) -> Call:
    c2 = scale.channels(c2)
    if s != 1 and not (start or k):
        raise ConfigError(f"a stride needs a depthwise convolution, found start {start}, k {k}, s {s}")
    return [c1, round_channels(c1 * expansion), c2, start, k, s, ULTRALYTICS_ACT, ULTRALYTICS_NORM], c2


def _ghost(c1: int, scale: Scale, c2: int) -> Call:
    c2 = scale.channels(c2)
    return [c1, c2, nn.ReLU, False, ULTRALYTICS_NORM], c2


def _shuffle(c1: int, scale: Scale, c2: int, s: int = 1) -> Call:
    c2 = scale.channels(c2)
    if s not in (1, 2) or (s == 1 and c1 != c2):
        raise ConfigError(
            f"takes stride 2, or stride 1 and as many output channels as input channels ({c1}); found {c2}, stride {s}"
        )
    return [c1, c2, s, ULTRALYTICS_NORM], c2


def _attention(c1: int, scale: Scale, heads: Heads = 4, dim: Count = 64, kv_stride: Stride = 1) -> Call:
    return [c1, heads, dim, kv_stride, 3, ULTRALYTICS_NORM], c1


for block, rule in (
    (SqueezeExcite, _squeeze_excite),
    (InvertedResidual, _inverted_residual),
    (UniversalInvertedBottleneck, _universal),
    (GhostModule, _ghost),
    (ShuffleUnitV2, _shuffle),
    (MobileMQA, _attention),
):
    register(block, rule=rule)
