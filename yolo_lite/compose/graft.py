"""The rows of a grafted model: a base's, with a backbone, a neck and a head of ours in place of its own.

Which of the base's rows are replaced, and which level each row of its head takes, follows from the strides of its rows,
so a new base needs no work here.
"""

import json
import re
from typing import NamedTuple

import yaml

from yolo_lite.backbones._stage import LEVELS
from yolo_lite.discovery import families, specs
from yolo_lite.errors import ConfigError, suggest

POOLINGS = {"SPP", "SPPF", "SPPELAN"}
CSP = {"C2f", "C3", "C3k2", "RepC3"}  # follow a Concat in a base's neck
LIGHT_NECK = 256  # channels, before the model's width
SLIM_NECK = {3: 256, 4: 384, 5: 512}  # likewise, of each level


class Row(NamedTuple):
    """One row of a model YAML, with what stands beside it."""

    inputs: int | list[int]
    repeats: int
    module: str
    args: list
    comment: str = ""
    gap: bool = False  # whether an empty line stands before it

    def __str__(self):
        text = f"  - {flow([self.inputs, self.repeats, self.module, self.args])}"
        return "\n" * self.gap + text + (f" # {self.comment}" if self.comment else "")


class Base(NamedTuple):
    """A base's model, as its YAML has it."""

    name: str
    d: dict
    comments: dict[str, str]  # of its keys
    features: list[int]  # levels of the backbone's rows that a backbone of ours replaces
    context: list[Row]  # the rest of its backbone
    head: list[Row]


def flow(value):
    """Write a value as Ultralytics' YAMLs do."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
    return "null" if value is None else str(value)


def _is_plain(text):
    try:
        return yaml.safe_load(text) == text
    except yaml.YAMLError:
        return False


def grafted(base, backbone, neck, head):
    """Return the rows of the new backbone and head."""
    stages, places = _stages(backbone)
    if base.features[-1] not in places:
        given = ", ".join(f"P{each}" for each in sorted(places))
        raise ConfigError(f"base {base.name}'s backbone ends with level P{base.features[-1]}; {backbone} gives {given}")
    context, rest, last = base.context, base.head[:-1], base.head[-1]
    if last.module == "Classify" and (neck, head) != ("base", "base"):
        raise ConfigError("a classifier has no neck, and its head is light already; leave neck and head out")
    if head != "base":
        kind = head.capitalize()
        if kind + last.module not in specs():
            able = ", ".join(name.removeprefix(kind) for name in specs() if name.startswith(kind))
            raise ConfigError(f"head={head} has no form of {base.name}'s {last.module}; it has of {able}")
        last = last._replace(module=kind + last.module, comment=last.comment and kind + last.comment)
    if context and context[0].module not in POOLINGS:  # an attention, which gives as many channels as it takes
        stages = [*stages, Row(-1, 1, "Conv", [context[0].args[0], 1, 1])]
    if neck in ("aspp", "lraspp"):
        context = _with_pyramid(base, neck.upper())
    if neck == "extradw":
        rest = _with_extra_dw(base, rest)
    if neck in ("slim", "light"):
        rows = _own_neck(base, stages, places, last, {"slim": _slim_neck, "light": _light_neck}[neck])
        return rows[: len(stages) + 1], rows[len(stages) + 1 :]

    old = len(base.features)

    def place(index):
        if index < 0:
            return index
        if index >= old:
            return index - old + len(stages)
        level = base.features[index]
        if level not in places:
            given = ", ".join(f"P{each}" for each in sorted(places))
            raise ConfigError(f"base {base.name} takes level P{level} of its backbone; {backbone} gives {given}")
        return places[level]

    moved = []
    for number, row in enumerate([*context, *rest, last], old):
        inputs = place(row.inputs) if isinstance(row.inputs, int) else [place(each) for each in row.inputs]
        comment = re.sub(rf"\b{number}\b", str(place(number)), row.comment, count=1)
        moved.append(row._replace(inputs=inputs, comment=comment))
    rows = stages + moved
    taken = {each for row in rows for each in (row.inputs if isinstance(row.inputs, list) else [row.inputs])}
    rows = [row._replace(comment=row.comment or str(i) * (i in taken)) for i, row in enumerate(rows)]
    return rows[: len(rows) - len(base.head)], rows[len(rows) - len(base.head) :]


def _stages(backbone):
    """Return a backbone's rows, and the index of the row that gives each level."""
    if backbone in families():
        stage = families()[backbone]
        short = next((short for short, name in stage.aliases.items() if name == backbone), backbone)
        rows = [
            Row(-1, 1, stage.__name__, [short, level], f"{level - 1}-P{level}/{2**level}")
            for level in range(1, LEVELS + 1)
        ]
        return rows, {level: level - 1 for level in range(1, LEVELS + 1)}
    from yolo_lite.backbones.timm_backbone import levels_of

    backbone = backbone.removeprefix("timm/")
    near = suggest(backbone.lower(), families())
    try:
        levels = [level for level in sorted(levels_of(backbone).channels) if level > 1]
    except ConfigError as error:
        if "did you mean" in near:
            raise ConfigError(f"unknown backbone {backbone!r}{near}") from None
        raise ConfigError(f"{error}; our own are listed by yolo-lite list") from None
    rows = [Row(-1, 1, "TimmBackbone", [backbone], "0")]
    rows += [Row(0, 1, "Level", [level], f"{i}-P{level}/{2**level}") for i, level in enumerate(levels, 1)]
    return rows, {level: index for index, level in enumerate(levels, 1)}


def _with_pyramid(base, module):
    if not any(row.module in POOLINGS for row in base.context):
        raise ConfigError(f"base {base.name} has no SPPF that {module} could replace")
    return [row._replace(module=module, args=row.args[:1]) if row.module in POOLINGS else row for row in base.context]


def _with_extra_dw(base, rows):
    """Replace each Concat of two maps and the CSP block after it."""
    rows = list(rows)
    for i, (first, second) in enumerate(zip(rows, rows[1:], strict=False)):
        if first.module == "Concat" and len(first.inputs) == 2 and second.module in CSP:
            # The map that comes from afar is the main one: on the way down it has the block's channels already.
            inputs = first.inputs if first.inputs[0] != -1 else first.inputs[::-1]
            comment = first.comment.replace("cat", "fuse", 1)
            rows[i] = first._replace(inputs=inputs, module="ExtraDWFusion", args=second.args[:1], comment=comment)
            args = second.args if second.module == "C3k2" else second.args[:1]
            rows[i + 1] = second._replace(module="C3k2ExtraDW", args=args)
    if rows == list(base.head[:-1]):
        raise ConfigError(f"base {base.name} has no Concat with a block of {', '.join(sorted(CSP))} after it")
    return rows


def _own_neck(base, stages, places, last, neck):
    """Replace all between backbone and head by a PAN over P3, P4 and P5, whose first row pools P5 as the base does."""
    missing = [level for level in (3, 4, 5) if level not in places]
    if missing or not isinstance(last.inputs, list) or len(last.inputs) != 3:
        found = f"the backbone lacks P{missing[0]}" if missing else f"{last.module} of {base.name} takes others"
        raise ConfigError(f"a neck of ours joins P3, P4 and P5 for a head that takes the three; {found}")
    pooling = next((row for row in base.context if row.module in POOLINGS), Row(-1, 1, "Conv", [0, 1, 1]))
    n = len(stages)
    rows, outputs = neck(n, places, pooling._replace(inputs=-1, comment=str(n)))
    return [*stages, *rows, last._replace(inputs=outputs)]


UP = (-1, 1, "nn.Upsample", ["None", 2, "nearest"])


def _slim_neck(n, places, top):
    """YOLOv8's PAN with fewer channels, from row `n` on; return its rows and the numbers of those for the head."""
    c3, c4, c5 = SLIM_NECK.values()
    rows = [
        top._replace(args=[c5, *top.args[1:]]),
        Row(*UP),
        Row([-1, places[4]], 1, "Concat", [1], "cat backbone P4"),
        Row(-1, 3, "C2f", [c4], str(n + 3)),
        Row(*UP, gap=True),
        Row([-1, places[3]], 1, "Concat", [1], "cat backbone P3"),
        Row(-1, 3, "C2f", [c3], f"{n + 6} (P3/8-small)"),
        Row(-1, 1, "Conv", [c3, 3, 2], gap=True),
        Row([-1, n + 3], 1, "Concat", [1], "cat head P4"),
        Row(-1, 3, "C2f", [c4], f"{n + 9} (P4/16-medium)"),
        Row(-1, 1, "Conv", [c4, 3, 2], gap=True),
        Row([-1, n], 1, "Concat", [1], "cat head P5"),
        Row(-1, 3, "C2f", [c5], f"{n + 12} (P5/32-large)"),
    ]
    return rows, [n + 6, n + 9, n + 12]


def _light_neck(n, places, top):
    """A depthwise PAN whose levels all have the same channels, from row `n` on; return as `_slim_neck`."""
    c = LIGHT_NECK
    mix = ("UniversalInvertedBottleneck", [c, 2, 5, 0])
    rows = [
        top._replace(args=[c, *top.args[1:]]),
        Row(*UP),
        Row([places[4], -1], 1, "ExtraDWFusion", [c, 5], "fuse backbone P4"),
        Row(-1, 1, *mix, str(n + 3)),
        Row(*UP, gap=True),
        Row([places[3], -1], 1, "ExtraDWFusion", [c, 5], "fuse backbone P3"),
        Row(-1, 1, *mix, f"{n + 6} (P3/8-small)"),
        Row([n + 3, -1], 1, "ExtraDWFusion", [c, 5, 2], "fuse head P4, P3 by stride 2", gap=True),
        Row(-1, 1, *mix, f"{n + 8} (P4/16-medium)"),
        Row([n, -1], 1, "ExtraDWFusion", [c, 5, 2], "fuse head P5, P4 by stride 2", gap=True),
        Row(-1, 1, *mix, f"{n + 10} (P5/32-large)"),
    ]
    return rows, [n + 6, n + 8, n + 10]
