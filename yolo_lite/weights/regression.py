"""Ridge regression from accumulated sums: the normal equations of a convolution, and the selection of channels.

Source: He et al. 2017, Channel pruning by reconstruction, https://arxiv.org/abs/1707.06168, section 3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

RIDGES = (1e-7, 1e-4, 1e-2, 1.0)  # relative to the mean diagonal; the best one on held-out images is used
DEFAULT_RIDGE = 1e-3  # if no image can be held out
DEAD = 1e-10  # relative to the largest variance; a channel with less carries no information


class Moments:
    """Sums over pixels, in float64, for a least-squares fit of y by x, separately for each group.

    Args:
        groups: Number of groups of the convolution.
        inputs: Number of unknowns per output of a group.
        outputs: Number of outputs per group.
        device: Device of the sums.
    """

    def __init__(self, groups: int, inputs: int, outputs: int, device: torch.device) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.n = 0.0
        self.x, self.y = zeros(groups, inputs), zeros(groups, outputs)
        self.xx, self.xy, self.yy = (
            zeros(groups, inputs, inputs),
            zeros(groups, inputs, outputs),
            zeros(groups, outputs),
        )

    def add(self, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None = None) -> None:
        """Add pixels to the sums.

        Args:
            x: Inputs, (G, P, inputs).
            y: Outputs, (G, P, outputs).
            weight: Weight of each pixel, (P,); None for 1.
        """
        x, y = x.double(), y.double()
        heavy = x if weight is None else x * weight.double()[:, None]
        heavy_y = y if weight is None else y * weight.double()[:, None]
        self.n += float(x.shape[1] if weight is None else weight.double().sum())
        self.x += heavy.sum(1)
        self.y += heavy_y.sum(1)
        self.xx += heavy.transpose(1, 2) @ x
        self.xy += heavy.transpose(1, 2) @ y
        self.yy += (heavy_y * y).sum(1)

    def __add__(self, other: "Moments") -> "Moments":
        groups, inputs, outputs = self.xy.shape
        total = Moments(groups, inputs, outputs, self.x.device)
        for name in ("n", "x", "y", "xx", "xy", "yy"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total


class Solution(NamedTuple):
    """The fit y = weight x + intercept."""

    weight: torch.Tensor  # (G, outputs, inputs)
    intercept: torch.Tensor  # (G, outputs)
    error: float  # fraction of the variance that is not reproduced on held-out images


def solve(fit: Moments, held: Moments) -> Solution:
    """Fit by ridge regression, with the ridge chosen on held-out pixels; the final fit uses all pixels.

    Args:
        fit: Sums over the pixels to fit.
        held: Sums over the held-out pixels, with n = 0 if there are none.
    """
    ridges = RIDGES if held.n else (DEFAULT_RIDGE,)
    tried = []
    for ridge in ridges:
        weight, intercept = _fit(fit, ridge)
        tried.append((_error(weight, intercept, held if held.n else fit), ridge))
    error, ridge = min(tried)
    return Solution(*_fit(fit + held, ridge), error)


def _fit(sums: Moments, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = sums.x / sums.n, sums.y / sums.n
    xx = sums.xx / sums.n - x[:, :, None] * x[:, None]
    xy = sums.xy / sums.n - x[:, :, None] * y[:, None]
    size = xx.diagonal(dim1=1, dim2=2).mean(1)  # (G,)
    eye = torch.eye(xx.shape[1], dtype=xx.dtype, device=xx.device)
    while True:
        factor, info = torch.linalg.cholesky_ex(xx + (ridge * size + torch.finfo(xx.dtype).tiny)[:, None, None] * eye)
        if not bool(info.any()) or ridge > 10:
            break
        ridge *= 10
    weight = torch.cholesky_solve(xy, factor).transpose(1, 2) if not bool(info.any()) else torch.zeros_like(xy).mT
    return weight, y - (weight @ x[:, :, None])[:, :, 0]


def _error(weight: torch.Tensor, intercept: torch.Tensor, sums: Moments) -> float:
    """Return the fraction of the outputs' variance that a fit does not reproduce."""
    b = intercept
    residual = (
        sums.yy
        - 2 * ((weight @ sums.xy).diagonal(dim1=1, dim2=2) + b * sums.y)
        + ((weight @ sums.xx) * weight).sum(2)
        + 2 * b * (weight @ sums.x[:, :, None])[:, :, 0]
        + sums.n * b * b
    )
    variance = sums.yy - sums.y**2 / sums.n
    alive = variance > DEAD * variance.max()
    if not bool(alive.any()):
        return 0.0
    return float((residual[alive] / variance[alive]).clamp(min=0).mean())


def choose(covariance: torch.Tensor, importance: torch.Tensor, count: int) -> list[int]:
    """Choose channels greedily so that they explain, linearly, as much as possible of all channels.

    Args:
        covariance: Covariance of the channels after their activation, (C, C).
        importance: Factor that scales each channel, (C,).
        count: Number of channels to choose.

    Returns:
        (list[int]): Sorted indices of the chosen channels.
    """
    scale = importance.double()
    rest = covariance.double() * scale[:, None] * scale  # covariance that is not explained yet
    floor = DEAD * float(rest.diagonal().max())
    kept: list[int] = []
    for _ in range(count):
        diagonal = rest.diagonal().clone()
        gain = (rest**2).sum(0) / diagonal.clamp(min=floor or 1.0)
        gain[diagonal <= floor] = diagonal[diagonal <= floor] - 1  # dead or explained: only if nothing else is left
        gain[kept] = -torch.inf
        best = int(gain.argmax())
        kept.append(best)
        if diagonal[best] > floor:
            column = rest[:, best].clone()
            rest -= column[:, None] * column / diagonal[best]
    return sorted(kept)


def covariance(samples: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of the covariance matrices of several samples of the same channels, (P, C) each."""
    return sum((torch.cov(each.double().T) for each in samples), torch.zeros((), dtype=torch.float64))
