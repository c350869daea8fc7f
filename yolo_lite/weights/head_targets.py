"""Desired outputs of the last layers of a head's branches if the outputs of source and target differ."""

import re
from collections.abc import Mapping

import torch

LEAST = 1e-4  # lower bound of a bin's probability: below it, the logarithm carries no information about the box


def box_targets(y: torch.Tensor, bins: int) -> torch.Tensor:
    """Convert the logits of box distances to another number of bins: (P, 4 * theirs) -> (P, 4 * bins).

    Probability beyond the last bin is added to it. A single source bin, a plain distance, is spread over the two
    adjacent bins; for a single target bin, a distribution is replaced by its mean.

    Args:
        y: Output of the source's box branch, (P, 4 * theirs).
        bins: Number of bins of the target.
    """
    theirs = y.shape[1] // 4
    if theirs == bins:
        return y
    sides = y.view(len(y), 4, theirs)
    if theirs == 1:
        distance = sides[..., 0].clamp(0, bins - 1)
        places = torch.arange(bins, device=y.device, dtype=y.dtype)
        mass = (1 - (distance[..., None] - places).abs()).clamp(min=0)  # (P, 4, bins)
    else:
        mass = sides.softmax(2)
        if bins == 1:
            return mass @ torch.arange(theirs, device=y.device, dtype=y.dtype)
        more = torch.cat([mass, mass.new_zeros(len(y), 4, max(bins - theirs, 0))], 2)
        mass = torch.cat([more[..., : bins - 1], more[..., bins - 1 :].sum(2, keepdim=True)], 2)
    logits = mass.clamp(min=LEAST).log()
    return (logits - logits.mean(2, keepdim=True)).view(len(y), 4 * bins)


def class_rows(source: Mapping[int, str] | None, target: Mapping[int, str] | None) -> dict[int, int]:
    """Pair classes with the same name: class index of the target -> class index of the source."""
    numbers = {_plain(name): number for number, name in reversed([*(source or {}).items()])}
    return {own: numbers[_plain(name)] for own, name in (target or {}).items() if _plain(name) in numbers}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", str(name)).strip().lower()
