"""Weights of the channels kept, taken as they are: what a transfer is without its regression, to compare it with.

Source: Xu et al. 2024, weight selection, https://arxiv.org/abs/2311.18823.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from yolo_lite.weights.channels import Channel, StandsFor
from yolo_lite.weights.roles import Layer, Origins, convolution


def taken(
    layer: Layer, channels: Sequence[Channel], origins: Origins, their_origins: Origins, came: Mapping[Layer, StandsFor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and biases of a layer's outputs: those that the source's channels have for the same inputs.

    Args:
        layer: Of the target.
        channels: What its outputs stand for.
        origins: What the target's layers read.
        their_origins: What the source's do.
        came: What the outputs of the target's layers stand for.

    Returns:
        (tuple): Weights (outputs, c1 / groups, k, k), 0 where the source has no such input, and biases (outputs,).
    """
    conv = convolution(layer)
    kernel = conv.kernel_size
    weight = torch.zeros(len(channels), conv.in_channels // conv.groups, *kernel)
    bias = torch.zeros(len(channels))
    read = [_stands_for(origin, came) for origin in origins.get(layer, ())]
    places = {
        other: {origin: place for place, origin in enumerate(their_origins[other]) if origin is not None}
        for other in {other for other, _ in channels}
    }
    for row, (other, channel) in enumerate(channels):
        theirs = convolution(other)
        given = theirs.weight.detach()[:, channel] if isinstance(other, nn.ConvTranspose2d) else theirs.weight[channel]
        if theirs.bias is not None:
            bias[row] = theirs.bias[channel]
        if conv.groups > 1:
            weight[row] = _fitted(given.detach(), kernel)
            continue
        for index, origin in enumerate(read):
            place = places[other].get(origin) if origin is not None else None
            if place is not None and place < len(given):
                weight[row, index] = _fitted(given[place].detach(), kernel)
    return weight, bias


def _stands_for(
    origin: tuple[Layer | None, int] | None, came: Mapping[Layer, StandsFor]
) -> tuple[Layer | None, int] | None:
    if origin is None or origin[0] is None:
        return origin  # a mixture, or a channel of the image
    return came[origin[0]][origin[1]] if origin[0] in came else None


def _fitted(taps: torch.Tensor, kernel: tuple[int, int]) -> torch.Tensor:
    """Return taps (..., k, k) as another kernel size has them: their sum for one of 1, else in the middle."""
    if taps.shape[-2:] == kernel:
        return taps
    if kernel == (1, 1):
        return taps.sum((-2, -1), keepdim=True)
    down, along = ((size - have) // 2 for size, have in zip(kernel, taps.shape[-2:], strict=True))
    return nn.functional.pad(taps, (along, along, down, down))  # negative paddings cut
