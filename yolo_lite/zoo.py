"""List and create backbones by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from yolo_lite import limits
from yolo_lite.backbones import Backbone
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError, nearest, suggest
from yolo_lite.registry import NO_EDGE_WEIGHTS
from yolo_lite.weights import loading, published
from yolo_lite.weights.published import IMAGENET_MEAN, IMAGENET_STD


def list_backbones() -> list[str]:
    """Return the names that `create_backbone` accepts, sorted."""
    return sorted(families())


def create_backbone(
    name: str,
    weights: str | Path | Mapping[str, torch.Tensor] | None = None,
    width: float = 1.0,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    edge: bool = False,
) -> Backbone:
    """Build a backbone by name.

    Args:
        name: Name of the backbone, one of `list_backbones()`.
        weights: None for random weights, "imagenet" for published weights, a state dict of the reference network of
            that name, or the path of a file with such a state dict (.pth, .pt or .safetensors).
        width: Width multiplier alpha.
        mean: Per-channel mean that the weights expect to be subtracted from an image in 0..1; published weights
            override it with their own.
        std: Per-channel standard deviation that the weights expect an image to be divided by; published weights
            override it with their own. Mean and std are folded into the first convolution and its BatchNorm, so that
            the backbone takes images in 0..1; exact except where the convolution overlaps the border. A mean of 0 and
            a std of 1 disable the folding.
        edge: Whether to use ReLU6 instead of h-swish and SiLU, and no squeeze-excite, for edge compilers and accurate
            int8. No published weights were trained that way, except for backbones without any of these layers.

    Returns:
        (Backbone): Backbone in float32, in train mode.

    Raises:
        ConfigError: The name is unknown, the width is not a number above 0 and at most `limits.BACKBONE_WIDTH`, or
            the weights do not fit.
    """
    stages = families()
    if not isinstance(name, str) or not (weights is None or isinstance(weights, str | Path | Mapping)):
        raise ConfigError("create_backbone takes a name, and as weights None, imagenet, a path or a state dict")
    published.check_normalisation(mean, std)
    if name not in stages:
        if name.startswith("timm/") or (nearest(name, stages) is None and published.is_of_timm(name)):
            raise ConfigError(
                f"{name} is a network of timm's: timm.create_model({name.removeprefix('timm/')!r}, features_only=True) "
                "builds it, a TimmBackbone row puts it into a model YAML"
            )
        raise ConfigError(f"unknown backbone {name!r}{suggest(name, sorted(stages))}")
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= limits.BACKBONE_WIDTH:
        raise ConfigError(
            f"width has to be a finite number above 0 and at most {limits.BACKBONE_WIDTH}, found {width!r}"
        )
    if edge and weights is not None and stages[name].has_edge_form(name):
        raise ConfigError(f"edge=True {NO_EDGE_WEIGHTS}; leave out weights")
    backbone = Backbone(stages[name], name, width, edge)
    if weights is not None:
        if not isinstance(weights, Mapping):
            source = published.find(name, width, str(weights))
            weights = published.read(source)
            if source.tag:
                mean, std = source.mean, source.std
        loading.load(backbone, name, weights, mean, std)
    return backbone
