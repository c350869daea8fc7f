"""Cost model that predicts a model's latency from its layers, fitted to a few dozen models measured on the machine.

Latency is a sum over the layers: multiply-adds of each kind of convolution, values read and written, and calls. The
price of each kind of work is fitted to the measured latencies by non-negative least squares on the relative errors.
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

NARROW = 16  # channels: ungrouped convolutions with fewer use only a fraction of a vector unit
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
SIMPLE = (nn.ReLU, nn.ReLU6, nn.Identity)  # activations that runtimes fuse into the preceding convolution
Work: TypeAlias = Mapping[str, float]  # amount of work of a model's layers, by kind


def work(model: "BaseModel", imgsz: int) -> Work:
    """Count the work of a model's layers for one image, in millions; calls are plain counts.

    Args:
        model: Fused model, on any device; it is run once on an image of zeros, since only shapes matter.
        imgsz: Height and width of the image, in pixels.
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
    """Scale the work of a model's layers to another image size.

    Args:
        done: Work at the image size that it was counted at.
        ratio: New image size divided by that image size.
    """
    same = ("weights", "convolutions", "other calls")
    return {kind: amount if kind in same else amount * ratio**2 for kind, amount in done.items()}


def _channels(model: nn.Module) -> int:
    return int(next(module for module in model.modules() if isinstance(module, nn.Conv2d)).in_channels)


@dataclass(frozen=True)
class CostModel:
    """Linear cost model of latency.

    Attributes:
        prices: Milliseconds per unit of work, by kind.
        error: Median relative error of the leave-one-out predictions of the measured models.
        worst: 90th percentile of the leave-one-out relative errors.
    """

    prices: Mapping[str, float]
    error: float
    worst: float

    def predict(self, done: Work) -> float:
        """Predict the latency in milliseconds; kinds of work that no measured model had cost nothing."""
        return sum(self.prices.get(kind, 0.0) * amount for kind, amount in done.items())


def fit(works: Sequence[Work], times: Sequence[float]) -> CostModel:
    """Fit the prices to measured models.

    Args:
        works: Work of each measured model.
        times: Latency of each measured model, in milliseconds.
    """
    kinds = sorted({kind for each in works for kind in each})
    amounts = np.array([[each.get(kind, 0.0) for kind in kinds] for each in works])
    measured = np.array(times)
    errors = []
    for left_out in range(len(times) if len(times) > 1 else 0):
        rest = np.arange(len(times)) != left_out
        prices = _prices(amounts[rest], measured[rest])
        errors.append(abs(amounts[left_out] @ prices / measured[left_out] - 1))
    prices = _prices(amounts, measured)
    low, high = np.quantile(errors, [0.5, 0.9]) if errors else (0.0, 0.0)
    return CostModel(dict(zip(kinds, prices.tolist(), strict=True)), float(low), float(high))


def _prices(amounts: np.ndarray, times: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls

    rows = amounts / times[:, None]
    scale = rows.mean(0).clip(1e-12)  # the solver needs columns of similar magnitude
    found: np.ndarray = nnls(rows / scale, np.ones(len(times)))[0] / scale
    return found
