"""What every native family shares: a network as a row of layers, cut into five stages, P1 to P5, at its strides."""

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
    """One layer of a network, described but not built yet."""

    stride: int
    channels: int  # that come out
    build: Callable[[], nn.Module]


class Stack(NamedTuple):
    """A row of repeated inverted residuals, in the letters of MobileNetV2's table 2."""

    t: int  # expansion
    c: int  # output channels
    n: int  # repeats
    s: int  # stride of the first
    k: int = 3  # depthwise kernel size
    se: float = 0.0  # squeezed channels, as a part of a block's input channels


class Published(NamedTuple):
    """Under which names a package publishes a variant's ImageNet weights."""

    package: Literal["timm", "torchvision"]
    template: str  # {percent}: the width in hundredths; {factor}: as 0_5 or 1_0; without either, only at width 1
    base: float = 1.0  # the factor that stands for width 1


def inverted_residuals(
    c1: int,
    stem: int,
    rows: Sequence[Stack],
    width: float,
    act: type[nn.Module],
    norm: Norm = Norm(),
    gate: type[nn.Module] = nn.Sigmoid,
) -> Iterator[Layer]:
    """Yield the layers of a network that is a 3x3 convolution and stacks of inverted residuals.

    Args:
        c1: The image's channels.
        stem: Channels of the first convolution.
        rows: The network's table.
        width: The width multiplier.
        act: Activation class, of squeeze-excites too.
        norm: The BatchNorms' settings.
        gate: Activation class of the squeeze-excites' gates.
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
    """Level Pk of a backbone: everything at stride 2**k; (B, c1, H, W) -> (B, channels, H/2, W/2).

    A family subclasses it with its `variants` and its `layers`, and registers the subclass with `register_stage`.

    Args:
        c1: Input channels: the image's at level 1, later those of the level before.
        variant: A name in `variants`.
        level: 1 to 5.
        width: The width multiplier alpha.
        edge: ReLU6 instead of h-swish and SiLU, and no squeeze-excite.

    Raises:
        ConfigError: No such variant or level, or c1 is not what the level takes.
    """

    paper: ClassVar[str] = ""  # for the headers of YAMLs
    variants: ClassVar[dict[str, Any]] = {}  # name -> whatever the family's `layers` needs to know of it
    aliases: ClassVar[dict[str, str]] = {}  # short name for YAML rows -> name in `variants`
    published: ClassVar[dict[str, list[Published]]] = {}  # name in `variants` -> where its weights are

    @classmethod
    def layers(cls, variant: Any, c1: int, width: float) -> Iterator[Layer]:
        """Yield the network's layers in order.

        Args:
            variant: A value of `variants`.
            c1: The image's channels.
            width: The width multiplier.
        """
        raise NotImplementedError

    @classmethod
    def reference_name(cls, name: str) -> str:
        """Return what the reference calls a tensor of `Backbone`, "" where tensors are matched by their order.

        Args:
            name: Ours, stage and layer first: `0.1.conv.weight`.
        """
        return ""

    @classmethod
    def plan(cls, variant: str, c1: int = 3, width: float = 1.0) -> list[list[Layer]]:
        """Return the layers of each level, P1 first.

        Args:
            variant: A name in `variants` or `aliases`.
            c1: The image's channels.
            width: The width multiplier.

        Raises:
            ConfigError: No such variant.
        """
        levels: list[list[Layer]] = [[] for _ in range(LEVELS + 1)]
        level = 0
        for layer in cls.layers(cls.variants[cls.resolve(variant)], c1, width):
            level += {1: 0, 2: 1}[layer.stride]
            levels[level].append(layer)
        return levels[1:]

    @classmethod
    def resolve(cls, variant: str) -> str:
        """Return a variant's full name.

        Raises:
            ConfigError: There is none of that name.
        """
        name = cls.aliases.get(variant, variant)
        if name not in cls.variants:
            raise ConfigError(f"unknown variant {variant!r}{suggest(variant, [*cls.aliases, *cls.variants])}")
        return name

    @classmethod
    def has_edge_form(cls, variant: str) -> bool:
        """Tell whether `edge` changes a variant; those that were made for edge devices stay as they are."""
        with torch.device("meta"):  # no memory, no random numbers
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


DISLIKED = (nn.Hardswish, nn.SiLU, SqueezeExcite)  # by edge compilers, and by int8


def for_edge(module: nn.Module) -> None:
    """Replace what edge compilers and int8 do badly: h-swish and SiLU by ReLU6, squeeze-excite by nothing.

    Source: what EfficientNet-Lite changed of EfficientNet,
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
    """Register a family's stage under its class name; a YAML row gives it [variant, level]."""

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
