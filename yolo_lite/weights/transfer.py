"""A trained YOLO's knowledge in another architecture, in closed form: no labels, no gradients.

For each layer of the target, in order, the source's layer of the same role (roles.py) says what it should compute, for as
many of its channels as the target has. Ridge regression (regression.py) finds the weights that come closest, from the
target's *own* input at that place on some images, so that every layer mends what those before it lost.

Sources: He et al. 2017, https://arxiv.org/abs/1707.06168; Luo et al. 2017, ThiNet, https://arxiv.org/abs/1707.06342; Xu et
al. 2024, weight selection, https://arxiv.org/abs/2311.18823, which takes channels without the regression.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional
from ultralytics.nn.modules.block import PSABlock
from ultralytics.nn.modules.conv import Conv

from yolo_lite.errors import ConfigError
from yolo_lite.weights import roles
from yolo_lite.weights.head_targets import box_targets, class_rows
from yolo_lite.weights.regression import Moments, choose, covariance, solve
from yolo_lite.weights.roles import IMAGE, Layer, Maps, Part, Unit, convolution, is_depthwise, layers_of, outputs_of
from yolo_lite.weights.store import Store

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

BATCH = 8  # images at a time
PIXELS = 24_000  # that a layer is fitted to, of all images together
HELD = 8  # every eighth image is held back to choose the ridge
FLOOR = 0.02  # weight of a pixel of the head without any object
SAME = 1e-4  # of the largest value: outputs that differ by less are the same

How: TypeAlias = Literal["copied", "fitted", "identity", "random"]
Channel: TypeAlias = tuple[Layer, int] | None  # an output channel of a layer of the source


@dataclass(frozen=True)
class Fit:
    """What became of one layer of the target.

    Attributes:
        name: The layer.
        source: The source's layers whose work it does, "" for none.
        how: Copied as it was, fitted, begun as the identity, or left as it began.
        error: Of a fitted layer: the part of its outputs' variance that is not reproduced, on images held back.
    """

    name: str
    source: str
    how: How
    error: float | None = None


@dataclass(frozen=True)
class Transferred:
    """What a transfer did, layer by layer."""

    fits: tuple[Fit, ...]
    images: int

    def count(self, how: How) -> int:
        """Return how many layers went that way."""
        return sum(fit.how == how for fit in self.fits)

    @property
    def error(self) -> float:
        """The median error of the fitted layers; 0 where none was fitted."""
        errors = sorted(fit.error for fit in self.fits if fit.error is not None)
        return errors[len(errors) // 2] if errors else 0.0

    def __str__(self) -> str:
        ways: tuple[How, ...] = ("copied", "fitted", "identity", "random")
        counts = ", ".join(f"{self.count(how)} {how}" for how in ways if self.count(how))
        return f"{len(self.fits)} layers from {self.images} images: {counts}; median error of the fits {self.error:.3f}"


@dataclass(frozen=True)
class Method:
    """How a transfer goes about it; the defaults were chosen on validation splits.

    Attributes:
        choice: Of channels: those that explain most of all, weighted by the layers that read them (read) or not
            (explained); of the largest |gamma|; or evenly spaced (even).
        weighted: Whether the head is fitted to pixels weighted by the source's class score.
        norm: Of a fitted layer's BatchNorm: its own statistics, with a scale that leaves the result as it is (own), or
            those of the channels kept (copied).
        regress: Whether weights are fitted; without, those of the channels kept are taken.
    """

    choice: Literal["read", "explained", "gamma", "even"] = "read"
    weighted: bool = True
    norm: Literal["own", "copied"] = "own"
    regress: bool = True


def transfer(
    source: "BaseModel", target: "BaseModel", images: torch.Tensor, seed: int = 0, method: Method = Method()
) -> Transferred:
    """Carry what a trained model computes over into another one, which is changed in place.

    Args:
        source: A trained detection, segmentation, pose or OBB model of Ultralytics or ours.
        target: A model of the same task.
        images: (N, C, H, W) RGB, uint8, as a model sees them.
        seed: Of the pixels that are looked at; the same seed gives the same weights.
        method: How.

    Returns:
        (Transferred): What was done with every layer.

    Raises:
        ConfigError: There are no images, or of other channels than both models take; the source holds NaN; or a head is
            none of those.
    """
    check(source, target, images)
    modes = [(module, module.training) for model in (source, target) for module in model.modules()]
    try:
        with torch.no_grad(), tempfile.TemporaryDirectory(prefix="yolo_lite_transfer_") as folder:
            source.float().eval()
            target.float().eval()
            return _Transfer(source, target, images, seed, method, Path(folder)).run()
    finally:
        for module, mode in modes:
            module.training = mode


def check(source: "BaseModel", target: "BaseModel", images: torch.Tensor) -> None:
    """Refuse what cannot be transferred.

    Raises:
        ConfigError: As `transfer`.
    """
    for name, value in source.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ConfigError(f"the source's {name} holds values that are NaN or infinite; needed a trained model")
    if not len(images):
        raise ConfigError("found no images to transfer with; needed at least one, and some dozens for a good result")
    for whose, model in (("source", source), ("target", target)):
        rows: Any = model.model
        if not isinstance(rows[-1], roles.Detect):
            raise ConfigError(
                f"the {whose}'s head is {type(rows[-1]).__name__}; needed one that detects, segments, or finds poses or OBB"
            )
        takes = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).in_channels
        if takes != images.shape[1]:
            raise ConfigError(f"the {whose} takes images of {takes} channels, found {images.shape[1]}")


class _Stop(Exception):
    """Ends a forward pass once the layer in question has been reached."""


class _Transfer:
    """One transfer under way."""

    def __init__(
        self, source: "BaseModel", target: "BaseModel", images: torch.Tensor, seed: int, method: Method, folder: Path
    ) -> None:
        self.images, self.seed, self.method = images, seed, method
        self.device = next(target.parameters()).device
        self.theirs, self.ours = roles.units(source), roles.units(target)
        self.their_origins = roles.trace(self.theirs, images.shape[1], self.device)
        self.our_origins = roles.trace(self.ours, images.shape[1], self.device)
        self.pairs = roles.pairs(self.theirs, self.ours)
        self.batches = range(0, len(images), BATCH)
        self.maps, self.samples = Store(folder), Store(folder)
        self.places: dict[tuple[int, int], torch.Tensor] = {}  # size of a map -> the pixels that are looked at
        self.scores: dict[tuple[int, int], torch.Tensor] = {}  # likewise -> the source's highest class score there
        self.came: dict[Layer, list[Channel]] = {}  # a target's layer -> what its outputs stand for
        self.names = {layer: name for model in (source, target) for name, layer in model.named_modules()}
        self.classes = class_rows(getattr(source, "names", None), getattr(target, "names", None))
        self.all_classes = self.classes == {i: i for i in range(len(source.names))}
        self.reg_max: int = target.model[-1].reg_max  # type: ignore[index,assignment,union-attr]
        self.importance = self._importance()
        self.fits: list[Fit] = []

    def run(self) -> Transferred:
        """Do it."""
        self._run_source()
        last_use = {each: number for number, unit in enumerate(self.ours) for each in unit.inputs}
        twins = {IMAGE: IMAGE}  # units that compute what a unit of the source does -> that
        first: dict[int, int] = {}  # units that compute what an earlier unit of the target does -> that
        for number, unit in enumerate(self.ours):
            twin = self._copy(number, unit, twins)
            again = self._repeat(number, unit, first)
            if twin is not None:
                twins[number] = twin
            elif again is not None:
                first[number] = again
            elif unit.kind:
                self._fit_unit(unit, self.theirs[self.pairs[number]] if number in self.pairs else None)
            if number in last_use:
                for batch in self.batches:
                    self.maps.put((number, batch), unit.run(self._inputs(unit, batch)))
            for each in {each for each in unit.inputs if each != IMAGE and last_use[each] == number}:
                for batch in self.batches:
                    self.maps.drop((each, batch))
        return Transferred(tuple(self.fits), len(self.images))

    # Running ----------------------------------------------------------------------------------------------------------

    def _batch(self, start: int) -> torch.Tensor:
        return self.images[start : start + BATCH].to(self.device).float() / 255

    def _inputs(self, unit: Unit, batch: int) -> list[Maps]:
        return [
            self._batch(batch) if each == IMAGE else self.maps.get((each, batch), self.device) for each in unit.inputs
        ]

    def _places(self, size: tuple[int, int], batch: int) -> torch.Tensor:
        """Return the pixels of maps of a size that are looked at: (B, P)."""
        if size not in self.places:
            generator = torch.Generator().manual_seed(self.seed)
            count = min(size[0] * size[1], -(-PIXELS // len(self.images)))
            drawn = [torch.randperm(size[0] * size[1], generator=generator)[:count] for _ in self.images]
            self.places[size] = torch.stack(drawn).sort(1).values
        return self.places[size][batch : batch + BATCH].to(self.device)

    def _run_source(self) -> None:
        """Keep what the source's layers compute at the pixels that are looked at, and its class scores there."""
        wanted = [part.layer for each in sorted({*self.pairs.values()}) for part in self.theirs[each].parts]
        sizes: dict[Layer, tuple[int, int]] = {}
        batch = 0

        def keep(layer: Layer) -> Callable[..., None]:
            def hook(_: Any, args: Any, out: torch.Tensor) -> None:
                if isinstance(layer, nn.ConvTranspose2d):
                    out = functional.pixel_unshuffle(out, 2)
                sizes[layer] = size = (out.shape[2], out.shape[3])
                self.samples.put((layer, batch), _at(out, self._places(size, batch)))

            return hook

        with contextlib.ExitStack() as stack:
            for layer in dict.fromkeys(wanted):
                stack.callback(convolution(layer).register_forward_hook(keep(layer)).remove)
            last_use = {each: number for number, unit in enumerate(self.theirs) for each in unit.inputs}
            for batch in self.batches:
                maps: dict[int, Maps] = {IMAGE: self._batch(batch)}
                for number, unit in enumerate(self.theirs):
                    maps[number] = unit.run([maps[each] for each in unit.inputs])
                    for each in {*unit.inputs, number}:
                        if last_use.get(each, number) == number:
                            del maps[each]
        for unit in self.theirs:
            if unit.section == "cv3" and unit.ends and unit.module in sizes:
                scores = [self._sampled(unit.module, batch).sigmoid().amax(-1) for batch in self.batches]  # (B, P)
                self.scores[sizes[unit.module]] = torch.cat(scores)

    def _sampled(self, layer: Layer, batch: int) -> torch.Tensor:
        """Return what a layer of the source gives before its BatchNorm: (B, P, C)."""
        sampled: torch.Tensor = self.samples.get((layer, batch), self.device)
        return sampled

    # What needs no fit ------------------------------------------------------------------------------------------------

    def _copy(self, number: int, unit: Unit, twins: dict[int, int]) -> int | None:
        """Return the source's unit that a unit can do exactly as: it gets what that gets. Take its weights."""
        inputs = tuple(twins.get(each) for each in unit.inputs)
        if None in inputs:
            return None
        for index, other in enumerate(self.theirs):
            if other.inputs != inputs or type(other.module) is not type(unit.module):
                continue
            if unit.kind and self.pairs.get(number) != index:
                continue
            if unit.ends and unit.section.endswith("cv3") and not self.all_classes:
                continue
            kept = {name: value.clone() for name, value in unit.module.state_dict().items()}
            theirs = other.module.state_dict()
            if {k: v.shape for k, v in kept.items()} != {k: v.shape for k, v in theirs.items()}:
                continue
            maps = self._inputs(unit, 0)
            unit.module.load_state_dict(theirs)
            if _alike(unit.run(maps), other.run(maps)):
                for layer, twin in zip(layers_of(unit.module), layers_of(other.module), strict=True):
                    self.came[layer] = [(twin, c) for c in range(outputs_of(layer))]
                    self.fits.append(Fit(self.names[layer], self.names[twin], "copied"))
                return index
            unit.module.load_state_dict(kept)
        return None

    def _repeat(self, number: int, unit: Unit, first: dict[int, int]) -> int | None:
        """Return an earlier unit of the same inputs and the same partner. Take its weights."""
        inputs = [first.get(each, each) for each in unit.inputs]
        for index, other in enumerate(self.ours[:number]):
            same = self.pairs.get(number, IMAGE) == self.pairs.get(index) and index not in first
            if same and [first.get(each, each) for each in other.inputs] == inputs:
                unit.module.load_state_dict(other.module.state_dict())
                return index
        return None

    # Fitting ----------------------------------------------------------------------------------------------------------

    def _fit_unit(self, unit: Unit, partner: Unit | None) -> None:
        """Fit the layers of a unit one after the other."""
        theirs = {part.role: part for part in partner.parts} if partner else {}
        by_layer: dict[Layer, list[tuple[Part, Part | None]]] = {}
        for part in unit.parts:
            by_layer.setdefault(part.layer, []).append((part, _counterpart(part, theirs.get(part.role))))
        chosen: dict[str, list[int]] = {}
        for layer, both in by_layer.items():
            stands_for: list[Channel] = [None] * outputs_of(layer)
            if is_depthwise(layer):
                stands_for = self._through(layer, both[0][1])
            else:
                for part, other in both:
                    if other is not None:
                        kept = self._kept(unit, part, other, list(theirs.values()), chosen)
                        stands_for[part.start : part.stop] = kept
            if any(stands_for):
                self._fit_layer(unit, layer, stands_for)
            else:
                self._leave(unit, layer, added=any(part.tie for part, _ in both))
        for layer in layers_of(unit.module):
            if layer not in by_layer:
                self._leave(unit, layer, added=False)

    def _through(self, layer: Layer, other: Part | None) -> list[Channel]:
        """Return what a depthwise layer's outputs stand for: it keeps its input's channels."""
        stands_for: list[Channel] = [None] * outputs_of(layer)
        if other is None or not is_depthwise(other.layer):
            return stands_for
        places = {origin: place for place, origin in enumerate(self.their_origins[other.layer]) if origin is not None}
        for index, origin in enumerate(self.our_origins.get(layer, ())):
            came = self.came.get(origin[0], [None] * (origin[1] + 1))[origin[1]] if origin and origin[0] else None
            if came in places:
                stands_for[index] = other.layer, places[came]
        return stands_for

    def _kept(
        self, unit: Unit, part: Part, other: Part, theirs: Sequence[Part], chosen: dict[str, list[int]]
    ) -> list[Channel]:
        """Return the source's channels that a part's outputs stand for; None for those that it has beyond them."""
        count, all_of_them = part.stop - part.start, other.stop - other.start
        if unit.ends and unit.section.removeprefix("one2one_") in ("cv2", "cv3"):
            return self._kept_of_head(unit, other, count)
        leader = part.tie or part.role
        if leader not in chosen:
            if all_of_them <= count:
                chosen[leader] = list(range(all_of_them))
            else:
                tied = [each for each in theirs if leader in (each.role, each.tie)] or [other]
                chosen[leader] = self._choose(tied, count)
        kept: list[Channel] = [(other.layer, other.start + channel) for channel in chosen[leader]]
        return kept + [None] * (count - len(kept))

    def _kept_of_head(self, unit: Unit, other: Part, count: int) -> list[Channel]:
        if unit.section.endswith("cv2"):
            return [(other.layer, channel) for channel in range(count)]  # of the targets that `box_targets` makes
        return [(other.layer, self.classes[c]) if c in self.classes else None for c in range(count)]

    def _choose(self, tied: Sequence[Part], count: int) -> list[int]:
        """Choose channels of the source, the same of parts that are added to each other."""
        first = tied[0]
        size = first.stop - first.start
        if self.method.choice == "even":
            return [int((i + 0.5) * size / count) for i in range(count)]
        if self.method.choice == "gamma":
            gamma = sum(_affine(part.layer)[0].abs()[part.start : part.stop] * _std(part.layer) for part in tied)
            assert isinstance(gamma, torch.Tensor)
            return sorted(gamma.topk(count).indices.tolist())
        activations = [
            torch.cat([self._activated(part, batch).flatten(0, 1).cpu() for batch in self.batches]) for part in tied
        ]
        importance = torch.ones(size, dtype=torch.float64)
        if self.method.choice == "read":
            importance = sum(self.importance[part.layer][part.start : part.stop] for part in tied).sqrt()
            importance = importance + 1e-3 * importance.mean().clamp(min=1e-12)
        return choose(covariance(activations), importance, count)

    def _activated(self, part: Part, batch: int) -> torch.Tensor:
        """Return what a part of the source gives, after its activation: (B, P, C)."""
        scale, shift = _affine(part.layer)
        out = self._sampled(part.layer, batch)
        if not isinstance(part.layer, nn.ConvTranspose2d):
            out = part.layer.act(out * scale + shift) if isinstance(part.layer, Conv) else out
            return out[..., part.start : part.stop]
        return out.unflatten(-1, (-1, 4)).flatten(-2)[..., ::4][..., part.start : part.stop]

    def _importance(self) -> dict[Layer, torch.Tensor]:
        """Return what a unit of each output channel is worth to the source's layers that read it: (C,) each."""
        worth = {
            layer: torch.zeros(outputs_of(layer), dtype=torch.float64)
            for unit in self.theirs
            for layer in layers_of(unit.module)
        }
        for layer, origins in self.their_origins.items():
            conv = convolution(layer)
            scale = _affine(layer)[0].double().cpu()
            weight = conv.weight.detach().double().cpu()  # (c2, c1 / g, k, k)
            if isinstance(layer, nn.ConvTranspose2d):
                reads = weight.pow(2).sum((1, 2, 3))
            elif conv.groups == 1:
                reads = (weight * scale.view(-1, 1, 1, 1)).pow(2).sum((0, 2, 3))
            else:
                per_group = (weight * scale.view(-1, 1, 1, 1)).pow(2).sum((2, 3)).unflatten(0, (conv.groups, -1)).sum(1)
                reads = per_group.flatten()
            for read, origin in zip(reads, origins, strict=True):
                if origin is not None and origin[0] is not None:
                    worth[origin[0]][origin[1]] += read
        return worth

    def _leave(self, unit: Unit, layer: Layer, added: bool) -> None:
        """Let a layer without counterpart begin as it would, or, where it is added to something, as nothing."""
        if added and isinstance(layer, Conv):
            nn.init.zeros_(layer.bn.weight)
            nn.init.zeros_(layer.bn.bias)
        elif isinstance(layer, Conv) and not bool(layer.bn.running_mean.any()):  # never trained
            _, mean, variance = self._measure(unit, layer)
            layer.bn.running_mean.copy_(mean)
            layer.bn.running_var.copy_(variance)
        self.fits.append(Fit(self.names[layer], "", "identity" if added else "random"))

    def _fit_layer(self, unit: Unit, layer: Layer, stands_for: Sequence[Channel]) -> None:
        """Solve for the weights of a layer whose outputs are to be those of channels of the source."""
        conv = convolution(layer)
        own = [index for index, channel in enumerate(stands_for) if channel is not None]
        channels = [channel for channel in stands_for if channel is not None]
        phases = 4 if isinstance(layer, nn.ConvTranspose2d) else 1
        each = len(own) if conv.groups == 1 else 1
        groups = [0] if conv.groups == 1 else own
        if conv.groups not in (1, conv.out_channels):
            self._leave(unit, layer, added=False)
            return
        taps = 1 if phases == 4 else conv.kernel_size[0] * conv.kernel_size[1]
        unknowns = conv.in_channels // conv.groups * taps
        fit, held = (Moments(len(groups), unknowns, each * phases, self.device) for _ in range(2))
        for batch in self.batches:
            x, size = self._patches(unit, layer, batch)  # (B, P, c1, taps)
            y = self._wanted(unit, channels, batch, phases)  # (B, P, outputs)
            weight = self._weight(unit, size, batch)
            for sums, images in _parted(batch, len(x), len(self.images)):
                if not images:
                    continue
                pixels = x[images].flatten(0, 1)  # (P, c1, taps)
                if conv.groups == 1:
                    inputs, outputs = pixels.flatten(1)[None], y[images].flatten(0, 1)[None]
                else:
                    inputs = pixels[:, groups].transpose(0, 1)
                    outputs = y[images].flatten(0, 1).T[..., None]
                (held if sums else fit).add(inputs, outputs, None if weight is None else weight[images].flatten())
        solution = solve(fit, held)
        self._write(layer, own, channels, solution.weight, solution.intercept)
        if isinstance(layer, Conv):
            self._normalise(unit, layer, own, channels, solution.intercept.flatten())
        names = dict.fromkeys(self.names[channel[0]] for channel in channels)
        self.came[layer] = list(stands_for)
        self.fits.append(Fit(self.names[layer], ", ".join(names), "fitted", solution.error))

    def _patches(self, unit: Unit, layer: Layer, batch: int) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return what a layer sees around the pixels that are looked at, (B, P, c1, taps), and the size of its map."""
        x, out = self._reach(unit, layer, batch)
        if isinstance(layer, nn.ConvTranspose2d):
            size = x.shape[2], x.shape[3]
            return _at(x, self._places(size, batch))[..., None], size
        size = out.shape[2], out.shape[3]
        conv, places = convolution(layer), self._places(size, batch)
        padded = functional.pad(x, (conv.padding[1],) * 2 + (conv.padding[0],) * 2)
        ys = (places // size[1] * conv.stride[0])[:, :, None, None]
        xs = (places % size[1] * conv.stride[1])[:, :, None, None]
        down = (torch.arange(conv.kernel_size[0], device=self.device) * conv.dilation[0])[:, None]
        along = (torch.arange(conv.kernel_size[1], device=self.device) * conv.dilation[1])[None]
        images = torch.arange(len(x), device=self.device)[:, None, None, None]
        found = padded.permute(0, 2, 3, 1)[images, ys + down, xs + along]  # (B, P, k, k, c1)
        return found.flatten(2, 3).transpose(2, 3), size

    def _reach(self, unit: Unit, layer: Layer, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a unit up to a layer; return what goes into its convolution and what comes out."""
        found: list[torch.Tensor] = []

        def stop(_: Any, args: Any, out: torch.Tensor) -> None:
            found.extend((args[0], out))
            raise _Stop

        handle = convolution(layer).register_forward_hook(stop)
        try:
            unit.run(self._inputs(unit, batch))
        except _Stop:
            pass
        finally:
            handle.remove()
        return found[0], found[1]

    def _wanted(self, unit: Unit, channels: Sequence[tuple[Layer, int]], batch: int, phases: int) -> torch.Tensor:
        """Return what the outputs should be before BatchNorm: (B, P, outputs)."""
        columns: dict[Layer, torch.Tensor] = {}
        for layer, _ in channels:
            if layer not in columns:
                columns[layer] = self._sampled(layer, batch)
                if unit.ends and unit.section.endswith("cv2"):
                    shape = columns[layer].shape[:2]
                    columns[layer] = box_targets(columns[layer].flatten(0, 1), self.reg_max).unflatten(0, shape)
        if phases > 1:
            return torch.cat([columns[layer][..., c * phases : (c + 1) * phases] for layer, c in channels], -1)
        if len(columns) == 1:
            return next(iter(columns.values()))[..., [c for _, c in channels]]
        return torch.stack([columns[layer][..., c] for layer, c in channels], -1)

    def _weight(self, unit: Unit, size: tuple[int, int], batch: int) -> torch.Tensor | None:
        """Return what each pixel counts: in the head, where there is something, more; (B, P)."""
        if not self.method.weighted or unit.section in ("backbone", "neck", "proto") or size not in self.scores:
            return None
        return FLOOR + self.scores[size][batch : batch + BATCH]

    def _write(
        self,
        layer: Layer,
        own: Sequence[int],
        channels: Sequence[tuple[Layer, int]],
        weight: torch.Tensor,
        intercept: torch.Tensor,
    ) -> None:
        """Put a solution into a layer's weights."""
        conv = convolution(layer)
        if isinstance(layer, nn.ConvTranspose2d):
            solved = weight[0].view(len(own), 2, 2, -1).permute(3, 0, 1, 2)  # (c1, own, 2, 2)
            conv.weight[:, own] = solved.to(conv.weight)
            conv.bias[own] = intercept.view(len(own), 4).mean(1).to(conv.bias)
            return
        conv.weight[own] = weight.reshape(len(own), *conv.weight.shape[1:]).to(conv.weight)
        if conv.bias is not None:
            conv.bias[own] = intercept.flatten().to(conv.bias)

    def _measure(self, unit: Unit, layer: Layer) -> tuple[int, torch.Tensor, torch.Tensor]:
        """Return the number of pixels, and mean and variance of what a layer's convolution gives on all images."""
        count, total, squares = 0, 0.0, 0.0
        for batch in self.batches:
            out = self._reach(unit, layer, batch)[1].double()
            count += out.numel() // out.shape[1]
            total, squares = total + out.sum((0, 2, 3)), squares + out.pow(2).sum((0, 2, 3))
        mean = torch.as_tensor(total) / count
        return count, mean, (torch.as_tensor(squares) / count - mean**2).clamp(min=0)

    def _normalise(
        self,
        unit: Unit,
        layer: Conv,
        own: Sequence[int],
        channels: Sequence[tuple[Layer, int]],
        intercept: torch.Tensor,
    ) -> None:
        """Give a layer's BatchNorm what makes of it the source's outputs, in evaluation and in training alike."""
        norm = layer.bn
        _, mean, variance = self._measure(unit, layer)
        scale = torch.stack([_affine(other)[0][c] for other, c in channels]).double()
        shift = torch.stack([_affine(other)[1][c] for other, c in channels]).double()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        std = (variance[own] + norm.eps).sqrt()
        # scale * (weight x + intercept) + shift, with the mean of weight x taken out by the BatchNorm
        norm.weight[own] = (scale * std).to(norm.weight)
        norm.bias[own] = (scale * (intercept + mean[own]) + shift).to(norm.bias)


# Helpers --------------------------------------------------------------------------------------------------------------


def _counterpart(part: Part, other: Part | None) -> Part | None:
    """Return the source's part if it can stand for the target's: both are added to something, or none is."""
    if other is None or bool(part.tie) != bool(other.tie):
        return None
    if isinstance(part.block, PSABlock):
        ours, theirs = (layers_of(each.block) for each in (part, other))
        heads = [each.block.attn.num_heads for each in (part, other)]
        if heads[0] != heads[1] or [outputs_of(each) for each in ours] != [outputs_of(each) for each in theirs]:
            return None
    return other


def _parted(batch: int, count: int, total: int) -> tuple[tuple[bool, list[int]], ...]:
    """Part the images of a batch into those that are fitted to and those held back, of all of them every eighth."""
    held = [i for i in range(count) if total > 1 and (batch + i) % HELD == HELD - 1]
    if 1 < total < HELD:
        held = [i for i in range(count) if batch + i == total - 1]
    return (False, [i for i in range(count) if i not in held]), (True, held)


def _at(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return maps (B, C, H, W) at places (B, P): (B, P, C)."""
    flat = maps.flatten(2)
    return flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)


def _affine(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift that a layer puts behind its convolution."""
    norm = getattr(layer, "bn", None)
    if not isinstance(norm, nn.BatchNorm2d):
        ones = torch.ones(outputs_of(layer), device=convolution(layer).weight.device)
        return ones, torch.zeros_like(ones)
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale.detach(), (norm.bias - norm.running_mean * scale).detach()


def _std(layer: Layer) -> torch.Tensor:
    norm = layer.bn
    return (norm.running_var + norm.eps).sqrt()


def _alike(a: Maps, b: Maps) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool((a - b).abs().max() <= SAME * b.abs().max().clamp(min=1e-6))
    return isinstance(a, list | tuple) and len(a) == len(b) and all(map(_alike, a, b))
