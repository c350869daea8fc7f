"""What a model costs, counted the same way for every model: fused, at the real image size."""

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
    """Count a model's parameters and GFLOPs after fusing, as it runs when deployed.

    GFLOPs are twice thop's multiply-adds of a whole image. Ultralytics' own counter extrapolates from a small image,
    and gives 0.0 when anything goes wrong; here that is an error.

    Args:
        model: A model of Ultralytics (`YOLO(...).model`) or a backbone of ours; it is left as it is.
        imgsz: Height and width of the image, pixels.

    Returns:
        (int, float): Parameters, GFLOPs.

    Raises:
        RuntimeError: The count is 0.
    """
    parameters, (gflops,) = costs(model, [imgsz])
    return parameters, gflops


def costs(model: nn.Module, sizes: Sequence[int]) -> tuple[int, list[float]]:
    """Do what `cost` does at several image sizes.

    Args:
        model: As for `cost`.
        sizes: Heights and widths of the image, pixels.

    Returns:
        (int, list[float]): Parameters, GFLOPs at each size.
    """
    model = _shapes_only(model)
    gflops = [2 * _count(model, size)[0] / 1e9 for size in sizes]
    return sum(p.numel() for p in model.parameters()), gflops


def row_gflops(model: BaseModel, imgsz: int = 640) -> list[float]:
    """Count what `cost` counts row by row of the YAML that a model was built from, without products outside of layers.

    Args:
        model: A model of Ultralytics.
        imgsz: Height and width of the image, pixels.

    Returns:
        (list[float]): GFLOPs of each row.
    """
    layers: Any = model.model
    _, rows = _count(_shapes_only(model), imgsz)
    return [2 * rows[str(index)][0] / 1e9 for index in range(len(layers))]


def _shapes_only(model: Model) -> Model:
    """Return a fused copy without memory: shapes are all that is counted."""
    # Ultralytics' own `to` would move the strides of its head as well.
    shapes: Model = nn.Module._apply(fused(model), lambda tensor: tensor.to("meta"))
    return shapes


def _count(model: nn.Module, imgsz: int) -> tuple[float, dict[str, Any]]:
    """Return a model's multiply-adds, and thop's tuples, multiply-adds first, of what `model.model` holds."""
    import thop

    channels = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)).in_channels
    with torch.no_grad(), torch.device("meta"):
        image = torch.zeros(1, channels, imgsz, imgsz)
        macs, _, layers = thop.profile(model, inputs=(image,), verbose=False, ret_layer_info=True)
    if not macs > 0:
        raise RuntimeError(f"thop counted {macs} multiply-adds")
    return macs, layers.get("model", ({},))[-1]


def fused(model: Model) -> Model:
    """Return a copy for inference, fused as Ultralytics does it.

    Args:
        model: A model of Ultralytics, or a backbone of ours.
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
            module.forward = module.forward_fuse  # type: ignore[method-assign]  # as Ultralytics does it
    return model
