"""Compare the outputs of an export with PyTorch's, relative to the rounding error.

settle(network, imgsz)                               # for models with random weights only
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

TOLERANCE = 10  # maximum deviation that counts as equal, as a multiple of the rounding error


def settle(network: "torch.nn.Module", imgsz: int) -> None:
    """Set BatchNorm statistics and head weights of a random model so that its outputs depend on the image.

    Args:
        network: Ultralytics model; modified in place and left in eval mode.
        imgsz: Height and width of the random images for the BatchNorm statistics, pixels.
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
            branch[-1].weight *= 3  # initial weights give boxes of one size and scores of 1e-5
            branch[-1].bias.zero_()
    network.eval()


def tensors(output: Any) -> "list[torch.Tensor]":
    """Return all tensors of a model's output, in order; those needed for training only come last."""
    if output is None:  # an output of RT-DETR that is only used in training
        return []
    if isinstance(output, dict):
        output = list(output.values())
    return [output] if hasattr(output, "numpy") else [each for part in output for each in tensors(part)]


def arrays(output: Any) -> "list[NDArray[Any]]":
    """Return all tensors of a model's output as NumPy arrays."""
    return [each.numpy() for each in tensors(output)]


def deviation(actual: "Iterable[NDArray[Any]]", expected: "Sequence[NDArray[Any]]", imgsz: int) -> float:
    """Return the largest difference of any output, relative to the range of its values (boxes, or the rest).

    Args:
        actual: Outputs of an export: boxes and scores, (B, 4 + ..., N), with boxes in pixels; or other outputs.
        expected: Outputs of PyTorch, in any order; may include further outputs.
        imgsz: Height and width of the image, pixels; the range of the boxes.

    Raises:
        ValueError: An output has a shape that no output of PyTorch has.
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
