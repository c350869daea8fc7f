"""Selection of the source channels that a target layer reproduces if it has fewer channels."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from ultralytics.nn.modules.block import PSABlock
from ultralytics.nn.modules.conv import Conv

from yolo_lite.weights.regression import choose, covariance
from yolo_lite.weights.roles import Layer, Origins, Part, Unit, convolution, is_depthwise, layers_of, outputs_of
from yolo_lite.weights.sampling import Given

Choice: TypeAlias = Literal["read", "explained", "gamma", "even"]
Channel: TypeAlias = tuple[Layer, int]  # an output channel of a source layer
StandsFor: TypeAlias = list[Channel | None]  # the source channel of each target output channel

LEAST_READ = 1e-3  # importance of a channel that no layer is known to read, relative to the mean


def affine(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scale and shift that a layer's BatchNorm applies, (C,) each; 1 and 0 without a BatchNorm."""
    norm = getattr(layer, "bn", None)
    if not isinstance(norm, nn.BatchNorm2d):
        ones = torch.ones(outputs_of(layer), device=convolution(layer).weight.device)
        return ones, torch.zeros_like(ones)
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale.detach(), (norm.bias - norm.running_mean * scale).detach()


def variance_of(layer: Layer) -> torch.Tensor:
    """Return the running variance of a layer's BatchNorm, (C,); 1 without a BatchNorm."""
    norm = getattr(layer, "bn", None)
    if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
        return norm.running_var
    return torch.ones_like(affine(layer)[0])


def counterpart(part: Part, other: Part | None) -> Part | None:
    """Return the source's part if the target's part can be fitted to it, else None.

    Either both or neither of them are added to another map, and attention needs the same number of heads and channels.
    """
    if other is None or bool(part.tie) != bool(other.tie):
        return None
    if isinstance(part.block, PSABlock):
        ours, theirs = ([outputs_of(layer) for layer in layers_of(each.block)] for each in (part, other))
        blocks: list[Any] = [part.block, other.block]
        if ours != theirs or blocks[0].attn.num_heads != blocks[1].attn.num_heads:
            return None
    return other


class Chooser:
    """Selects channels of the source, the same ones for maps that are added to each other.

    Args:
        units: Units of the source.
        origins: Origins of the input channels of the source's layers.
        given: Recorded outputs of the source's layers.
        choice: Criterion: channels that explain most of all channels, weighted by the weights of the layers that read
            them (read) or unweighted (explained); channels with the largest |gamma| (gamma); or evenly spaced channels
            (even).
    """

    def __init__(self, units: Sequence[Unit], origins: Origins, given: Given, choice: Choice) -> None:
        self.origins, self.given, self.choice = origins, given, choice
        self.worth = _worth(units, origins)

    def choose(self, tied: Sequence[Part], count: int) -> list[int]:
        """Choose `count` channels of one part, or of parts that are added to each other, by their index in the part."""
        size = tied[0].stop - tied[0].start
        if count >= size:
            return list(range(size))
        if self.choice == "even":
            return [int((index + 0.5) * size / count) for index in range(count)]
        if self.choice == "gamma":
            gammas = [
                part.layer.bn.weight[part.start : part.stop].abs() for part in tied if isinstance(part.layer, Conv)
            ]
            gamma = torch.stack(gammas).sum(0) if gammas else torch.arange(size, 0, -1)
            return sorted(gamma.topk(count).indices.tolist())
        batches = self.given.images.batches
        maps = [torch.cat([self.activated(part, batch).flatten(0, 1).cpu() for batch in batches]) for part in tied]
        worth = torch.ones(size, dtype=torch.float64)
        if self.choice == "read":
            worth = torch.stack([self.worth[part.layer][part.start : part.stop] for part in tied]).sum(0).sqrt()
            worth = worth + LEAST_READ * worth.mean() if bool(worth.any()) else torch.ones_like(worth)
        return choose(covariance(maps), worth, count)

    def through(self, layer: Layer, other: Part | None, origins: Origins, came: Mapping[Layer, StandsFor]) -> StandsFor:
        """Return the source channels of a depthwise layer's outputs, which follow from those of its inputs.

        Args:
            layer: Depthwise layer of the target.
            other: Counterpart of the layer in the source, None if it has none.
            origins: Origins of the input channels of the target's layers.
            came: Source channels of the outputs of the target's layers so far.
        """
        stands_for: StandsFor = [None] * outputs_of(layer)
        if other is None or not is_depthwise(other.layer):
            return stands_for
        places = {origin: place for place, origin in enumerate(self.origins[other.layer]) if origin is not None}
        for index, origin in enumerate(origins.get(layer, ())):
            if origin is not None and origin[0] in came:
                place = places.get(came[origin[0]][origin[1]])  # type: ignore[arg-type,index]  # None is no key
                stands_for[index] = None if place is None else (other.layer, place)
        return stands_for

    def activated(self, part: Part, batch: int) -> torch.Tensor:
        """Return the output of a part after its activation: (B, P, C)."""
        out = self.given.get(part.layer, batch)
        if isinstance(part.layer, nn.ConvTranspose2d):
            return out[..., ::4][..., part.start : part.stop]
        if isinstance(part.layer, Conv):
            scale, shift = affine(part.layer)
            out = part.layer.act(out * scale + shift)
        return out[..., part.start : part.stop]


def _worth(units: Sequence[Unit], origins: Origins) -> dict[Layer, torch.Tensor]:
    """Return the importance of each output channel: the sum of squares of the weights that read it."""
    worth = {
        layer: torch.zeros(outputs_of(layer), dtype=torch.float64) for unit in units for layer in layers_of(unit.module)
    }
    for layer, read in origins.items():
        conv = convolution(layer)
        weight = conv.weight.detach().double().cpu().pow(2)
        if isinstance(layer, nn.ConvTranspose2d):
            squares = weight.sum((1, 2, 3))
        else:
            scaled = weight.sum((2, 3)) * affine(layer)[0].double().cpu()[:, None] ** 2  # (c2, c1 / g)
            squares = scaled.unflatten(0, (conv.groups, -1)).sum(1).flatten()
        for square, origin in zip(squares, read, strict=True):
            if origin is not None and origin[0] is not None:
                worth[origin[0]][origin[1]] += square
    return worth
