"""Normalisation layer for scripts/studies/border.py, in its own file since registered modules must be importable."""

import torch
from torch import nn

import yolo_lite
from yolo_lite.weights.published import IMAGENET_MEAN, IMAGENET_STD


@yolo_lite.register(rule=yolo_lite.same)
class Normalise(nn.Module):
    """Normalise an image in 0..1 with ImageNet's mean and standard deviation; (B, 3, H, W) -> (B, 3, H, W)."""

    def __init__(self, c1: int = 3) -> None:
        super().__init__()
        assert c1 == 3, c1
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised image."""
        return (x - self.mean) / self.std
