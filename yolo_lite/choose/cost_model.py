"""How long a model takes on a machine, told from what its layers do, after some dozen models have been measured there.

Time is a sum over the layers: products of each kind of convolution, values read and written, calls. What one of each
costs is fitted to the measured times, none below 0, so that relative errors are least.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

NARROW = 16  # channels: dense convolutions of fewer use a fraction of a vector unit
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
SIMPLE = (nn.ReLU, nn.ReLU6, nn.Identity)  # activations that runtimes put into the convolution before them
Work: TypeAlias = Mapping[str, float]  # what a model's layers do, by kind


def work(model: "BaseModel", imgsz: int) -> Work:
    """Count what a model's layers do for one image; in millions, but for calls.

    Args:
        model: Fused, on any device; it is run on shapes alone.
        imgsz: Height and width of the image, pixels.
    """
    found: dict[str, float] = defaultdict(float)

    def convolution(layer: Any, args: Any, out: torch.Tensor) -> None:
        c1, kernel = layer.in_channels // layer.groups, layer.kernel_size[0] * layer.kernel_size[1]
        products = out.numel() * c1 * kernel
        if isinstance(layer, nn.ConvTranspose2d):
            products = args[0].numel() * layer.out_channels // layer.groups * kernel
        if layer.groups == 1:
            kind = "pointwise" if kernel == 1 else "dense"
            kind = f"narrow {kind}" if min(c1, layer.out_channels) < NARROW else kind
        else:
            kind = f"depthwise {layer.kernel_size[0]}" if c1 == 1 else "grouped"
        found[kind] += products / 1e6
        found["read by convolutions"] += args[0].numel() / 1e6
        found["written by convolutions"] += out.numel() / 1e6
        found["weights"] += layer.weight.numel() / 1e6
        found["convolutions"] += 1

    def other(layer: nn.Module, args: Any, out: Any) -> None:
        if isinstance(out, torch.Tensor) and not isinstance(layer, SIMPLE):
            found[f"{type(layer).__name__} values"] += out.numel() / 1e6
            found["other calls"] += 1

    handles = []
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            handles.append(module.register_forward_hook(convolution))
        elif not any(True for _ in module.children()):
            handles.append(module.register_forward_hook(other))
    try:
        with torch.no_grad():
            model(torch.zeros(1, _channels(model), imgsz, imgsz, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return dict(found)


def at_size(done: Work, ratio: float) -> Work:
    """Return what the layers do for an image of another size.

    Args:
        done: For an image that they were counted at.
        ratio: Of the other's height and width to its.
    """
    same = ("weights", "convolutions", "other calls")
    return {kind: amount if kind in same else amount * ratio**2 for kind, amount in done.items()}


def _channels(model: nn.Module) -> int:
    return int(next(module for module in model.modules() if isinstance(module, nn.Conv2d)).in_channels)


@dataclass(frozen=True)
class CostModel:
    """Milliseconds that one of each kind of work takes.

    Attributes:
        prices: By kind.
        error: Median relative error, each measured model told from the others.
        worst: The ninth decile of it.
    """

    prices: Mapping[str, float]
    error: float
    worst: float

    def predict(self, done: Work) -> float:
        """Return the milliseconds that a model takes; kinds that no measured model had cost nothing."""
        return sum(self.prices.get(kind, 0.0) * amount for kind, amount in done.items())


def fit(works: Sequence[Work], times: Sequence[float]) -> CostModel:
    """Fit the prices to measured models.

    Args:
        works: What they do.
        times: Milliseconds that they took.
    """
    kinds = sorted({kind for each in works for kind in each})
    amounts = np.array([[each.get(kind, 0.0) for kind in kinds] for each in works])
    measured = np.array(times)
    errors = []
    for left_out in range(len(times)):
        rest = np.arange(len(times)) != left_out
        prices = _prices(amounts[rest], measured[rest])
        errors.append(abs(amounts[left_out] @ prices / measured[left_out] - 1))
    prices = _prices(amounts, measured)
    low, high = np.quantile(errors, [0.5, 0.9]) if errors else (0.0, 0.0)
    return CostModel(dict(zip(kinds, prices.tolist(), strict=True)), float(low), float(high))


def _prices(amounts: np.ndarray, times: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls

    rows = amounts / times[:, None]
    scale = rows.mean(0).clip(1e-12)  # the solver wants columns of like size
    found: np.ndarray = nnls(rows / scale, np.ones(len(times)))[0] / scale
    return found
