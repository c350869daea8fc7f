"""Copy the weights of the selected channels as they are: a transfer without its regression, as a comparison.

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
    """Return weights and biases of a layer's outputs: those of the source channels for the same inputs.

    Args:
        layer: Layer of the target.
        channels: Source channels that the layer's outputs reproduce.
        origins: Origins of the input channels of the target's layers.
        their_origins: Origins of the input channels of the source's layers.
        came: Source channels that the outputs of the target's layers reproduce.

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
    """Convert taps (..., k, k) to another kernel size: summed for 1x1, otherwise centred, zero-padded or cropped."""
    if taps.shape[-2:] == kernel:
        return taps
    if kernel == (1, 1):
        return taps.sum((-2, -1), keepdim=True)
    down, along = ((size - have) // 2 for size, have in zip(kernel, taps.shape[-2:], strict=True))
    return nn.functional.pad(taps, (along, along, down, down))  # negative padding crops
