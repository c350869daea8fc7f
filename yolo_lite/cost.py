"""Count parameters and GFLOPs the same way for every model: fused, at the actual image size."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.torch_utils import fuse_conv_and_bn

Model = TypeVar("Model", bound=nn.Module)


def cost(model: nn.Module, imgsz: int = 640) -> tuple[int, float]:
    """Count the parameters and GFLOPs of a fused model, as deployed.

    GFLOPs are twice the multiply-adds that thop counts for a full-size image. Ultralytics' own counter extrapolates
    from a small image and returns 0.0 on any failure; here that is an error.

    Args:
        model: Ultralytics model (`YOLO(...).model`) or yolo_lite backbone; it is not modified.
        imgsz: Height and width of the image, pixels.

    Returns:
        (int, float): Number of parameters, GFLOPs.

    Raises:
        RuntimeError: The count is 0.
    """
    parameters, (gflops,) = costs(model, [imgsz])
    return parameters, gflops


def costs(model: nn.Module, sizes: Sequence[int]) -> tuple[int, list[float]]:
    """Count the parameters of a fused model, and its GFLOPs at several image sizes, as `cost` does.

    Args:
        model: Ultralytics model (`YOLO(...).model`) or yolo_lite backbone; it is not modified.
        sizes: Image sizes (height and width), pixels.

    Returns:
        (int, list[float]): Number of parameters, GFLOPs at each size.
    """
    model = _shapes_only(model)
    gflops = [2 * _count(model, size)[0] / 1e9 for size in sizes]
    return sum(p.numel() for p in model.parameters()), gflops


def row_gflops(model: BaseModel, imgsz: int = 640) -> list[float]:
    """Count GFLOPs per row of a model's YAML, without matrix products that are computed outside of layers.

    Args:
        model: Ultralytics model.
        imgsz: Height and width of the image, pixels.

    Returns:
        (list[float]): GFLOPs of each row.
    """
    layers: Any = model.model
    _, rows = _count(_shapes_only(model), imgsz)
    return [2 * rows[str(index)][0] / 1e9 for index in range(len(layers))]


def _shapes_only(model: Model) -> Model:
    """Return a fused copy on the meta device: counting needs shapes only."""
    # Ultralytics' own `to` would also move the strides of its head.
    shapes: Model = nn.Module._apply(fused(model), lambda tensor: tensor.to("meta"))
    return shapes


def _count(model: nn.Module, imgsz: int) -> tuple[float, dict[str, Any]]:
    """Return a model's multiply-adds, and thop's tuples (multiply-adds first) for the children of `model.model`."""
    import thop

    channels = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)).in_channels
    with torch.no_grad(), torch.device("meta"):
        image = torch.zeros(1, channels, imgsz, imgsz)
        macs, _, layers = thop.profile(model, inputs=(image,), verbose=False, ret_layer_info=True)
    if not macs > 0:
        raise RuntimeError(f"thop counted {macs} multiply-adds")
    return macs, layers.get("model", ({},))[-1]


def fused(model: Model) -> Model:
    """Return a copy in eval mode, fused as Ultralytics does it.

    Args:
        model: Ultralytics model or yolo_lite backbone.
    """
    model = copy.deepcopy(model).float().eval()
    if isinstance(model, BaseModel):
        fuse: Callable[..., Model] = model.fuse
        return fuse(verbose=False)
    modules: list[Any] = list(model.modules())
    for module in modules:
        if hasattr(type(module), "fold"):
            module.fold()
        elif isinstance(module, Conv) and hasattr(module, "bn"):
            module.conv = fuse_conv_and_bn(module.conv, module.bn)
            del module.bn
            module.forward = module.forward_fuse  # as Ultralytics does it
    return model
