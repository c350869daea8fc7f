"""Closed-form transfer of a trained YOLO to another architecture: no labels, no gradients.

For each layer of the target, in order, the source layer with the same role (roles.py) defines the desired outputs, for
as many channels as the target has. Ridge regression (regression.py) finds the weights that approximate them best from
the target's *own* input of that layer on some images, so that each layer compensates for errors of those before it.

Sources: He et al. 2017, https://arxiv.org/abs/1707.06168; Luo et al. 2017, ThiNet, https://arxiv.org/abs/1707.06342;
Xu et al. 2024, weight selection, https://arxiv.org/abs/2311.18823, which takes channels without the regression.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from ultralytics.nn.modules.head import Detect

from yolo_lite.errors import ConfigError
from yolo_lite.weights.fitting import Fit, Fitting, How, Method

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

DEFAULT = Method()
POOR = 0.5  # median error from which a transfer is reported as poor: half of the output variance is lost
TEXT_HEADS = ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26")  # take text besides the image


@dataclass(frozen=True)
class Transferred:
    """Summary of a transfer, layer by layer."""

    fits: tuple[Fit, ...]
    images: int

    def count(self, how: How) -> int:
        """Return the number of layers with this outcome."""
        return sum(fit.how == how for fit in self.fits)

    @property
    def error(self) -> float:
        """Median error of the fitted layers, 0 if none was fitted."""
        errors = sorted(fit.error for fit in self.fits if fit.error is not None)
        return errors[len(errors) // 2] if errors else 0.0

    def __str__(self) -> str:
        ways: tuple[How, ...] = ("copied", "fitted", "kept", "identity", "random")
        counts = ", ".join(f"{self.count(how)} {how}" for how in ways if self.count(how))
        text = f"{len(self.fits)} layers from {self.images} images: {counts}; median error of the fits {self.error:.3f}"
        if self.error < POOR:
            return text
        lost = self.count("random")
        why = f"{lost} layers have no counterpart in the source" if lost else "more or larger images may help"
        return f"{text}, which is poor: {why}"


def transfer(
    source: "BaseModel", target: "BaseModel", images: torch.Tensor, seed: int = 0, method: Method = DEFAULT
) -> Transferred:
    """Transfer what a trained model computes to another model, in place.

    Args:
        source: Trained detection, segmentation, pose or OBB model of Ultralytics or yolo_lite.
        target: Model of the same task; changed in place.
        images: RGB images of shape (N, C, H, W), uint8, as fed to a model before scaling to 0..1.
        seed: Seed of the pixel sampling; the same seed gives the same weights.
        method: Settings of the transfer.

    Returns:
        (Transferred): Outcome of the transfer for every layer.

    Raises:
        ConfigError: If there are no images, either model takes another number of channels, the source contains NaN or
            infinite values, or a head is of another kind than listed above.
    """
    check(source, target, images)
    modes = [(module, module.training) for model in (source, target) for module in model.modules()]
    try:
        with torch.no_grad(), tempfile.TemporaryDirectory(prefix="yolo_lite_transfer_") as folder:
            source.float().eval()
            target.float().eval()
            return Transferred(tuple(Fitting(source, target, images, seed, method, Path(folder)).run()), len(images))
    finally:
        for module, mode in modes:
            module.training = mode


def check(source: "BaseModel", target: "BaseModel", images: torch.Tensor) -> None:
    """Reject models and images that a transfer does not support.

    Raises:
        ConfigError: If the models or images are not supported, as for `transfer`.
    """
    for name, value in source.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ConfigError(f"the source's {name} holds values that are NaN or infinite; needed a trained model")
    if not len(images):
        raise ConfigError("found no images to transfer with; needed at least one, and a few dozen for a good result")
    for whose, model in (("source", source), ("target", target)):
        check_head(model, whose)
        takes = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).in_channels
        if takes != images.shape[1]:
            raise ConfigError(f"the {whose} takes images of {takes} channels, found {images.shape[1]}")


def check_head(model: "BaseModel", whose: str) -> None:
    """Reject a model whose head a transfer does not support.

    Raises:
        ConfigError: If the head is not one for boxes, masks, poses or OBB.
    """
    rows: Any = model.model
    if not isinstance(rows[-1], Detect) or type(rows[-1]).__name__ in TEXT_HEADS:
        raise ConfigError(f"the {whose}'s head is {type(rows[-1]).__name__}; needed one for boxes, masks, poses or OBB")
