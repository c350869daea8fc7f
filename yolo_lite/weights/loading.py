"""Load the tensors of a reference network into a yolo_lite backbone."""

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
    """Load a reference's weights into backbone stages, and fold its input normalisation into the first layer.

    Args:
        stages: Stages P1, P2, ... of one backbone, in order.
        variant: Name of the backbone.
        weights: State dict of the reference.
        mean: Mean per channel that the weights expect to be subtracted from an image in 0..1.
        std: Standard deviation per channel that the weights expect the image to be divided by.

    Returns:
        (int, int): Number of tensors loaded, number of tensors in the weights.

    Raises:
        ConfigError: If the weights do not fit, as for `load_reference`; nothing is loaded.
    """
    counts = load_reference(stages, variant, weights)
    fold_normalisation(stages, torch.tensor(mean), torch.tensor(std))
    return counts


def load_reference(stages: nn.Module, variant: str, weights: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """Load a reference's weights into the stages of a backbone.

    Both networks hold the same tensors in the same order under different names, so tensors are matched by position
    unless the family can map their names; extra tensors at the end of the reference are its classifier. If the image
    does not have three channels, the first convolution keeps three until `fold_normalisation` adapts it.

    Args:
        stages: A `Backbone`, or its first stages, in order.
        variant: Name of the backbone, the same as its reference's.
        weights: State dict with the names of the reference, in any order (.safetensors files are sorted), or with any
            other names, in the reference's order.

    Returns:
        (int, int): Number of tensors loaded, number of tensors in the weights.

    Raises:
        ConfigError: If tensors are missing, a tensor has a different shape than the backbone's, another role by its
            name or invalid values, or the weights are those of another variant; nothing is loaded.
    """
    own = {k: v for k, v in stages.state_dict().items() if _counts(k)}
    names = _names(own, variant, weights)
    if len(names) < len(own):
        raise ConfigError(f"the weights have {len(names)} tensors, the backbone has {len(own)}")
    matched: dict[str, torch.Tensor] = {}
    for index, ((name, tensor), their_name) in enumerate(zip(own.items(), names, strict=False)):
        theirs = weights[their_name]
        if index == 0 and theirs.ndim == 4 and theirs.shape[1] == 3 != tensor.shape[1]:
            pass  # image channels: adapted after the normalisation is folded in
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
        stem.weight = torch.nn.Parameter(matched.pop(first).to(own[first]))  # three channels until folded
    stages.load_state_dict(matched, strict=False)
    return len(own), sum(map(_counts, weights))


def check_values(name: str, their_name: str, tensor: torch.Tensor) -> None:
    """Reject a tensor that cannot be trained weights: not dense floating-point, NaN, infinite, or negative variance.

    Args:
        name: Name of the tensor in the backbone.
        their_name: Name of the tensor in its file.
        tensor: Tensor to check.

    Raises:
        ConfigError: If the tensor is invalid.
    """
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        kind = "without data" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")
        kind += "" if tensor.layout == torch.strided else f", {str(tensor.layout).removeprefix('torch.')}"
        raise ConfigError(f"the weights' {their_name} is {kind}; needed floating-point numbers")
    if not tensor.float().isfinite().all():
        raise ConfigError(f"the weights' {their_name} holds values that are NaN or infinite")
    if _role(name) == "running_var" and bool((tensor.float() < 0).any()):
        raise ConfigError(f"the weights' {their_name} is a variance and holds values below 0")


ROLES = {  # last part of a tensor's name -> its role
    "weight": "weight", "gamma": "weight", "kernel": "weight",
    "bias": "bias", "beta": "bias",
    "running_mean": "running_mean", "moving_mean": "running_mean",
    "running_var": "running_var", "moving_variance": "running_var", "moving_var": "running_var",
}  # fmt: skip


def _role(name: str) -> str | None:
    """Return the role of a tensor by its name, None if the name does not indicate one."""
    return ROLES.get(re.split(r"[./]", name)[-1])


def _refuse_those_of_another(variant: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Reject weights that by their names are another variant's of the family: they may fit but compute differently."""
    stage = families().get(variant)
    for other in stage.variants if stage is not None else ():
        if stage is not None and stage.variants[other] != stage.variants[variant]:
            names = reference_names(other)
            if names and set(names[:-2]) <= weights.keys():  # the classifier may differ
                raise ConfigError(
                    f"these are weights of {other}, which computes differently from {variant}; use {other}"
                )


def _counts(name: str) -> bool:
    """Return whether a tensor is a weight or a statistic, not BatchNorm's unused `num_batches_tracked`."""
    return not name.endswith("num_batches_tracked")


def _names(own: Collection[str], variant: str, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names that a backbone's tensors have in the weights, in the order of the backbone.

    Raises:
        ConfigError: If the family maps the names and some are missing, or the weights are those of another variant.
    """
    stage = families().get(variant)
    known = [stage.reference_name(name.removeprefix("stages.")) for name in own] if stage else []
    if known and known[0] in weights:  # else the weights have other names
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
    """Return a backbone's first convolution and the BatchNorm after it, None if the convolution has a bias instead."""
    first: Any = next(module for module in stages.modules() if isinstance(module, Conv | nn.Conv2d))
    return (first.conv, first.bn) if isinstance(first, Conv) else (first, None)


def reference_names(name: str) -> list[str]:
    """Return a reference network's tensor names, from first layer to last; an empty list if no package has it.

    Args:
        name: Name of the network in timm or torchvision.
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
    """Change the first convolution and BatchNorm of a backbone that expects (x - mean) / std so that it takes x.

    The convolution is then adapted to the image: for one channel, its weights are summed over the three channels; for
    more than three, the additional weights are zero.

    Args:
        stages: Backbone whose first module with weights is a convolution with three input channels that has a bias or
            is followed by a BatchNorm.
        mean: Mean per channel, (3,).
        std: Standard deviation per channel, (3,).
    """
    conv, norm = _stem(stages)
    weight = conv.weight  # (c2, 3, k, k)
    weight /= std.to(weight).view(1, -1, 1, 1)
    response = (weight * mean.to(weight).view(1, -1, 1, 1)).sum((1, 2, 3))  # output offset without the subtraction
    if norm is None:
        assert conv.bias is not None
        conv.bias -= response
    else:
        assert norm.running_mean is not None
        norm.running_mean += response  # BatchNorm subtracts it together with its own mean
    channels = conv.in_channels
    if channels != weight.shape[1]:
        one = weight.sum(1, keepdim=True)
        more = torch.cat((weight, weight.new_zeros(len(weight), max(channels - 3, 0), *weight.shape[2:])), 1)
        conv.weight = torch.nn.Parameter(one if channels == 1 else more[:, :channels].clone())
