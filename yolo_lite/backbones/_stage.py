"""Base class of all native families: a network as a sequence of layers, split at its strides into stages P1 to P5."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import nn

from yolo_lite.blocks import (
    ConvNormAct,
    InvertedResidual,
    Norm,
    SqueezeExcite,
    round_channels,
    to_fast_layout,
)
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.registry import Scale, register

LEVELS = 5
AnyStage = TypeVar("AnyStage", bound="type[Stage]")


class Layer(NamedTuple):
    """Description of one layer of a network, which `build` creates."""

    stride: int
    channels: int  # output channels
    build: Callable[[], nn.Module]


class Stack(NamedTuple):
    """Row of repeated inverted residuals, in the notation of MobileNetV2's table 2."""

    t: int  # expansion ratio
    c: int  # output channels
    n: int  # repeats
    s: int  # stride of the first block
    k: int = 3  # depthwise kernel size
    se: float = 0.0  # ratio of squeezed channels to a block's input channels, 0 for no squeeze-excite


class Published(NamedTuple):
    """Package and name template of a variant's published ImageNet weights."""

    package: Literal["timm", "torchvision"]
    template: str  # {percent}: width in hundredths; {factor}: width like 0_5 or 1_0; without either, only at width 1
    base: float = 1.0  # factor in the template that corresponds to width 1


def inverted_residuals(
    c1: int,
    stem: int,
    rows: Sequence[Stack],
    width: float,
    act: type[nn.Module],
    norm: Norm = Norm(),
    gate: type[nn.Module] = nn.Sigmoid,
) -> Iterator[Layer]:
    """Yield the layers of a network that consists of a 3x3 convolution and stacks of inverted residuals.

    Args:
        c1: Channels of the image.
        stem: Output channels of the first convolution.
        rows: Architecture table of the network.
        width: Width multiplier.
        act: Activation class of blocks and squeeze-excites.
        norm: BatchNorm settings.
        gate: Activation class of the squeeze-excite gates.
    """
    yield Layer(2, stem, partial(ConvNormAct, c1, stem, 3, 2, act=act, norm=norm))
    c1 = stem
    for row in rows:
        c2 = round_channels(row.c * width)
        for index in range(row.n):
            s = row.s if index == 0 else 1
            excite = partial(SqueezeExcite, squeezed=round(c1 * row.se), act=act, gate=gate) if row.se else None
            # A block without expansion is a depthwise separable convolution; the first one of a network has no skip.
            build = partial(InvertedResidual, c1, c1 * row.t, c2, row.k, s, excite, act, norm, skip=row.t > 1)
            yield Layer(s, c2, build)
            c1 = c2


class Stage(nn.Sequential):
    """Level Pk of a backbone: all layers with outputs at stride 2**k; (B, c1, H, W) -> (B, channels, H/2, W/2).

    A family defines a subclass with `variants` and `layers`, and registers it with `register_stage`.

    Args:
        c1: Input channels: those of the image at level 1, otherwise those of the previous level.
        variant: Name in `variants` or `aliases`.
        level: Level, 1 to 5.
        width: Width multiplier alpha.
        edge: Whether to use ReLU6 instead of h-swish and SiLU, and no squeeze-excite.

    Raises:
        ConfigError: The variant is unknown. The rule of `register_stage` checks level and c1.
    """

    paper: ClassVar[str] = ""  # citation for the headers of YAMLs
    variants: ClassVar[dict[str, Any]] = {}  # name -> configuration for the family's `layers`
    aliases: ClassVar[dict[str, str]] = {}  # short name for YAML rows -> name in `variants`
    published: ClassVar[dict[str, list[Published]]] = {}  # name in `variants` -> published weights

    @classmethod
    def layers(cls, variant: Any, c1: int, width: float) -> Iterator[Layer]:
        """Yield the layers of the network in order.

        Args:
            variant: Value of `variants`.
            c1: Channels of the image.
            width: Width multiplier.
        """
        raise NotImplementedError

    @classmethod
    def reference_name(cls, name: str) -> str:
        """Return the reference network's name of a tensor of `Backbone`, "" if tensors are matched by their order.

        Args:
            name: Name of the tensor in `Backbone`, starting with stage and layer, like `0.1.conv.weight`.
        """
        return ""

    @classmethod
    def plan(cls, variant: str, c1: int = 3, width: float = 1.0) -> list[list[Layer]]:
        """Return the layers of each level, P1 first.

        Args:
            variant: Name in `variants` or `aliases`.
            c1: Channels of the image.
            width: Width multiplier.

        Raises:
            ConfigError: The variant is unknown.
        """
        levels: list[list[Layer]] = [[] for _ in range(LEVELS + 1)]
        level = 0
        for layer in cls.layers(cls.variants[cls.resolve(variant)], c1, width):
            level += {1: 0, 2: 1}[layer.stride]
            levels[level].append(layer)
        return levels[1:]

    @classmethod
    def resolve(cls, variant: str) -> str:
        """Return the full name of a variant.

        Raises:
            ConfigError: The variant is unknown.
        """
        name = cls.aliases.get(variant, variant)
        if name not in cls.variants:
            raise ConfigError(f"unknown variant {variant!r}{suggest(variant, [*cls.aliases, *cls.variants])}")
        return name

    @classmethod
    def has_edge_form(cls, variant: str) -> bool:
        """Return whether `edge` changes a variant; False for variants designed for edge devices."""
        with torch.device("meta"):  # allocates no memory and draws no random numbers
            layers = nn.ModuleList(layer.build() for level in cls.plan(variant) for layer in level)
        return any(isinstance(module, DISLIKED) for module in layers.modules())

    def __init__(self, c1: int, variant: str, level: int, width: float = 1.0, edge: bool = False) -> None:
        super().__init__(*(layer.build() for layer in self.plan(variant, c1, width)[level - 1]))
        self.level = level
        if edge:
            for_edge(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = super().forward(to_fast_layout(x) if self.level == 1 else x)
        return y


DISLIKED = (nn.Hardswish, nn.SiLU, SqueezeExcite)  # poorly supported by edge compilers and inaccurate in int8


def for_edge(module: nn.Module) -> None:
    """Replace h-swish and SiLU by ReLU6 and remove squeeze-excites, for edge compilers and int8.

    Source: the changes of EfficientNet-Lite to EfficientNet,
    https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html.
    """
    for name, child in module.named_children():
        if isinstance(child, SqueezeExcite):
            setattr(module, name, nn.Identity())
        elif isinstance(child, DISLIKED):
            setattr(module, name, nn.ReLU6(inplace=True))
        else:
            for_edge(child)


def register_stage(cls: AnyStage) -> AnyStage:
    """Register a family's stage class under its class name; its YAML rows take the arguments [variant, level]."""

    def rule(c1: int, scale: Scale, variant: str, level: int) -> tuple[list[Any], int]:
        variant = cls.resolve(variant)
        if not 1 <= level <= LEVELS:
            raise ConfigError(f"level has to be 1 to {LEVELS}, found {level}")
        plan = cls.plan(variant, c1 if level == 1 else 3, scale.backbone_width)
        takes = c1 if level == 1 else plan[level - 2][-1].channels
        if c1 != takes:
            raise ConfigError(
                f"level {level} of {variant} expects the {takes} channels of its level {level - 1} "
                f"(backbone_width {scale.backbone_width:g}), the row before has {c1}"
            )
        edge = [True] if scale.backbone_edge else []
        return [c1, variant, level, scale.backbone_width, *edge], plan[level - 1][-1].channels

    return register(cls, rule=rule, repeats="once")
