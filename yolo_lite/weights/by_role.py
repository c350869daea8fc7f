"""Weights of another YOLO by role: its neck and head carried into a model with another backbone.

Ultralytics matches tensors by row number. A swapped backbone has other rows than the stock one, so everything after it
would miss, or meet a tensor of the same shape and another purpose.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch
    from ultralytics.nn.tasks import BaseModel

CONTEXT = {"SPP", "SPPF", "SPPELAN", "C2PSA", "C2fPSA", "PSA"}  # end a backbone, and belong to the neck
BRANCH = re.compile(r"(?P<name>(one2one_)?cv\d\w*)\.(?P<index>\d+)\.(?P<rest>.*)")  # a head's, one for each level


def neck_start(d: Mapping[str, Any]) -> int:
    """Return the number of the first row that is no feature extractor, in a model dictionary."""
    start = len(d["backbone"])
    while start and d["backbone"][start - 1][2] in CONTEXT:
        start -= 1
    return start


def rows_by_role(
    source: Mapping[str, Any], target: Mapping[str, Any], levels: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> dict[int, int]:
    """Pair the rows of two model dictionaries that do the same.

    Neck and head rows of the same module at the same level are paired in order; backbone rows only where they are the
    same row.

    Args:
        source: The model that has the weights.
        target: The model that gets them.
        levels: The level that each row but the head gives, in both; twice none where it is not known of one of them,
            and modules alone decide.

    Returns:
        (dict[int, int]): Row of the target -> row of the source.
    """
    ours, theirs = (d["backbone"] + d["head"] for d in (target, source))
    start, other = neck_start(target), neck_start(source)
    pairs = {0: 0} if ours[0][2] == theirs[0][2] == "Conv" else {}  # Ultralytics adapts it to the image's channels
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
    """Return what rows do: their modules, and the levels that they give, the same for all where those are not known."""
    of_rows = [*levels, 0] if levels else [0] * len(rows)  # the head gives none
    return [(row[2], level) for row, level in zip(rows, of_rows, strict=True)]


def _head_levels(d: Mapping[str, Any], levels: Sequence[int]) -> list[int]:
    """Return the levels that a model's head takes, none where they are not known."""
    inputs = d["head"][-1][0]
    return [levels[each] for each in inputs] if levels and isinstance(inputs, list) else []


carried: "WeakKeyDictionary[BaseModel, frozenset[str]]" = WeakKeyDictionary()  # the tensors that a model has by role


class ByRole:
    """A source of weights for Ultralytics' `load`, its tensors under the names that they have in the target.

    Args:
        source: The model whose weights are wanted.
        target: The model that gets them.
        levels: As for `rows_by_role`.
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
        """Return itself, as Ultralytics expects of a model."""
        return self

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """Return the tensors by the target's names; Ultralytics leaves out those of other shapes."""
        return dict(self.tensors)


def fitting(target: "BaseModel", tensors: "Mapping[str, torch.Tensor]") -> frozenset[str]:
    """Return the names of those tensors that have the shapes of a model's."""
    own = target.state_dict()
    return frozenset(name for name, value in tensors.items() if own[name].shape == value.shape)


def said_of(target: "BaseModel") -> str:
    """Say how many tensors a model has by role."""
    counts = {True: [0, 0], False: [0, 0]}  # of neck and head, of the backbone: those taken, all
    d: Any = target.yaml
    start = neck_start(d)
    for name in target.state_dict():
        count = counts[int(name.split(".")[1]) >= start]
        count[0] += name in carried[target]
        count[1] += 1
    (neck, of_neck), (rest, of_rest) = counts[True], counts[False]
    return f"by role: {neck} of {of_neck} tensors of neck and head, {rest} of {of_rest} of the backbone"
