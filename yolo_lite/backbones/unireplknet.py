"""UniRepLKNet with large depthwise kernels, trained with parallel dilated ones; variants A, F and P.

Paper: Ding et al. 2024, UniRepLKNet, https://arxiv.org/abs/2311.15599 (section 3.2 and table 2).
Reference: the authors' code, https://github.com/AILab-CVC/UniRepLKNet (Apache-2.0), with the rows for depths
(2, 2, 6, 2). No package has it, so the tests compare it with an independent derivation. The norm and the classifier
after the last stage are omitted.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from yolo_lite.backbones._stage import Layer, Stage, register_stage
from yolo_lite.blocks import BatchNorm2d, SqueezeExcite, round_channels

DILATED = ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5))  # (kernel size, dilation) of the branches parallel to a 13x13
LARGE = 13  # the largest kernel size, used in stages 2 to 4
START = 1e-6  # initial layer scale
WEIGHT_STD = 0.02  # standard deviation of the initial weights of convolutions and linear layers


NAMES = [  # prefixes of a block's tensor names here and in the authors' code
    ("depthwise.large.0.", "dwconv.lk_origin."),
    ("depthwise.large.1.", "dwconv.origin_bn."),
    *((f"depthwise.dilated.{i}.0.", f"dwconv.dil_conv_k{k}_{d}.") for i, (k, d) in enumerate(DILATED)),
    *((f"depthwise.dilated.{i}.1.", f"dwconv.dil_bn_k{k}_{d}.") for i, (k, d) in enumerate(DILATED)),
    ("depthwise.", "dwconv."),
    ("excite.reduce.", "se.down."),
    ("excite.expand.", "se.up."),
    ("expand.", "pwconv1.1."),
    ("grn.", "act.1."),
    ("project_norm.", "pwconv2.2."),
    ("project.", "pwconv2.0."),
]


class Row(NamedTuple):
    """Stage with its channels, number of blocks and depthwise kernel size."""

    c: int
    n: int
    k: int


def rows(c: int) -> list[Row]:
    """Return the four stages of the light variants, which only differ in the channels of the first stage."""
    return [Row(c, 2, 3), Row(2 * c, 2, LARGE), Row(4 * c, 6, LARGE), Row(8 * c, 2, LARGE)]


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel; (B, c, H, W) -> same."""

    def __init__(self, c: int) -> None:
        super().__init__(c, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def downsample(c1: int, c2: int, act: bool = False) -> nn.Sequential:
    """Return a strided 3x3 convolution, layer norm and optional GELU (stem); (B, c1, H, W) -> (B, c2, H/2, W/2)."""
    conv = nn.Conv2d(c1, c2, 3, 2, 1)
    _start(conv)
    return nn.Sequential(conv, LayerNorm2d(c2), *([nn.GELU()] if act else []))


class DilatedReparam(nn.Module):
    """Depthwise 13x13 convolution with parallel dilated ones, which `merge` combines; (B, c, H, W) -> same.

    Source: Ding et al. 2024, https://arxiv.org/abs/2311.15599, section 3.1 and figure 2.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.large = _depthwise(c, LARGE)
        self.dilated: Any = nn.ModuleList(_depthwise(c, k, dilation) for k, dilation in DILATED)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.large(x)
        for branch in self.dilated:
            y = y + branch(x)
        return y

    @torch.no_grad()
    def merge(self) -> nn.Conv2d:
        """Return the single convolution that is equivalent in eval mode."""
        merged, branches = _merged(*self.large), [_merged(*branch) for branch in self.dilated]
        for conv, (k, dilation) in zip(branches, DILATED, strict=True):
            reach = dilation * (k // 2)
            places = slice(LARGE // 2 - reach, LARGE // 2 + reach + 1, dilation)
            merged.weight[:, :, places, places] += conv.weight
            _bias(merged).add_(_bias(conv))
        return merged


class GRN(nn.Module):
    """Global response normalisation: channels compete by the norm of their maps; (B, H, W, c) -> same.

    Source: Woo et al. 2023, ConvNeXt V2, https://arxiv.org/abs/2301.00808, section 3.2.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, c))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, c))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * _response(x, self.gamma, (1, 2), 3) + self.beta


def _response(x: torch.Tensor, gamma: torch.Tensor, space: tuple[int, int], channel: int) -> torch.Tensor:
    """Return 1 + gamma * N, where N is the norm of a channel's map divided by the mean norm of all channels."""
    norm = torch.linalg.vector_norm(x, dim=space, keepdim=True)
    return 1 + gamma * (norm / (norm.mean(channel, keepdim=True) + 1e-6))


class FoldedFeedForward(nn.Module):
    """Feed-forward part of a folded block: 1x1 convolution, GELU, GRN, 1x1 convolution; (B, c, H, W) -> same."""

    def __init__(self, expand: nn.Conv2d, gamma: torch.Tensor, project: nn.Conv2d) -> None:
        super().__init__()
        self.expand, self.act, self.project = expand, nn.GELU(), project
        # a permuted gamma would have channels-last strides, which ExecuTorch would interpret as another shape
        self.gamma = nn.Parameter(gamma.reshape(1, -1, 1, 1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.expand(x))
        return self.project(x * _response(x, self.gamma, (2, 3), 1))


class UniRepLKBlock(nn.Module):
    """Depthwise convolution, squeeze-excite, feed-forward with GRN, added to the input; (B, c, H, W) -> same.

    Args:
        c: Input and output channels.
        k: Kernel size of the depthwise convolution, 3 or 13; a 13x13 has parallel dilated branches.

    Source: Ding et al. 2024, https://arxiv.org/abs/2311.15599, figure 2; tensors in the order of the authors' code.
    """

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((c,), START))  # layer scale
        self.depthwise: nn.Module = (
            DilatedReparam(c) if k == LARGE else nn.Conv2d(c, c, k, padding=k // 2, groups=c, bias=False)
        )
        self.norm: nn.Module = BatchNorm2d(c)
        self.excite = SqueezeExcite(c, c // 4, gate=nn.Sigmoid)
        self.expand: nn.Module = nn.Linear(c, 4 * c)
        self.act = nn.GELU()
        self.grn = GRN(4 * c)
        self.project = nn.Linear(4 * c, c, bias=False)
        self.project_norm = BatchNorm2d(c)
        for module in self.modules():
            _start(module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.excite(self.norm(self.depthwise(x)))
        if self.folded:
            return x + self.expand(y)
        y = self.project(self.grn(self.act(self.expand(y.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)
        return x + self.gamma.view(1, -1, 1, 1) * self.project_norm(y)

    @property
    def folded(self) -> bool:
        """Return whether `fold` has been called."""
        return isinstance(self.expand, FoldedFeedForward)

    @torch.no_grad()
    def fold(self) -> None:
        """Merge branches, BatchNorms and layer scale, and convert the linear layers to 1x1 convolutions."""
        if self.folded:
            return
        depthwise: Any = self.depthwise.merge() if isinstance(self.depthwise, DilatedReparam) else self.depthwise
        self.depthwise = _merged(depthwise, self.norm)
        project = _merged(_as_conv(self.project), self.project_norm)
        _bias(project).add_(project.weight.flatten(1) @ self.grn.beta.flatten()).mul_(self.gamma)
        project.weight.mul_(self.gamma.view(-1, 1, 1, 1))
        self.expand = FoldedFeedForward(_as_conv(self.expand), self.grn.gamma, project)
        self.norm = nn.Identity()
        del self.gamma, self.act, self.grn, self.project, self.project_norm


def _depthwise(c: int, k: int, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c, c, k, padding=dilation * (k // 2), dilation=dilation, groups=c, bias=False)
    return nn.Sequential(conv, BatchNorm2d(c))


def _start(module: nn.Module) -> None:
    """Initialise a convolution or linear layer as the authors' code does."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=WEIGHT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None
    return conv.bias


def _as_conv(linear: Any) -> nn.Conv2d:
    """Return the 1x1 convolution that is equivalent to a linear layer applied to every pixel."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None).to(linear.weight)
    conv.weight.copy_(linear.weight[:, :, None, None])
    if linear.bias is not None:
        _bias(conv).copy_(linear.bias)
    return conv.requires_grad_(False)


def _merged(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    """Return a convolution's weights merged with the BatchNorm after it, as a convolution with bias, not dilated."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    k, groups = conv.kernel_size[0], conv.groups
    merged = nn.Conv2d(conv.in_channels, conv.out_channels, k, padding=k // 2, groups=groups).to(conv.weight)
    merged.weight.copy_(conv.weight * factor.view(-1, 1, 1, 1))
    bias = 0 if conv.bias is None else conv.bias
    _bias(merged).copy_((bias - norm.running_mean) * factor + norm.bias)
    return merged.requires_grad_(False)


@register_stage
class UniRepLKNetStage(Stage):
    """One level of UniRepLKNet."""

    paper = "Ding et al. 2024, https://arxiv.org/abs/2311.15599"
    variants = {"unireplknet_a": rows(40), "unireplknet_f": rows(48), "unireplknet_p": rows(64)}  # table 2

    @classmethod
    def layers(cls, rows: list[Row], c1: int, width: float) -> Iterator[Layer]:
        stem = round_channels(rows[0].c * width) // 2
        yield Layer(2, stem, partial(downsample, c1, stem, act=True))
        c1 = stem
        for row in rows:
            c2 = round_channels(row.c * width)
            yield Layer(2, c2, partial(downsample, c1, c2))
            for _ in range(row.n):
                yield Layer(1, c2, partial(UniRepLKBlock, c2, row.k))
            c1 = c2

    @classmethod
    def reference_name(cls, name: str) -> str:
        """Return the name of a tensor in the authors' code, where all downsampling layers precede the stages."""
        stage, layer, rest = name.split(".", 2)
        number = int(stage) - 1
        if layer == "0":
            index, _, kind = rest.partition(".")
            return f"downsample_layers.{max(number, 0)}.{int(index) + 3 * (number == 0)}.{kind}"
        block = f"stages.{number}.{int(layer) - 1}."
        for ours, theirs in NAMES:
            if rest.startswith(ours):
                return f"{block}{theirs}{rest.removeprefix(ours)}"
        return block + rest
