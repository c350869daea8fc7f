"""What the last layers of a head's branches should give, where source and target do not have the same outputs."""

import re
from collections.abc import Mapping

import torch

LEAST = 1e-4  # of a bin's probability: below, its logarithm says nothing of the box


def box_targets(y: torch.Tensor, bins: int) -> torch.Tensor:
    """Bring the logits of distances to other bins; (P, 4 * theirs) -> (P, 4 * bins).

    Mass beyond the last bin is put into it. A distance without a distribution (one bin) becomes the two bins beside it,
    and a distribution becomes its mean where one is wanted.

    Args:
        y: The source's box branch.
        bins: Of the target.
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
    """Pair classes of the same name; target's number -> source's."""
    numbers = {_plain(name): number for number, name in reversed([*(source or {}).items()])}
    return {own: numbers[_plain(name)] for own, name in (target or {}).items() if _plain(name) in numbers}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", str(name)).strip().lower()
