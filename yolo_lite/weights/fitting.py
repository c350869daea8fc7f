"""The transfer itself: unit by unit of the target, what can be copied is copied, the rest fitted layer by layer."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv

from yolo_lite.weights import roles
from yolo_lite.weights.channels import Channel, Choice, Chooser, StandsFor, affine, counterpart, variance_of
from yolo_lite.weights.head_targets import box_targets, class_rows
from yolo_lite.weights.regression import Moments, solve
from yolo_lite.weights.roles import IMAGE, Layer, Maps, Part, Unit, convolution, is_depthwise, layers_of, outputs_of
from yolo_lite.weights.sampling import HELD, Given, Images, Running, Size, at
from yolo_lite.weights.selection import taken

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

FLOOR = 0.02  # weight of a pixel of the head without any object
SAME = 1e-4  # of the largest value: outputs that differ by less are the same

How: TypeAlias = Literal["copied", "fitted", "kept", "identity", "random"]


@dataclass(frozen=True)
class Method:
    """How a transfer goes about it.

    Attributes:
        choice: Of channels, as `Chooser` says.
        weighted: Whether the head is fitted to pixels weighted by the source's class score.
        norm: Of a fitted layer's BatchNorm: its own statistics, with a scale that leaves the result as it is (own), or
            those of the channels kept (copied).
        regress: Whether weights are fitted; without, those of the channels kept are taken.
    """

    choice: Choice = "read"
    weighted: bool = True
    norm: Literal["own", "copied"] = "own"
    regress: bool = True


@dataclass(frozen=True)
class Fit:
    """What became of one layer of the target.

    Attributes:
        name: The layer.
        source: The source's layers whose work it does, "" for none.
        how: Copied as it was, fitted, kept as the backbone was trained, begun as the identity, or left as it began.
        error: Of a fitted layer: the part of its outputs' variance that is not reproduced, on images held back.
    """

    name: str
    source: str
    how: How
    error: float | None = None


@dataclass(frozen=True)
class Goal:
    """What outputs of a layer should be.

    Attributes:
        own: Their channels.
        wanted: Gives them before BatchNorm, for a batch: (B, P, outputs).
        scale: What BatchNorm has to multiply them by, (outputs,).
        shift: And to add.
        variance: That the source's BatchNorm has of them.
        source: The layers of the source that say so.
    """

    own: list[int]
    wanted: Callable[[int], torch.Tensor]
    scale: torch.Tensor
    shift: torch.Tensor
    variance: torch.Tensor
    source: str


class Fitting:
    """One transfer under way.

    Args:
        source: The model that has the knowledge, in evaluation mode.
        target: The model that gets it, in evaluation mode.
        images: (N, C, H, W), uint8.
        seed: Of the pixels.
        method: How.
        folder: For what does not fit into memory.
    """

    def __init__(
        self, source: "BaseModel", target: "BaseModel", images: torch.Tensor, seed: int, method: Method, folder: Path
    ) -> None:
        device = next(target.parameters()).device
        self.method, self.images = method, Images(images, device, seed)
        self.theirs, self.ours = roles.units(source), roles.units(target)
        self.their_origins = roles.trace(self.theirs, images.shape[1], device)
        self.our_origins = roles.trace(self.ours, images.shape[1], device)
        self.pairs = roles.pairs(self.theirs, self.ours)
        self.given = Given(self.images, self.theirs, {*self.pairs.values()}, folder)
        self.chooser = Chooser(self.theirs, self.their_origins, self.given, method.choice)
        self.running = Running(self.images, self.ours, folder)
        self.came: dict[Layer, StandsFor] = {}
        self.names = {layer: name for model in (source, target) for name, layer in model.named_modules()}
        theirs: Any = source
        ours: Any = target
        self.classes = class_rows(getattr(theirs, "names", None), getattr(ours, "names", None))
        self.same_classes = self.classes == {number: number for number in range(theirs.model[-1].nc)}
        self.reg_max: int = ours.model[-1].reg_max
        self.fits: list[Fit] = []

    def run(self) -> list[Fit]:
        """Do it."""
        twins = {IMAGE: IMAGE}  # units that compute what a unit of the source does -> that
        first: dict[int, int] = {}  # units that compute what an earlier unit of the target does -> that
        for number, unit in enumerate(self.ours):
            if unit.section == "backbone" and _is_trained(unit.module):
                self.fits += [Fit(self.names[layer], "", "kept") for layer in layers_of(unit.module)]
                self.running.run(number)
                continue
            twin = self._copy(number, unit, twins)
            again = self._repeat(number, unit, first) if twin is None else None
            if twin is not None:
                twins[number] = twin
            elif again is not None:
                first[number] = again
            elif unit.kind:
                self._fit_unit(unit, self.theirs[self.pairs[number]] if number in self.pairs else None)
            self.running.run(number)
        return self.fits

    # What needs no fit ------------------------------------------------------------------------------------------------

    def _copy(self, number: int, unit: Unit, twins: dict[int, int]) -> int | None:
        """Return the source's unit that a unit can do exactly as, since it gets what that gets. Take its weights."""
        inputs = tuple(twins.get(each) for each in unit.inputs)
        if None in inputs or (unit.ends and unit.section.endswith("cv3") and not self.same_classes):
            return None
        for index, other in enumerate(self.theirs):
            if other.inputs != inputs or (unit.kind and self.pairs.get(number) != index):
                continue
            if self._becomes(unit, other):
                for layer, twin in zip(layers_of(unit.module), layers_of(other.module), strict=True):
                    self.came[layer] = [(twin, channel) for channel in range(outputs_of(layer))]
                    self.fits.append(Fit(self.names[layer], self.names[twin], "copied"))
                return index
        return None

    def _becomes(self, unit: Unit, other: Unit) -> bool:
        """Take a unit's weights if they fit and then do the same; else leave everything as it was."""
        kept, theirs = ({k: v.clone() for k, v in each.module.state_dict().items()} for each in (unit, other))
        if type(unit.module) is not type(other.module) or _shapes(kept) != _shapes(theirs):
            return False
        inputs = self.running.inputs(unit, 0)
        unit.module.load_state_dict(theirs)
        if _alike(unit.run(inputs), other.run(inputs)):
            return True
        unit.module.load_state_dict(kept)
        return False

    def _repeat(self, number: int, unit: Unit, first: dict[int, int]) -> int | None:
        """Return an earlier unit of the same inputs and the same partner. Take its weights."""
        partner, inputs = self.pairs.get(number), [first.get(each, each) for each in unit.inputs]
        for index, other in enumerate(self.ours[:number]):
            same = partner is not None and self.pairs.get(index) == partner and index not in first
            if same and [first.get(each, each) for each in other.inputs] == inputs:
                unit.module.load_state_dict(other.module.state_dict())
                self._note_repeated(unit, other)
                return index
        return None

    def _note_repeated(self, unit: Unit, other: Unit) -> None:
        fits = {fit.name: fit for fit in self.fits}
        for layer, earlier in zip(layers_of(unit.module), layers_of(other.module), strict=True):
            fit = fits[self.names[earlier]]
            self.fits.append(Fit(self.names[layer], fit.source, fit.how, fit.error))
            if earlier in self.came:
                self.came[layer] = self.came[earlier]

    # Fitting ----------------------------------------------------------------------------------------------------------

    def _fit_unit(self, unit: Unit, partner: Unit | None) -> None:
        """Fit the layers of a unit one after the other."""
        theirs = {part.role: part for part in partner.parts} if partner else {}
        by_layer: dict[Layer, list[tuple[Part, Part | None]]] = {layer: [] for layer in self._in_order(unit)}
        for part in unit.parts:
            by_layer.setdefault(part.layer, []).append((part, counterpart(part, theirs.get(part.role))))
        last = list(by_layer)[-1] if not unit.parts else None
        chosen: dict[str, list[int]] = {}
        for layer, both in by_layer.items():
            stands_for: StandsFor = [None] * outputs_of(layer)
            for part, other in both:
                if is_depthwise(layer):
                    stands_for = self.chooser.through(layer, other, self.our_origins, self.came)
                elif other is not None:
                    stands_for[part.start : part.stop] = self._kept(unit, part, other, list(theirs.values()), chosen)
            goal = self._goal_of_last(unit, layer, theirs.get("out")) if layer is last else None
            if goal is not None:
                self._fit_layer(unit, layer, goal)
            elif any(stands_for) and convolution(layer).groups in (1, outputs_of(layer)):
                self.came[layer] = stands_for
                goal = self._goal(unit, layer, stands_for)
                if self.method.regress:
                    self._fit_layer(unit, layer, goal)
                else:
                    self._take_layer(unit, layer, goal, [channel for channel in stands_for if channel is not None])
            else:
                self._leave(unit, layer, added=any(part.tie for part, _ in both))

    def _in_order(self, unit: Unit) -> list[Layer]:
        """Return the layers of a unit in the order in which they run; those that do not run are left out."""
        order: list[Layer] = []
        with contextlib.ExitStack() as stack:
            for each in layers_of(unit.module):
                stack.callback(each.register_forward_pre_hook(lambda layer, _: order.append(layer)).remove)
            unit.run(self.running.inputs(unit, 0))
        return list(dict.fromkeys(order))

    def _kept(
        self, unit: Unit, part: Part, other: Part, theirs: Sequence[Part], chosen: dict[str, list[int]]
    ) -> StandsFor:
        """Return the channels that a part's outputs stand for; None for those that it has beyond them."""
        count = part.stop - part.start
        if unit.ends and unit.section.endswith("cv2"):
            return [(other.layer, channel) for channel in range(count)]  # of what `box_targets` makes
        if unit.ends and unit.section.endswith("cv3"):
            return [(other.layer, self.classes[c]) if c in self.classes else None for c in range(count)]
        if unit.ends and count != other.stop - other.start:
            return [None] * count  # outputs of another meaning
        leader = part.tie or part.role
        if leader not in chosen:
            tied = [each for each in theirs if leader in (each.role, each.tie)] or [other]
            chosen[leader] = self.chooser.choose(tied, count)
        kept: StandsFor = [(other.layer, other.start + channel) for channel in chosen[leader]]
        return kept + [None] * (count - len(kept))

    def _goal(self, unit: Unit, layer: Layer, stands_for: StandsFor) -> Goal:
        """Return what a layer's outputs should be, by the source's channels that they stand for."""
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

    def _goal_of_last(self, unit: Unit, layer: Layer, other: Part | None) -> Goal | None:
        """Return what the last layer of a block of another kind should give, so that the block does as its partner.

        None where that cannot be said: its output is not the block's, nor added to something.
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
            return self._goal(unit, layer, stands_for + [None] * (outputs_of(layer) - len(kept))) if alone else None

        def wanted(batch: int) -> torch.Tensor:
            bypass = self.running.without(unit, layer, batch)[:, own]
            places = self.images.places((bypass.shape[2], bypass.shape[3]), batch)
            return self.chooser.activated(other, batch)[..., kept] - at(bypass, places)

        ones = torch.ones(len(own))
        return Goal(own, wanted, ones, torch.zeros(len(own)), ones, self.names[other.layer])

    def _is_added(self, unit: Unit, layer: Layer, difference: torch.Tensor) -> bool:
        """Tell whether what a unit gives changes by just what a layer gives."""
        found: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda _, args, out: found.append(out))
        try:
            unit.run(self.running.inputs(unit, 0))
        finally:
            handle.remove()
        return _alike(difference, found[0])

    def _fit_layer(self, unit: Unit, layer: Layer, goal: Goal) -> None:
        """Solve for the weights of the outputs of a layer that have a goal."""
        conv, own = convolution(layer), goal.own
        dense = conv.groups == 1
        phases = 4 if isinstance(layer, nn.ConvTranspose2d) else 1
        taps = 1 if phases == 4 else conv.kernel_size[0] * conv.kernel_size[1]
        shape = (1, conv.in_channels * taps, len(own) * phases) if dense else (len(own), taps, 1)
        fit, held = (Moments(*shape, self.images.device) for _ in range(2))
        for batch in self.images.batches:
            x, size = self.running.patches(unit, layer, batch)  # (B, P, c1, taps)
            y, weight = goal.wanted(batch), self._weight(unit, size, batch)
            for sums, images in zip((fit, held), self._parted(batch, len(x)), strict=True):
                pixels, outputs = x[images].flatten(0, 1), y[images].flatten(0, 1)
                inputs = pixels.flatten(1)[None] if dense else pixels[:, own].transpose(0, 1)
                outputs = outputs[None] if dense else outputs.T[..., None]
                sums.add(inputs, outputs, None if weight is None else weight[images].flatten())
        solution = solve(fit, held)
        weight, intercept = solution.weight, solution.intercept.flatten()
        if phases == 4:
            weight, intercept = weight[0].view(len(own), 2, 2, -1).permute(0, 3, 1, 2), intercept.view(-1, 4).mean(1)
        self._write(unit, layer, goal, weight.reshape(len(own), -1, *conv.kernel_size), intercept)
        self.fits.append(Fit(self.names[layer], goal.source, "fitted", solution.error))

    def _take_layer(self, unit: Unit, layer: Layer, goal: Goal, channels: Sequence[Channel]) -> None:
        """Take the weights that the source has, without a regression; of boxes those of the first bins."""
        if unit.ends and unit.section.endswith("cv2"):
            bins, theirs = self.reg_max, outputs_of(channels[0][0]) // 4
            channels = [(other, c // bins * theirs + min(c % bins, theirs - 1)) for other, c in channels]
        self._write(unit, layer, goal, *taken(layer, channels, self.our_origins, self.their_origins, self.came))
        self.fits.append(Fit(self.names[layer], goal.source, "copied"))

    def _write(self, unit: Unit, layer: Layer, goal: Goal, weight: torch.Tensor, intercept: torch.Tensor) -> None:
        """Put weights (outputs, c1 / groups, k, k) and what is to be added to their outputs into a layer."""
        conv, own = convolution(layer), goal.own
        if isinstance(layer, nn.ConvTranspose2d):
            conv.weight[:, own] = weight.transpose(0, 1).to(conv.weight)
        else:
            conv.weight[own] = weight.to(conv.weight)
        if conv.bias is not None:
            conv.bias[own] = intercept.to(conv.bias)
        if isinstance(layer, Conv):
            self._normalise(unit, layer, goal, intercept.cpu())

    def _parted(self, batch: int, count: int) -> tuple[list[int], list[int]]:
        """Part the images of a batch into those that are fitted to and those held back, of all of them every eighth."""
        total = len(self.images.images)
        every = min(HELD, total)
        held = [index for index in range(count) if total > 1 and (batch + index) % every == every - 1]
        return [index for index in range(count) if index not in held], held

    def _weight(self, unit: Unit, size: Size, batch: int) -> torch.Tensor | None:
        """Return what each pixel counts, (B, P): in the branches of a head more where there is something."""
        scores = self.given.scores.get(size)
        if not self.method.weighted or scores is None or not unit.section.removeprefix("one2one_").startswith("cv"):
            return None
        return FLOOR + scores[batch : batch + len(self.images.batch(batch))]

    def _normalise(self, unit: Unit, layer: Conv, goal: Goal, intercept: torch.Tensor) -> None:
        """Let a layer's BatchNorm make of its convolution what the source makes of the channels.

        It gets the statistics of the fitted maps, and the scale that undoes the difference: the result is the same in
        training, when it takes those of the batch. A copied variance would not be: a fit with error e has 1 - e of it.
        """
        norm, own = layer.bn, goal.own
        mean, variance = self.running.measure(unit, layer)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        if self.method.norm == "copied":
            variance[own] = goal.variance.double()
            norm.running_var.copy_(variance)
        std = (variance[own] + norm.eps).sqrt()
        norm.weight[own] = (goal.scale.double() * std).to(norm.weight)
        norm.bias[own] = (goal.scale.double() * (intercept + mean[own]) + goal.shift.double()).to(norm.bias)

    def _leave(self, unit: Unit, layer: Layer, added: bool) -> None:
        """Let a layer without counterpart begin as it would, or, where its output is added to something, as nothing."""
        if added and isinstance(layer, Conv):
            nn.init.zeros_(layer.bn.weight)
            nn.init.zeros_(layer.bn.bias)
        elif isinstance(layer, Conv) and not bool(layer.bn.running_mean.any()):  # never trained: no statistics yet
            mean, variance = self.running.measure(unit, layer)
            layer.bn.running_mean.copy_(mean)
            layer.bn.running_var.copy_(variance)
        self.fits.append(Fit(self.names[layer], "", "identity" if added else "random"))


def _is_trained(module: nn.Module) -> bool:
    """Tell whether a module's BatchNorms have statistics."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    return any(norm.running_mean is not None and bool(norm.running_mean.any()) for norm in norms)


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _alike(a: Maps, b: Maps) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool((a - b).abs().max() <= SAME * b.abs().max().clamp(min=1e-6))
    return isinstance(a, list | tuple) and len(a) == len(b) and all(map(_alike, a, b))
