"""Weights of another YOLO by role: copy its neck and head into a model with a different backbone.

Ultralytics matches tensors by row number. A swapped backbone has different rows than the stock one, so every later
tensor would find no counterpart, or one of the same shape with another purpose.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch
    from ultralytics.nn.tasks import BaseModel

CONTEXT = {"SPP", "SPPF", "SPPELAN", "C2PSA", "C2fPSA", "PSA"}  # last rows of a backbone, counted as part of the neck
BRANCH = re.compile(r"(?P<name>(one2one_)?cv\d\w*)\.(?P<index>\d+)\.(?P<rest>.*)")  # a branch of a head, one per level


def neck_start(d: Mapping[str, Any]) -> int:
    """Return the index of the first row after the feature extractor in a model dictionary."""
    start = len(d["backbone"])
    while start and d["backbone"][start - 1][2] in CONTEXT:
        start -= 1
    return start


def rows_by_role(
    source: Mapping[str, Any], target: Mapping[str, Any], levels: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> dict[int, int]:
    """Pair the rows of two model dictionaries that have the same role.

    Neck and head rows with the same module at the same level are paired in order; backbone rows are paired by index
    up to the first difference, and two first rows that are a `Conv` in any case.

    Args:
        source: Dictionary of the model that provides the weights.
        target: Dictionary of the model that receives the weights.
        levels: Output level of each row except the head, for source and target; two empty sequences if unknown for
            either of them, in which case rows are matched by module alone.

    Returns:
        (dict[int, int]): Target row -> source row.
    """
    ours, theirs = (d["backbone"] + d["head"] for d in (target, source))
    start, other = neck_start(target), neck_start(source)
    pairs = {0: 0} if ours[0][2] == theirs[0][2] == "Conv" else {}  # Ultralytics adapts it to the image channels
    for i in range(min(start, other)):
        if ours[i] != theirs[i]:
            break
        pairs[i] = i
    roles = _roles(ours, levels[1])[start:], _roles(theirs, levels[0])[other:]
    for block in SequenceMatcher(None, *roles, autojunk=False).get_matching_blocks():
        for i in range(block.size):
            pairs[start + block.a + i] = other + block.b + i
    return pairs


def _roles(rows: Sequence[Sequence[Any]], levels: Sequence[int]) -> list[tuple[str, int]]:
    """Return module and output level of each row; the level is 0 for all rows if the levels are unknown."""
    of_rows = [*levels, 0] if levels else [0] * len(rows)  # the head has no output level
    return [(row[2], level) for row, level in zip(rows, of_rows, strict=True)]


def _head_levels(d: Mapping[str, Any], levels: Sequence[int]) -> list[int]:
    """Return the levels of the head's inputs, an empty list if they are unknown or the head has a single input."""
    inputs = d["head"][-1][0]
    return [levels[each] for each in inputs] if levels and isinstance(inputs, list) else []


carried: "WeakKeyDictionary[BaseModel, frozenset[str]]" = WeakKeyDictionary()  # names of the tensors received by role


class ByRole:
    """A source of weights for Ultralytics' `load`, with tensors renamed to their names in the target.

    Args:
        source: Model that provides the weights.
        target: Model that receives the weights.
        levels: Output levels of the rows of source and target, as for `rows_by_role`.
    """

    def __init__(
        self, source: Any, target: "BaseModel", levels: tuple[Sequence[int], Sequence[int]] = ((), ())
    ) -> None:
        self.names = getattr(source, "names", None)
        self.pt_path = getattr(source, "pt_path", None)
        rows: Any = target.model
        ours: Any = target.yaml
        from_levels, to_levels = (_head_levels(d, each) for d, each in zip((source.yaml, ours), levels, strict=True))
        if type(source.model[-1]) is type(rows[-1]) and from_levels == to_levels:
            self.model, self.is_fused = source.model, source.is_fused  # newer releases adapt the head to the source's
        theirs, pairs = source.float().state_dict(), rows_by_role(source.yaml, ours, levels)
        self.tensors: dict[str, torch.Tensor] = {}
        for name in target.state_dict():
            _, row, rest = name.split(".", 2)
            branch = BRANCH.fullmatch(rest) if int(row) == len(rows) - 1 and from_levels != to_levels else None
            if branch is not None:
                level = to_levels[int(branch["index"])]
                rest = f"{branch['name']}.{from_levels.index(level)}.{branch['rest']}" if level in from_levels else ""
            found = theirs.get(f"model.{pairs.get(int(row))}.{rest}")
            if found is not None:
                self.tensors[name] = found

    def float(self) -> "ByRole":
        """Return self, since Ultralytics calls `float` on a source model."""
        return self

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """Return the tensors by target name; Ultralytics skips those whose shape differs."""
        return dict(self.tensors)


def fitting(target: "BaseModel", tensors: "Mapping[str, torch.Tensor]") -> frozenset[str]:
    """Return the names of the tensors whose shape matches the model's."""
    own = target.state_dict()
    return frozenset(name for name, value in tensors.items() if own[name].shape == value.shape)


def said_of(target: "BaseModel") -> str:
    """Return a summary of how many tensors a model received by role."""
    counts = {True: [0, 0], False: [0, 0]}  # neck and head (True), backbone (False): [received, total]
    d: Any = target.yaml
    start = neck_start(d)
    for name in target.state_dict():
        count = counts[int(name.split(".")[1]) >= start]
        count[0] += name in carried[target]
        count[1] += 1
    (neck, of_neck), (rest, of_rest) = counts[True], counts[False]
    return f"by role: {neck} of {of_neck} tensors of neck and head, {rest} of {of_rest} of the backbone"
