"""Weights of a reference network (timm's, torchvision's) into a backbone of ours."""

from pathlib import Path

import torch

from yolo_lite._registry import ConfigError
from yolo_lite.blocks import ConvNormAct


def load_reference(backbone, weights):
    """Load a reference's weights into a backbone.

    Both networks hold the same tensors in the same order, under other names; what the reference has beyond ours, at
    the end, is its classifier.

    Args:
        backbone: The backbone to fill.
        weights: A state dict, or the path of a file with one. Its names may be those of the reference, in any order
            (.safetensors files are sorted), or any others, in the reference's order.

    Raises:
        ConfigError: The file cannot be read, or a tensor does not have the shape that ours has; nothing is loaded.
    """
    if isinstance(weights, str | Path):
        weights = read_weights(weights)
    order = reference_names(backbone.name)
    own = {k: v for k, v in backbone.state_dict().items() if _counts(k)}
    names = order if set(order[: len(own)]) <= weights.keys() else [k for k in weights if _counts(k)]
    if len(names) < len(own):
        raise ConfigError(f"the weights have {len(names)} tensors, the backbone has {len(own)}")
    matched = {}
    for (name, tensor), their_name in zip(own.items(), names, strict=False):
        theirs = weights[their_name]
        if tensor.shape != theirs.shape:
            raise ConfigError(
                f"the weights do not fit: {their_name} has the shape {tuple(theirs.shape)}, "
                f"the backbone's {name} in its place has {tuple(tensor.shape)}"
            )
        matched[name] = theirs
    backbone.load_state_dict(matched, strict=False)


def _counts(name):
    """Tell whether a tensor is a weight or a statistic, not BatchNorm's count of batches, which nothing here uses."""
    return not name.endswith("num_batches_tracked")


def reference_names(name):
    """Return the names of a reference network's tensors, from first layer to last."""
    import timm
    import torchvision

    with torch.device("meta"):  # no memory, no random numbers
        model = timm.create_model(name) if timm.is_model(name) else torchvision.models.get_model(name, weights=None)
    return [key for key in model.state_dict() if _counts(key)]


def read_weights(path):
    """Read a state dict from a .pth, .pt or .safetensors file, as data, never as code.

    Raises:
        ConfigError: It cannot be read, or holds anything else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"{path}: cannot be read as weights ({' '.join(str(error).split())[:200]})") from None
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise ConfigError(f"{path}: needs a state dict, names with tensors, found {type(weights).__name__}")
    return weights


@torch.no_grad()
def fold_normalisation(backbone, mean, std):
    """Make a backbone that expects (x - mean) / std take x instead, by changing its first convolution and BatchNorm.

    Args:
        backbone: A backbone whose first module with weights is a `ConvNormAct`.
        mean: (3,)
        std: (3,)
    """
    stem = next(module for module in backbone.modules() if isinstance(module, ConvNormAct))
    weight = stem.conv.weight  # (c2, 3, k, k)
    weight /= std.to(weight).view(1, -1, 1, 1)
    # The convolution's output is larger by the response to the mean; BatchNorm subtracts that with its own mean.
    stem.bn.running_mean += (weight * mean.to(weight).view(1, -1, 1, 1)).sum((1, 2, 3))
