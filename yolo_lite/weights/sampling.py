"""Inputs and outputs of layers on some images, at a sample of pixels that source and target share."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from yolo_lite.weights.roles import IMAGE, Layer, Maps, Unit, convolution
from yolo_lite.weights.store import Store

BATCH = 8  # images per batch
HELD = 8  # every eighth image is held out, to choose the ridge and to estimate the error
PIXELS = 24_000  # sampled pixels per layer, over all images

Size: TypeAlias = tuple[int, int]  # height and width of a map


class Images:
    """Images in batches, and the sampled pixels for each map size.

    Args:
        images: Images of shape (N, C, H, W), uint8.
        device: Device to which batches are moved.
        seed: Seed of the pixel sampling.
    """

    def __init__(self, images: torch.Tensor, device: torch.device, seed: int) -> None:
        self.images, self.device, self.seed = images, device, seed
        self.batches = range(0, len(images), BATCH)
        self.drawn: dict[Size, torch.Tensor] = {}

    def batch(self, start: int) -> torch.Tensor:
        """Return the batch that starts at an image index, as input of a model: (B, C, H, W), 0 to 1."""
        return self.images[start : start + BATCH].to(self.device).float() / 255

    def places(self, size: Size, start: int) -> torch.Tensor:
        """Return the flat indices of the sampled pixels for a batch: (B, P)."""
        if size not in self.drawn:
            generator = torch.Generator().manual_seed(self.seed)
            count = min(size[0] * size[1], -(-PIXELS // len(self.images)))
            each = [torch.randperm(size[0] * size[1], generator=generator)[:count] for _ in self.images]
            self.drawn[size] = torch.stack(each).sort(1).values
        return self.drawn[size][start : start + BATCH].to(self.device)


class Given:
    """Recorded outputs of the source's layers before their BatchNorm.

    Args:
        images: Images to run the source on.
        units: Units of the source.
        wanted: Numbers of the units whose layers are recorded.
        folder: Folder for outputs that do not fit into memory.
    """

    def __init__(self, images: Images, units: Sequence[Unit], wanted: set[int], folder: Path) -> None:
        self.images, self.store = images, Store(folder)
        self.sizes: dict[Layer, Size] = {}
        self.scores: dict[Size, torch.Tensor] = {}  # the highest class score at each pixel, (N, P)
        batch = 0

        def keep(layer: Layer) -> Callable[..., None]:
            def hook(_: Any, args: Any, out: torch.Tensor) -> None:
                if isinstance(layer, nn.ConvTranspose2d):
                    out = functional.pixel_unshuffle(out, 2)
                self.sizes[layer] = size = (out.shape[2], out.shape[3])
                self.store.put((layer, batch), at(out, images.places(size, batch)))

            return hook

        last_use = {each: number for number, unit in enumerate(units) for each in unit.inputs}
        with contextlib.ExitStack() as stack:
            for layer in dict.fromkeys(part.layer for number in sorted(wanted) for part in units[number].parts):
                stack.callback(convolution(layer).register_forward_hook(keep(layer)).remove)
            for batch in images.batches:
                maps: dict[int, Maps] = {IMAGE: images.batch(batch)}
                for number, unit in enumerate(units):
                    maps[number] = unit.run([maps[each] for each in unit.inputs])
                    for each in {*unit.inputs, number}:
                        if last_use.get(each, number) == number:
                            del maps[each]
        for unit in units:
            if unit.section == "cv3" and unit.ends and unit.module in self.sizes:
                scores = [self.get(unit.module, batch).sigmoid().amax(-1) for batch in images.batches]
                self.scores[self.sizes[unit.module]] = torch.cat(scores)

    def get(self, layer: Layer, batch: int) -> torch.Tensor:
        """Return the output of a layer for a batch at the sampled pixels: (B, P, C)."""
        found: torch.Tensor = self.store.get((layer, batch), self.images.device)
        return found


class _Stop(Exception):
    """Ends a forward pass once the layer in question has been reached."""


class Running:
    """The target model, run unit by unit; a unit's output is kept as long as a later unit needs it.

    Args:
        images: Images to run the target on.
        units: Units of the target.
        folder: Folder for maps that do not fit into memory.
    """

    def __init__(self, images: Images, units: Sequence[Unit], folder: Path) -> None:
        self.images, self.units, self.maps = images, units, Store(folder)
        self.last_use = {each: number for number, unit in enumerate(units) for each in unit.inputs}

    def run(self, number: int) -> None:
        """Run a unit on all images, and drop the maps that no later unit needs."""
        unit = self.units[number]
        for batch in self.images.batches:
            if number in self.last_use:
                self.maps.put((number, batch), unit.run(self.inputs(unit, batch)))
            for each in {each for each in unit.inputs if each != IMAGE and self.last_use[each] == number}:
                self.maps.drop((each, batch))

    def inputs(self, unit: Unit, batch: int) -> list[Maps]:
        """Return the inputs of a unit for a batch."""
        device = self.images.device
        return [
            self.images.batch(batch) if each == IMAGE else self.maps.get((each, batch), device) for each in unit.inputs
        ]

    def reach(self, unit: Unit, layer: Layer, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a unit up to a layer; return the input and the output of the layer's convolution."""
        found: list[torch.Tensor] = []

        def stop(_: Any, args: Any, out: torch.Tensor) -> None:
            found.extend((args[0], out))
            raise _Stop

        handle = convolution(layer).register_forward_hook(stop)
        try:
            unit.run(self.inputs(unit, batch))
        except _Stop:
            pass
        finally:
            handle.remove()
        return found[0], found[1]

    def patches(self, unit: Unit, layer: Layer, batch: int) -> tuple[torch.Tensor, Size]:
        """Return a layer's input patches around the sampled pixels, (B, P, c1, taps), and the size of the map."""
        x, out = self.reach(unit, layer, batch)
        conv, device = convolution(layer), self.images.device
        if isinstance(layer, nn.ConvTranspose2d):
            size = x.shape[2], x.shape[3]
            return at(x, self.images.places(size, batch))[..., None], size
        size = out.shape[2], out.shape[3]
        places = self.images.places(size, batch)
        padded = functional.pad(x, (conv.padding[1],) * 2 + (conv.padding[0],) * 2)
        ys = (places // size[1] * conv.stride[0])[:, :, None, None]
        xs = (places % size[1] * conv.stride[1])[:, :, None, None]
        down = (torch.arange(conv.kernel_size[0], device=device) * conv.dilation[0])[:, None]
        along = (torch.arange(conv.kernel_size[1], device=device) * conv.dilation[1])[None]
        each = torch.arange(len(x), device=device)[:, None, None, None]
        found = padded.permute(0, 2, 3, 1)[each, ys + down, xs + along]  # (B, P, k, k, c1)
        return found.flatten(2, 3).transpose(2, 3), size

    def without(self, unit: Unit, layer: Layer, batch: int) -> Maps:
        """Return the output of a unit with the output of a layer set to zero."""
        handle = layer.register_forward_hook(lambda _, args, out: torch.zeros_like(out))
        try:
            return unit.run(self.inputs(unit, batch))
        finally:
            handle.remove()

    def measure(self, unit: Unit, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean and variance, (C,) each, of the output of a layer's convolution over all images."""
        count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for batch in self.images.batches:
            out = self.reach(unit, layer, batch)[1].double().cpu()
            count += out.numel() // out.shape[1]
            total, squares = total + out.sum((0, 2, 3)), squares + out.pow(2).sum((0, 2, 3))
        mean = total / count
        return mean, (squares / count - mean**2).clamp(min=0)


def at(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the values of maps (B, C, H, W) at flat pixel indices (B, P): (B, P, C)."""
    flat = maps.flatten(2)
    return flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
