"""Rows of a new model: the rows of a base, with another backbone and optionally another neck and head.

The rows to replace and the input level of each row of the base's head are derived from the strides of its rows, so a
new base needs no changes here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from yolo_lite.backbones._stage import LEVELS
from yolo_lite.compose.base import Base, Row
from yolo_lite.compose.pans import PANS
from yolo_lite.discovery import families, specs
from yolo_lite.errors import ConfigError, suggest

POOLINGS = {"SPP", "SPPF", "SPPELAN"}
CSP = {"C2f", "C3", "C3k2", "RepC3"}  # blocks that follow a Concat in a base's neck


@dataclass(frozen=True)
class Swap:
    """Rows of a new backbone.

    Attributes:
        name: Name of the backbone.
        rows: Rows of the backbone.
        places: Index of the row that outputs each level, by level.
    """

    name: str
    rows: list[Row]
    places: dict[int, int]

    @property
    def given(self) -> str:
        """Return the backbone's levels as text, for error messages."""
        return ", ".join(f"P{each}" for each in sorted(self.places))


def grafted(base: Base, backbone: str, neck: str, head: str) -> tuple[list[Row], list[Row]]:
    """Return the rows of a base with a backbone, a neck and a head put into it.

    Args:
        base: Stock model to modify.
        backbone: Name of a native or timm backbone.
        neck: One of `options.NECKS`.
        head: One of `options.HEADS`.

    Returns:
        (list[Row], list[Row]): Rows of the backbone section, rows of the head section (neck and head).

    Raises:
        ConfigError: The backbone does not exist, or the combination is not possible.
    """
    swap = _with_coarser_levels(base, swap_of(backbone))
    if base.head[-1].module == "Classify" and (neck, head) != ("base", "base"):
        raise ConfigError("a classifier has no neck, and its head is light already; leave neck and head out")
    last = _head(base, head)
    if base.context and base.context[0].module not in POOLINGS:  # attention, which keeps the number of channels
        swap = Swap(backbone, [*swap.rows, Row(-1, 1, "Conv", [base.context[0].args[0], 1, 1])], swap.places)
    if neck in PANS:
        return _with_pan(base, swap, last, neck)
    context = _with_pyramid(base, neck.upper()) if neck in ("aspp", "lraspp") else base.context
    rest = _with_extra_dw(base) if neck == "extradw" else base.head[:-1]
    moved = _moved(base, swap, [*context, *rest, last])
    rows = _numbered([*swap.rows, *moved])
    end = len(rows) - len(base.head)
    return rows[:end], rows[end:]


def swap_of(backbone: str) -> Swap:
    """Return the rows of a backbone.

    Raises:
        ConfigError: The backbone does not exist.
    """
    if backbone not in families():
        return _swap_of_timm(backbone.removeprefix("timm/"))
    stage = families()[backbone]
    short = next((short for short, name in stage.aliases.items() if name == backbone), backbone)
    rows = [
        Row(-1, 1, stage.__name__, [short, level], f"{level - 1}-P{level}/{2**level}") for level in range(1, LEVELS + 1)
    ]
    return Swap(backbone, rows, {level: level - 1 for level in range(1, LEVELS + 1)})


def _swap_of_timm(name: str) -> Swap:
    from yolo_lite.backbones.timm_backbone import levels_of

    try:
        levels = [level for level in sorted(levels_of(name).channels) if level > 1]
    except ConfigError as error:
        near = suggest(name.lower(), families())
        if "did you mean" in near:
            raise ConfigError(f"unknown backbone {name!r}{near}") from None
        raise ConfigError(f"{error}; yolo_lite's own are listed by yolo-lite list") from None
    rows = [Row(-1, 1, "TimmBackbone", [name], "0")]
    rows += [Row(0, 1, "Level", [level], f"{i}-P{level}/{2**level}") for i, level in enumerate(levels, 1)]
    return Swap(name, rows, {level: index for index, level in enumerate(levels, 1)})


def _with_coarser_levels(base: Base, swap: Swap) -> Swap:
    """Append the base's own rows for levels coarser than those of a backbone, like P6.

    Raises:
        ConfigError: These rows have other inputs than the previous row, or the backbone lacks the base's last level.
    """
    last, deepest = base.levels[-1], max(swap.places)
    start = next((i for i, level in enumerate(base.levels) if level > deepest), len(base.levels))
    added = base.features[start:]
    if last not in (*swap.places, *base.levels[start:]) or any(row.taken != [-1] for row in added):
        raise ConfigError(f"base {base.name}'s backbone ends with level P{last}; {swap.name} has {swap.given}")
    rows, places = list(swap.rows), dict(swap.places)
    for number, (row, level) in enumerate(zip(added, base.levels[start:], strict=True), start):
        places[level] = len(rows)
        rows.append(row.but(comment=re.sub(rf"\b{number}\b", str(len(rows)), row.comment, count=1)))
    return Swap(swap.name, rows, places)


def _head(base: Base, head: str) -> Row:
    """Return the head's row, with another module unless `head` is "base"."""
    last = base.head[-1]
    if head == "base":
        return last
    kind = head.capitalize()
    if kind + last.module not in specs():
        able = ", ".join(name.removeprefix(kind) for name in specs() if name.startswith(kind))
        raise ConfigError(f"head={head} does not support {base.name}'s {last.module}, only {able}")
    return last.but(module=kind + last.module, comment=last.comment and kind + last.comment)


def _with_pan(base: Base, swap: Swap, last: Row, neck: str) -> tuple[list[Row], list[Row]]:
    """Replace all rows between backbone and head by one of `PANS`; its first row is the base's pooling, or a Conv."""
    if len(base.outputs) < 2:
        raise ConfigError(f"neck={neck} joins several levels; {last.module} of {base.name} takes one")
    lacking = next((level for level in base.joined if level not in swap.places), None)
    if lacking is not None:
        joined = f"P{base.joined[0]} to P{base.joined[-1]} for {base.name}'s {last.module}"
        raise ConfigError(f"neck={neck} joins {joined}; {swap.name} lacks P{lacking}, it has {swap.given}")
    pooling = next((row for row in base.context if row.module in POOLINGS), Row(-1, 1, "Conv", [0, 1, 1]))
    n = len(swap.rows)
    rows, given = PANS[neck](n, swap.places, pooling.but(inputs=-1, comment=str(n)), base.joined)
    return [*swap.rows, rows[0]], [*rows[1:], last.but(inputs=[given[level] for level in base.outputs])]


def _with_pyramid(base: Base, module: str) -> list[Row]:
    """Return the context rows of the base's backbone with another module instead of its pooling."""
    if not any(row.module in POOLINGS for row in base.context):
        raise ConfigError(f"base {base.name} has no SPPF that {module} could replace")
    return [row.but(module=module, args=row.args[:1]) if row.module in POOLINGS else row for row in base.context]


def _with_extra_dw(base: Base) -> list[Row]:
    """Return the rows of the neck with each Concat of two maps and the CSP block after it replaced."""
    rows = base.head[:-1]
    found = False
    for i, (first, second) in enumerate(zip(rows, rows[1:], strict=False)):
        if first.module == "Concat" and len(first.taken) == 2 and second.module in CSP:
            # the input that is not the previous row is the main one: in the bottom-up path of the PAN it already has
            # the block's channels
            inputs = first.taken if first.taken[0] != -1 else first.taken[::-1]
            comment = first.comment.replace("cat", "fuse", 1)
            rows[i] = first.but(inputs=inputs, module="ExtraDWFusion", args=second.args[:1], comment=comment)
            args = second.args if second.module == "C3k2" else second.args[:1]
            rows[i + 1] = second.but(module="C3k2ExtraDW", args=args)
            found = True
    if not found:
        raise ConfigError(f"base {base.name} has no Concat with a block of {', '.join(sorted(CSP))} after it")
    return rows


def _moved(base: Base, swap: Swap, rows: Iterable[Row]) -> list[Row]:
    """Return the rows after the base's backbone with inputs and comments renumbered for the new backbone."""
    old = len(base.features)

    def place(index: int) -> int:
        if index < 0:
            return index
        if index >= old:
            return index - old + len(swap.rows)
        level = base.levels[index]
        if level not in swap.places:
            raise ConfigError(f"base {base.name} takes level P{level} of its backbone; {swap.name} has {swap.given}")
        return swap.places[level]

    moved = []
    for number, row in enumerate(rows, old):
        inputs = place(row.inputs) if isinstance(row.inputs, int) else [place(each) for each in row.inputs]
        comment = re.sub(rf"\b{number}\b", str(place(number)), row.comment, count=1)
        moved.append(row.but(inputs=inputs, comment=comment))
    return moved


def _numbered(rows: list[Row]) -> list[Row]:
    """Add its index as a comment to each row without one that is an input of other rows."""
    taken = {each for row in rows for each in row.taken}
    return [row.but(comment=row.comment or str(i) * (i in taken)) for i, row in enumerate(rows)]
