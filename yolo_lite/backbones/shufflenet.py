"""ShuffleNetV1 (three groups) and ShuffleNetV2.

Papers: Zhang et al. 2018, ShuffleNet, https://arxiv.org/abs/1707.01083 (table 1); Ma et al. 2018, ShuffleNetV2,
https://arxiv.org/abs/1807.11164 (table 5).
Reference of V2: torchvision's `shufflenet_v2_x0_5` to `_x2_0`. No package has V1; its tests compare it with the paper.
The last 1x1 convolution of V2, which only serves the classifier, is omitted.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from torch import nn

from yolo_lite.backbones._stage import Layer, Published, Stage, register_stage
from yolo_lite.blocks import ConvNormAct, ShuffleUnitV1, ShuffleUnitV2, round_channels

STEM = 24
REPEATS = (4, 8, 4)  # units of the stages 2, 3 and 4, which are the levels P3, P4 and P5
GROUPS = 3
V1_CHANNELS = (240, 480, 960)  # table 1, g = 3
V2_CHANNELS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704), 2.0: (244, 488, 976)}  # table 5


def _stem(c1: int, stem: int) -> Iterator[Layer]:
    """Yield P1 and P2: a convolution and a max pooling."""
    yield Layer(2, stem, partial(ConvNormAct, c1, stem, 3, 2, act=nn.ReLU))
    yield Layer(2, stem, partial(nn.MaxPool2d, 3, 2, 1))


@register_stage
class ShuffleNetV1Stage(Stage):
    """One level of ShuffleNetV1."""

    paper = "Zhang et al. 2018, https://arxiv.org/abs/1707.01083"
    variants = {"shufflenet_v1_g3": V1_CHANNELS}
    aliases = {"g3": "shufflenet_v1_g3"}

    @classmethod
    def layers(cls, channels: Sequence[int], c1: int, width: float) -> Iterator[Layer]:
        divisor = 4 * GROUPS  # the grouped convolutions have a quarter of a unit's channels
        stem = round_channels(STEM * width, divisor)
        yield from _stem(c1, stem)
        c1 = stem
        for index, (c, n) in enumerate(zip(channels, REPEATS, strict=True)):
            c2 = round_channels(c * width, divisor)
            for s in (2, *[1] * (n - 1)):
                yield Layer(s, c2, partial(ShuffleUnitV1, c1, c2, s, GROUPS, first=index == 0 and s == 2))
                c1 = c2


@register_stage
class ShuffleNetV2Stage(Stage):
    """One level of ShuffleNetV2; a width that matches one of the paper's four columns uses its channels."""

    paper = "Ma et al. 2018, https://arxiv.org/abs/1807.11164"
    variants = {f"shufflenet_v2_x{str(factor).replace('.', '_')}": factor for factor in V2_CHANNELS}
    published = {
        name: [Published("torchvision", "shufflenet_v2_x{factor}", base=factor)] for name, factor in variants.items()
    }
    aliases = {name.removeprefix("shufflenet_v2_"): name for name in variants}

    @classmethod
    def layers(cls, factor: float, c1: int, width: float) -> Iterator[Layer]:
        channels = V2_CHANNELS.get(factor * width) or [round_channels(c * width) for c in V2_CHANNELS[factor]]
        yield from _stem(c1, STEM)  # the paper never scales it
        c1 = STEM
        for c2, n in zip(channels, REPEATS, strict=True):
            for s in (2, *[1] * (n - 1)):
                yield Layer(s, c2, partial(ShuffleUnitV2, c1, c2, s))
                c1 = c2
