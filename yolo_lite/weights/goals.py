"""Desired outputs of a target layer, derived from the source layer with the same role."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv

from yolo_lite.weights.channels import Channel, Chooser, StandsFor, affine, variance_of
from yolo_lite.weights.head_targets import box_targets
from yolo_lite.weights.roles import Layer, Maps, Part, Unit, convolution, outputs_of
from yolo_lite.weights.sampling import Given, Running, at

SAME = 1e-4  # relative to the largest value: outputs that differ by less count as equal


@dataclass(frozen=True)
class Goal:
    """Desired values of a target layer's outputs.

    Attributes:
        own: Indices of the output channels that the goal covers.
        wanted: Function that returns the desired values before BatchNorm, (B, P, outputs), for the index of a batch's
            first image; a transposed convolution has four values per output.
        scale: Scale that BatchNorm has to apply, (outputs,).
        shift: Shift that BatchNorm has to add, (outputs,).
        variance: Running variance of the source's BatchNorm for these channels, (outputs,).
        source: Names of the source layers that the values come from.
    """

    own: list[int]
    wanted: Callable[[int], torch.Tensor]
    scale: torch.Tensor
    shift: torch.Tensor
    variance: torch.Tensor
    source: str


class Goals:
    """Derives the goals of the target's layers.

    Args:
        given: Recorded outputs of the source's layers.
        running: Target model, run unit by unit.
        chooser: Selects channels of the source.
        names: Names of all layers of source and target.
        classes: Class index of the target -> class index of the source.
        reg_max: Number of bins in the target's box branches.
    """

    def __init__(
        self,
        given: Given,
        running: Running,
        chooser: Chooser,
        names: Mapping[Layer, str],
        classes: Mapping[int, int],
        reg_max: int,
    ) -> None:
        self.given, self.running, self.chooser = given, running, chooser
        self.names, self.classes, self.reg_max = names, classes, reg_max

    def kept(
        self, unit: Unit, part: Part, other: Part, theirs: Sequence[Part], chosen: dict[str, list[int]]
    ) -> StandsFor:
        """Return the source channels that a part's outputs reproduce; None for outputs without a source channel."""
        count = part.stop - part.start
        if unit.ends and unit.section.endswith("cv2"):
            return [(other.layer, channel) for channel in range(count)]  # of the result of `box_targets`
        if unit.ends and unit.section.endswith("cv3"):
            return [(other.layer, self.classes[c]) if c in self.classes else None for c in range(count)]
        if unit.ends and count != other.stop - other.start:
            return [None] * count  # outputs with another meaning
        leader = part.tie or part.role
        if leader not in chosen:
            tied = [each for each in theirs if leader in (each.role, each.tie)] or [other]
            chosen[leader] = self.chooser.choose(tied, count)
        kept: StandsFor = [(other.layer, other.start + channel) for channel in chosen[leader]]
        return kept + [None] * (count - len(kept))

    def of(self, unit: Unit, layer: Layer, stands_for: StandsFor) -> Goal:
        """Return the goal of a layer's outputs, given the source channels that they reproduce."""
        channels: list[Channel] = [channel for channel in stands_for if channel is not None]
        own = [index for index, channel in enumerate(stands_for) if channel is not None]
        boxes = unit.ends and unit.section.endswith("cv2")
        phases = 4 if isinstance(layer, nn.ConvTranspose2d) else 1
        columns = [(other, channel * phases + phase) for other, channel in channels for phase in range(phases)]
        layers = list(dict.fromkeys(other for other, _ in channels))

        def wanted(batch: int) -> torch.Tensor:
            given = {other: self.given.get(other, batch) for other in layers}
            if boxes:
                given = {
                    k: box_targets(v.flatten(0, 1), self.reg_max).unflatten(0, v.shape[:2]) for k, v in given.items()
                }
            if len(layers) == 1:
                return given[layers[0]][..., [column for _, column in columns]]
            return torch.stack([given[other][..., column] for other, column in columns], -1)

        if boxes or not isinstance(layer, Conv):
            scale, shift, variance = torch.ones(len(own)), torch.zeros(len(own)), torch.ones(len(own))
        else:
            norms = {other: (*affine(other), variance_of(other)) for other in layers}
            columns_of = [[norms[other][i][channel] for other, channel in channels] for i in range(3)]
            scale, shift, variance = (torch.stack(each).cpu() for each in columns_of)
        return Goal(own, wanted, scale, shift, variance, ", ".join(self.names[other] for other in layers))

    def of_last(self, unit: Unit, layer: Layer, other: Part | None) -> Goal | None:
        """Return the goal of the last layer in a block of unknown type, so that the block reproduces its counterpart.

        None if there is no counterpart, or the layer's output is neither the block's output nor added to it.
        """
        out = unit.run(self.running.inputs(unit, 0))
        if (
            other is None
            or not isinstance(layer, Conv)
            or convolution(layer).groups > 1
            or not isinstance(out, torch.Tensor)
        ):
            return None
        rest = self.running.without(unit, layer, 0)
        if outputs_of(layer) != out.shape[1] or not self._is_added(unit, layer, out - rest):
            return None
        kept = self.chooser.choose([other], outputs_of(layer))
        own = list(range(len(kept)))
        if not isinstance(layer.act, nn.Identity):
            stands_for: StandsFor = [(other.layer, other.start + channel) for channel in kept]
            alone = not bool(rest.any()) and type(layer.act) is type(getattr(other.layer, "act", None))
            return self.of(unit, layer, stands_for + [None] * (outputs_of(layer) - len(kept))) if alone else None

        def wanted(batch: int) -> torch.Tensor:
            bypass = self.running.without(unit, layer, batch)[:, own]
            places = self.given.images.places((bypass.shape[2], bypass.shape[3]), batch)
            return self.chooser.activated(other, batch)[..., kept] - at(bypass, places)

        ones = torch.ones(len(own))
        return Goal(own, wanted, ones, torch.zeros(len(own)), ones, self.names[other.layer])

    def _is_added(self, unit: Unit, layer: Layer, difference: torch.Tensor) -> bool:
        """Return whether `difference`, the unit's output with minus without a layer, is that layer's output."""
        found: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda _, args, out: found.append(out))
        try:
            unit.run(self.running.inputs(unit, 0))
        finally:
            handle.remove()
        return alike(difference, found[0])


def alike(a: Maps, b: Maps) -> bool:
    """Return whether two outputs are equal up to rounding."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool((a - b).abs().max() <= SAME * b.abs().max().clamp(min=1e-6))
    return isinstance(a, list | tuple) and len(a) == len(b) and all(map(alike, a, b))
