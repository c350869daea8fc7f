"""The transfer itself: for each unit of the target, copy what can be copied and fit the rest layer by layer."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv

from yolo_lite.weights import roles
from yolo_lite.weights.channels import Channel, Choice, Chooser, StandsFor, counterpart
from yolo_lite.weights.goals import Goal, Goals, alike
from yolo_lite.weights.head_targets import class_rows
from yolo_lite.weights.regression import Moments, solve
from yolo_lite.weights.roles import IMAGE, Layer, Part, Unit, convolution, is_depthwise, layers_of, outputs_of
from yolo_lite.weights.sampling import HELD, Given, Images, Running, Size
from yolo_lite.weights.selection import taken

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

FLOOR = 0.02  # weight of a head pixel without any object

How: TypeAlias = Literal["copied", "fitted", "kept", "identity", "random"]


@dataclass(frozen=True)
class Method:
    """Settings of a transfer.

    Attributes:
        choice: Criterion for the selection of channels, as for `Chooser`.
        weighted: Whether pixels are weighted by the source's class score when the head is fitted.
        norm: Running variance of a fitted layer's BatchNorm: measured on its own outputs (own) or taken from the
            selected source channels (copied); its scale compensates, so that the output in evaluation mode is the same.
        regress: Whether weights are fitted; if not, the weights of the selected channels are copied.
    """

    choice: Choice = "read"
    weighted: bool = True
    norm: Literal["own", "copied"] = "own"
    regress: bool = True


@dataclass(frozen=True)
class Fit:
    """Outcome of the transfer for one layer of the target.

    Attributes:
        name: Name of the target layer.
        source: Names of the source layers that it reproduces, "" for none.
        how: Copied from the source, fitted, kept from a pretrained backbone, zeroed so that its block starts as the
            identity, or left at its random initialisation.
        error: Fraction of the output variance that a fitted layer does not reproduce on held-out images, else None.
    """

    name: str
    source: str
    how: How
    error: float | None = None


class Fitting:
    """A transfer in progress.

    Args:
        source: Trained model to transfer from, in evaluation mode.
        target: Model to transfer to, in evaluation mode; changed in place.
        images: Images of shape (N, C, H, W), uint8.
        seed: Seed of the pixel sampling.
        method: Settings of the transfer.
        folder: Folder for feature maps that do not fit into memory.
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
        self.goals = Goals(self.given, self.running, self.chooser, self.names, self.classes, self.reg_max)
        self.fits: list[Fit] = []

    def run(self) -> list[Fit]:
        """Run the transfer and return the outcome of each layer."""
        twins = {IMAGE: IMAGE}  # target unit -> source unit that computes the same
        first: dict[int, int] = {}  # target unit -> earlier target unit that computes the same
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
        """Copy the weights of a source unit that computes the same from the same inputs; return its number, if any."""
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
        """Copy a unit's weights if they fit and give the same outputs, else change nothing; return whether they do."""
        kept, theirs = ({k: v.clone() for k, v in each.module.state_dict().items()} for each in (unit, other))
        if type(unit.module) is not type(other.module) or _shapes(kept) != _shapes(theirs):
            return False
        inputs = self.running.inputs(unit, 0)
        unit.module.load_state_dict(theirs)
        if alike(unit.run(inputs), other.run(inputs)):
            return True
        unit.module.load_state_dict(kept)
        return False

    def _repeat(self, number: int, unit: Unit, first: dict[int, int]) -> int | None:
        """Copy the weights of an earlier unit with the same inputs and source unit; return its number, else None."""
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
                    stands_for[part.start : part.stop] = self.goals.kept(
                        unit, part, other, list(theirs.values()), chosen
                    )
            goal = self.goals.of_last(unit, layer, theirs.get("out")) if layer is last else None
            if goal is not None:
                self._fit_layer(unit, layer, goal)
            elif any(stands_for) and convolution(layer).groups in (1, outputs_of(layer)):
                self.came[layer] = stands_for
                goal = self.goals.of(unit, layer, stands_for)
                if self.method.regress:
                    self._fit_layer(unit, layer, goal)
                else:
                    self._take_layer(unit, layer, goal, [channel for channel in stands_for if channel is not None])
            else:
                self._leave(unit, layer, added=any(part.tie for part, _ in both))

    def _in_order(self, unit: Unit) -> list[Layer]:
        """Return the layers of a unit in execution order, without those that are not executed."""
        order: list[Layer] = []
        with contextlib.ExitStack() as stack:
            for each in layers_of(unit.module):
                stack.callback(each.register_forward_pre_hook(lambda layer, _: order.append(layer)).remove)
            unit.run(self.running.inputs(unit, 0))
        return list(dict.fromkeys(order))

    def _fit_layer(self, unit: Unit, layer: Layer, goal: Goal) -> None:
        """Fit the weights of those outputs of a layer that have a goal."""
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
        """Copy the source's weights without a regression; for box outputs, those of the first bins."""
        if unit.ends and unit.section.endswith("cv2"):
            bins, theirs = self.reg_max, outputs_of(channels[0][0]) // 4
            channels = [(other, c // bins * theirs + min(c % bins, theirs - 1)) for other, c in channels]
        self._write(unit, layer, goal, *taken(layer, channels, self.our_origins, self.their_origins, self.came))
        self.fits.append(Fit(self.names[layer], goal.source, "copied"))

    def _write(self, unit: Unit, layer: Layer, goal: Goal, weight: torch.Tensor, intercept: torch.Tensor) -> None:
        """Write weights (outputs, c1 / groups, k, k) and the intercepts of their outputs into a layer."""
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
        """Split the images of a batch into those used for the fit and held-out ones, every eighth of all images."""
        total = len(self.images.images)
        every = min(HELD, total)
        held = [index for index in range(count) if total > 1 and (batch + index) % every == every - 1]
        return [index for index in range(count) if index not in held], held

    def _weight(self, unit: Unit, size: Size, batch: int) -> torch.Tensor | None:
        """Return the weight of each pixel, (B, P), higher where there are objects; None outside a head's branches."""
        scores = self.given.scores.get(size)
        if not self.method.weighted or scores is None or not unit.section.removeprefix("one2one_").startswith("cv"):
            return None
        return FLOOR + scores[batch : batch + len(self.images.batch(batch))]

    def _normalise(self, unit: Unit, layer: Conv, goal: Goal, intercept: torch.Tensor) -> None:
        """Set a layer's BatchNorm so that it turns the fitted maps into what the source's BatchNorm outputs.

        It gets the statistics of the fitted maps and a scale that compensates for them, so that the output is the same
        in training mode, with batch statistics. With a copied variance it would differ: the outputs of a fit with
        error e have only 1 - e of that variance.
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
        """Keep the initial weights of a layer without a counterpart, or zero its output if it is added to a map."""
        if added and isinstance(layer, Conv):
            nn.init.zeros_(layer.bn.weight)
            nn.init.zeros_(layer.bn.bias)
        elif isinstance(layer, Conv) and not bool(layer.bn.running_mean.any()):  # never trained: no statistics yet
            mean, variance = self.running.measure(unit, layer)
            layer.bn.running_mean.copy_(mean)
            layer.bn.running_var.copy_(variance)
        self.fits.append(Fit(self.names[layer], "", "identity" if added else "random"))


def _is_trained(module: nn.Module) -> bool:
    """Return whether a module's BatchNorms have trained statistics."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    return any(norm.running_mean is not None and bool(norm.running_mean.any()) for norm in norms)


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}
