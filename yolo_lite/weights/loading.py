"""How a reference's tensors fit a backbone of ours."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv

from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError
from yolo_lite.meta import without_memory


def load(
    stages: nn.Module,
    variant: str,
    weights: Mapping[str, torch.Tensor],
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[int, int]:
    """Load a reference's weights into stages of ours, and fold the normalisation of its input into the first.

    Args:
        stages: The stages P1, P2, ... of one backbone, in order.
        variant: Its name.
        weights: The reference's state dict.
        mean: What the weights expect to be subtracted from an image in 0..1, per channel.
        std: What they expect it to be divided by.

    Returns:
        (int, int): Tensors loaded, tensors in the weights.

    Raises:
        ConfigError: A tensor does not have the shape that ours has; nothing is loaded.
    """
    counts = load_reference(stages, variant, weights)
    fold_normalisation(stages, torch.tensor(mean), torch.tensor(std))
    return counts


def load_reference(stages: nn.Module, variant: str, weights: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """Load a reference's weights into the stages of a backbone.

    Both networks hold the same tensors in the same order, under other names, unless the family knows the names; what
    the reference has beyond ours, at the end, is its classifier. For an image of one channel the first convolution is
    summed over its three, for more than three the further ones start at zero.

    Args:
        stages: A `Backbone`, or its first stages, in order.
        variant: The backbone's name, which is its reference's.
        weights: A state dict. Its names may be those of the reference, in any order (.safetensors files are sorted),
            or any others, in the reference's order.

    Returns:
        (int, int): Tensors loaded, tensors in the weights.

    Raises:
        ConfigError: A tensor does not have the shape that ours has, is another kind of tensor by its name, or holds
            what no weights hold; nothing is loaded.
    """
    own = {k: v for k, v in stages.state_dict().items() if _counts(k)}
    names = _names(own, variant, weights)
    if len(names) < len(own):
        raise ConfigError(f"the weights have {len(names)} tensors, the backbone has {len(own)}")
    matched: dict[str, torch.Tensor] = {}
    for index, ((name, tensor), their_name) in enumerate(zip(own.items(), names, strict=False)):
        theirs = weights[their_name]
        if index == 0 and theirs.ndim == 4 and theirs.shape[1] == 3 != tensor.shape[1]:
            pass  # the image's channels: adapted after the normalisation is folded in
        elif tensor.shape != theirs.shape:
            raise ConfigError(
                f"the weights do not fit: {their_name} has the shape {tuple(theirs.shape)}, "
                f"the backbone's {name} in its place has {tuple(tensor.shape)}"
            )
        if _role(their_name) not in (None, _role(name)):
            raise ConfigError(f"the weights do not fit: {their_name} stands where the backbone has {name}")
        check_values(name, their_name, theirs)
        matched[name] = theirs
    first = next(iter(own))
    stem, _ = _stem(stages)
    if matched[first].shape != own[first].shape:
        stem.weight = torch.nn.Parameter(matched.pop(first).to(own[first]))  # three channels until it is folded
    stages.load_state_dict(matched, strict=False)
    return len(own), sum(map(_counts, weights))


def check_values(name: str, their_name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that was never trained: other than plain floating-point numbers, NaN, infinite, variance below 0.

    Args:
        name: What we call it.
        their_name: What its file calls it.
        tensor: The tensor.

    Raises:
        ConfigError: It is such.
    """
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        kind = "without data" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")
        kind += "" if tensor.layout == torch.strided else f", {str(tensor.layout).removeprefix('torch.')}"
        raise ConfigError(f"the weights' {their_name} is {kind}; needed floating-point numbers")
    if not tensor.float().isfinite().all():
        raise ConfigError(f"the weights' {their_name} holds values that are NaN or infinite")
    if _role(name) == "running_var" and bool((tensor.float() < 0).any()):
        raise ConfigError(f"the weights' {their_name} is a variance and holds values below 0")


ROLES = {  # the last part of a tensor's name -> what it is
    "weight": "weight", "gamma": "weight", "kernel": "weight",
    "bias": "bias", "beta": "bias",
    "running_mean": "running_mean", "moving_mean": "running_mean",
    "running_var": "running_var", "moving_variance": "running_var", "moving_var": "running_var",
}  # fmt: skip


def _role(name: str) -> str | None:
    """Return what a tensor is by its name, None where that does not say it."""
    return ROLES.get(re.split(r"[./]", name)[-1])


def _refuse_those_of_another(variant: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights of another variant of the same family, known by its names: they may fit, and compute otherwise."""
    stage = families().get(variant)
    for other in stage.variants if stage is not None else ():
        if stage is not None and stage.variants[other] != stage.variants[variant]:
            names = reference_names(other)
            if names and set(names[:-2]) <= weights.keys():  # the classifier may differ
                raise ConfigError(
                    f"these are weights of {other}, which computes differently from {variant}; use {other}"
                )


def _counts(name: str) -> bool:
    """Tell whether a tensor is a weight or a statistic, not BatchNorm's count of batches, which nothing here uses."""
    return not name.endswith("num_batches_tracked")


def _names(own: Collection[str], variant: str, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the weights' names of the tensors that a backbone has, in its order.

    Raises:
        ConfigError: The family knows the names, and some are missing; or they are those of another variant.
    """
    stage = families().get(variant)
    known = [stage.reference_name(name.removeprefix("stages.")) for name in own] if stage else []
    if known and known[0] in weights:  # else they have names of ours
        missing = [name for name in known if name not in weights]
        if missing:
            raise ConfigError(f"the weights lack {len(missing)} of the {len(known)} tensors, {missing[0]} among them")
        return known
    order = reference_names(variant)
    if order and set(order[: len(own)]) <= weights.keys():
        return order
    _refuse_those_of_another(variant, weights)
    return [k for k in weights if _counts(k)]


def _stem(stages: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d | None]:
    """Return a backbone's first convolution, and the BatchNorm after it, None where the convolution has a bias."""
    first: Any = next(module for module in stages.modules() if isinstance(module, Conv | nn.Conv2d))
    return (first.conv, first.bn) if isinstance(first, Conv) else (first, None)


def reference_names(name: str) -> list[str]:
    """Return the names of a reference network's tensors, from first layer to last; none if no package has it.

    Args:
        name: timm's or torchvision's name of the network.
    """
    import timm
    import torchvision

    if timm.is_model(name):
        model = without_memory(lambda: timm.create_model(name))
    elif name in torchvision.models.list_models():
        model = without_memory(lambda: torchvision.models.get_model(name, weights=None))
    else:
        return []
    return [key for key in model.state_dict() if _counts(key)]


@torch.no_grad()
def fold_normalisation(stages: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Make a backbone that expects (x - mean) / std take x instead, by changing its first convolution and BatchNorm.

    Args:
        stages: A backbone whose first module with weights is a convolution of three input channels, which has a bias
            or a BatchNorm after it.
        mean: (3,)
        std: (3,)
    """
    conv, norm = _stem(stages)
    weight = conv.weight  # (c2, 3, k, k)
    weight /= std.to(weight).view(1, -1, 1, 1)
    response = (weight * mean.to(weight).view(1, -1, 1, 1)).sum((1, 2, 3))  # to the mean: so much larger is the output
    if norm is None:
        assert conv.bias is not None
        conv.bias -= response
    else:
        assert norm.running_mean is not None
        norm.running_mean += response  # which BatchNorm subtracts with its own mean
    channels = conv.in_channels
    if channels != weight.shape[1]:
        one = weight.sum(1, keepdim=True)
        more = torch.cat((weight, weight.new_zeros(len(weight), max(channels - 3, 0), *weight.shape[2:])), 1)
        conv.weight = torch.nn.Parameter(one if channels == 1 else more[:, :channels].clone())
