"""Feature mimicking: train a backbone of other blocks, from images alone, to output the maps the source's neck reads.

Each target map is converted to the source map of its level by a 1x1 convolution of its own. These adapters are
discarded after training: the neck is fitted to the backbone's maps afterwards, and is as linear as the adapters are.

Source: Romero et al. 2015, FitNets, https://arxiv.org/abs/1412.6550.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from yolo_lite.errors import ConfigError
from yolo_lite.weights import roles
from yolo_lite.weights.regression import DEAD
from yolo_lite.weights.roles import IMAGE, Maps, Unit
from yolo_lite.weights.sampling import BATCH, HELD

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

RATE = 2e-3  # peak learning rate of AdamW
WARMUP = 0.05  # fraction of the time in which the learning rate rises


def mimic(
    source: "BaseModel",
    target: "BaseModel",
    images: torch.Tensor,
    minutes: float,
    seed: int = 0,
    show: Callable[[float, float], None] = lambda done, error: None,
) -> float:
    """Train a target's backbone, in place, to output the source backbone's maps at the levels that both necks read.

    Args:
        source: Model that provides the feature maps.
        target: Model whose backbone is trained; the rest of it does not change.
        images: RGB images of shape (N, C, H, W), uint8.
        minutes: Training time in minutes.
        seed: Seed of the image sampling and the flips.
        show: Callback called after each step with the elapsed fraction of the time and the error of the step.

    Returns:
        (float): Fraction of the variance of the source's maps that is not reproduced on held-out images.

    Raises:
        ConfigError: If the target's backbone consists of YOLO's own blocks, which are fitted without training, or the
            models have no level in common.
    """
    device = next(target.parameters()).device
    for model in (source, target):
        model.float().eval()
    theirs, ours = roles.units(source), roles.units(target)
    for found in (theirs, ours):
        roles.trace(found, images.shape[1], device)
    if all(unit.parts for unit in ours if unit.section == "backbone" and unit.kind):
        raise ConfigError("mimic= is for backbones whose blocks are not YOLO's; this one is fitted without it")
    read, made = roles.features(theirs), roles.features(ours)
    levels = sorted(read.keys() & made.keys())
    if not levels:
        raise ConfigError(f"the necks read P{sorted(read)} and P{sorted(made)}; they have no level in common")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = _Features(theirs, [read[level] for level in levels])
        student = _Features(ours, [made[level] for level in levels])
        return _train(teacher, student, images, device, 60 * minutes, show)


class _Features:
    """The units of a model up to the maps that its neck reads."""

    def __init__(self, units: Sequence[Unit], wanted: Sequence[int]) -> None:
        self.units, self.wanted = units[: max(wanted) + 1], wanted
        self.modules = nn.ModuleList([unit.module for unit in self.units])

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps: dict[int, Maps] = {IMAGE: x}
        for number, unit in enumerate(self.units):
            maps[number] = unit.run([maps[each] for each in unit.inputs])
        return [maps[each] for each in self.wanted]


def _train(
    teacher: _Features,
    student: _Features,
    images: torch.Tensor,
    device: torch.device,
    seconds: float,
    show: Callable[[float, float], None],
) -> float:
    held = images[HELD - 1 :: HELD] if len(images) >= HELD else images
    seen = images[torch.arange(len(images)) % HELD != HELD - 1] if len(images) >= HELD else images
    with torch.no_grad():
        first = _taken(images[:BATCH], device)
        pairs = list(zip(student(first), teacher(first), strict=True))
    adapters = nn.ModuleList([_adapter(own, other) for own, other in pairs])
    trained = [*student.modules.parameters(), *adapters.parameters()]
    wanted = [each.requires_grad for each in trained]
    optimizer = torch.optim.AdamW(trained, RATE, weight_decay=1e-4)
    began = time.monotonic()
    try:
        for parameter in trained:
            parameter.requires_grad_(True)
        student.modules.train()
        while (done := (time.monotonic() - began) / seconds) < 1:
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(done / WARMUP, 1 - done)
            drawn = seen[torch.randint(len(seen), (BATCH,))]
            x = _taken(torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, drawn, drawn.flip(3)), device)
            with torch.no_grad():
                goals = teacher(x)
            with torch.enable_grad():
                loss = torch.stack([*_errors(adapters, student(x), goals)]).mean()
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            show(done, float(loss.detach()))
        _recalibrate(student, seen, device)
    finally:
        for parameter, each in zip(trained, wanted, strict=True):
            parameter.requires_grad_(each)
            parameter.grad = None
    student.modules.eval()
    with torch.no_grad():
        parts = [held[start : start + BATCH] for start in range(0, len(held), BATCH)]
        errors = [torch.stack(_errors(adapters, student(x), teacher(x))) for x in (_taken(p, device) for p in parts)]
    return float(torch.cat(errors).mean())


def _adapter(own: torch.Tensor, other: torch.Tensor) -> nn.Conv2d:
    """Return a 1x1 convolution that outputs the mean of the desired map; random weights start much further off."""
    adapter = nn.Conv2d(own.shape[1], other.shape[1], 1).to(own.device)
    nn.init.zeros_(adapter.weight)
    assert adapter.bias is not None
    adapter.bias.data.copy_(other.mean((0, 2, 3)))
    return adapter


def _taken(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    return images.to(device).float() / 255


def _errors(adapters: nn.ModuleList, maps: Sequence[torch.Tensor], goals: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return, per level, the fraction of the variance that is not reproduced, averaged over channels with variance."""
    errors = []
    for adapter, own, goal in zip(adapters, maps, goals, strict=True):
        variance = goal.var((0, 2, 3), correction=0)
        alive = variance > DEAD * variance.max()
        error = (adapter(own) - goal).pow(2).mean((0, 2, 3))
        errors.append((error[alive] / variance[alive]).mean() if bool(alive.any()) else error.mean())
    return errors


def _recalibrate(student: _Features, images: torch.Tensor, device: torch.device) -> None:
    """Recompute the BatchNorm statistics for the final weights; running averages may lag after a few minutes."""
    norms = [each for each in student.modules.modules() if isinstance(each, nn.BatchNorm2d)]
    kept = [each.momentum for each in norms]
    for each in norms:
        each.reset_running_stats()
        each.momentum = None  # average over all batches
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            student(_taken(images[start : start + BATCH], device))
    for each, momentum in zip(norms, kept, strict=True):
        each.momentum = momentum
