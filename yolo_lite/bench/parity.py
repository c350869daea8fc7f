"""How much an export differs from PyTorch: what is compared, how, and how much is no difference.

settle(network, imgsz)                               # a model with random weights only
expected = arrays(network(image))
run, _ = RUNTIMES["onnxruntime"].open(export(...), 1, "fp32")
deviation(run(image.numpy()), expected, imgsz)       # at most TOLERANCE times that of `network` in float64
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

TOLERANCE = 10  # times what rounding does


def settle(network: "torch.nn.Module", imgsz: int) -> None:
    """Give a random model BatchNorm statistics and biases with which its outputs depend on the image.

    Args:
        network: A model of Ultralytics, changed in place and left in eval mode.
        imgsz: Height and width of the random images that the statistics are taken of, pixels.
    """
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        network.train()(torch.rand(8, 3, imgsz, imgsz))
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        head = list(network.get_submodule("model").children())[-1]
        for branch in (*getattr(head, "cv2", ()), *getattr(head, "cv3", ())):
            branch[-1].weight *= 3  # random ones give boxes of one size and scores of 1e-5
            branch[-1].bias.zero_()
    network.eval()


def tensors(output: Any) -> "list[torch.Tensor]":
    """Return all tensors of a model's output, in order; those of the head's training part are at the end."""
    if output is None:  # RT-DETR's, of what it needs in training only
        return []
    if isinstance(output, dict):
        output = list(output.values())
    return [output] if hasattr(output, "numpy") else [each for part in output for each in tensors(part)]


def arrays(output: Any) -> "list[NDArray[Any]]":
    """Return all tensors of a model's output as arrays."""
    return [each.numpy() for each in tensors(output)]


def deviation(actual: "Iterable[NDArray[Any]]", expected: "Sequence[NDArray[Any]]", imgsz: int) -> float:
    """Return the largest difference of any output, relative to the range of its part.

    Args:
        actual: What an export gives: boxes and scores, (B, 4 + ..., N), the boxes in pixels; or outputs of other forms.
        expected: What PyTorch gives, in any order, more than that as it may be.
        imgsz: Height and width of the image, pixels, the range of the boxes.

    Raises:
        ValueError: An output has a shape that PyTorch's have not.
    """
    worst = 0.0
    for output in actual:
        same = next((each for each in expected if each.shape == output.shape), None)
        if same is None:
            raise ValueError(f"an output of shape {output.shape}, PyTorch's are {[each.shape for each in expected]}")
        boxes = output.ndim == 3
        parts = ((slice(0, 4), imgsz), (slice(4, None), None)) if boxes else ((slice(None), None),)
        for part, scale in parts:
            worst = max(worst, _largest(output[:, part] - same[:, part]) / (scale or _largest(same[:, part])))
    return worst


def _largest(values: "NDArray[np.floating[Any]]") -> float:
    return float(abs(values).max())
