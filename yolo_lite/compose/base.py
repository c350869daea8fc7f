"""Stock model to modify, read from its YAML in the installed Ultralytics."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import yaml

from yolo_lite.errors import ConfigError, suggest
from yolo_lite.options import TASKS
from yolo_lite.ultralytics_hooks import configs
from yolo_lite.weights.by_role import neck_start

SUFFIXES = (*filter(None, TASKS.values()), "-depth", "-sem")  # suffixes of Ultralytics' YAMLs for other tasks
TEXT_HEADS = ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26")  # heads with text as an additional input


@dataclass(frozen=True)
class Row:
    """One row of a model YAML with its comment and spacing.

    Attributes:
        inputs: Index or indices of the rows whose outputs are the input; -1 is the previous row.
        repeats: Number of repeats of the module.
        module: Name of the module.
        args: Arguments of the module.
        comment: Comment after the row.
        gap: Whether an empty line precedes the row.
    """

    inputs: int | list[int]
    repeats: int
    module: str
    args: list[Any]
    comment: str = ""
    gap: bool = False

    def __str__(self) -> str:
        text = f"  - {flow([self.inputs, self.repeats, self.module, self.args])}"
        return "\n" * self.gap + text + (f" # {self.comment}" if self.comment else "")

    @property
    def taken(self) -> list[int]:
        """Return the indices of all input rows as a list."""
        return self.inputs if isinstance(self.inputs, list) else [self.inputs]

    def but(self, **fields: Any) -> "Row":
        """Return a copy of the row with some fields replaced."""
        return replace(self, **fields)


@dataclass(frozen=True)
class Base:
    """Stock model that another backbone, neck or head is put into.

    Attributes:
        name: Name of the base, without task and scale.
        d: Contents of the YAML.
        comments: Comments after the YAML's keys, by key.
        features: Backbone rows that another backbone replaces.
        levels: Output level of each row in `features`.
        context: Remaining backbone rows: pooling and attention.
        head: Rows of neck and head.
        outputs: Input levels of the detection head, in its order.
    """

    name: str
    d: dict[str, Any]
    comments: dict[str, str]
    features: list[Row]
    levels: list[int]
    context: list[Row]
    head: list[Row]
    outputs: list[int]

    @property
    def scales(self) -> list[str]:
        """Return the scale letters, [""] for a base with one scale without a letter."""
        return list(self.d.get("scales") or [""])

    @property
    def joined(self) -> range:
        """Return all levels from the finest to the coarsest input level of the head."""
        return range(min(self.outputs), max(self.outputs) + 1)


def flow(value: Any) -> str:
    """Return a value as YAML text in the style of Ultralytics' YAMLs."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
    return "null" if value is None else str(value)


def _is_plain(text: str) -> bool:
    try:
        return bool(yaml.safe_load(text) == text)
    except yaml.YAMLError:
        return False


def read_base(name: str, task: str) -> Base:
    """Read the YAML of a base.

    Args:
        name: Name of the base, without task and scale letter.
        task: Key of `TASKS`.

    Raises:
        ConfigError: Ultralytics has no such model, or its structure does not allow replacing the backbone.
    """
    text = _find(name, task)
    d = yaml.safe_load(text)
    if not all(isinstance(d.get(section), list) for section in ("backbone", "head")):
        raise ConfigError(f"base {name} has no backbone and head to work on")
    last = d["head"][-1][2]
    if last in TEXT_HEADS:
        raise ConfigError(f"base {name}'s {last} takes text besides the image; its backbone cannot be replaced")
    try:
        levels = configs.stock_levels(d)
    except Exception:  # rows with several output maps, as in YOLOv9e
        raise ConfigError(
            f"base {name} has rows that are not a plain sequence of feature maps; choose another base"
        ) from None
    rows, count, end = _rows(text, d), len(d["backbone"]), neck_start(d)
    comments: dict[str, str] = dict(re.findall(r"^(\w+):[^#\n]*# *(.*)$", text, re.M))
    outputs = [levels[each] for each in rows[-1].taken]
    return Base(name, d, comments, rows[:end], levels[:end], rows[end:count], rows[count:], outputs)


def _find(name: str, task: str) -> str:
    """Return the text of a base's YAML, and raise `ConfigError` if there is none for the task."""
    known = configs.stock_configs()
    if name not in known and name + TASKS[task] not in known:
        raise ConfigError(f"unknown base {name!r}{_meant(name, known)}")
    if name + TASKS[task] not in known:
        able = [each for each in TASKS if name + TASKS[each] in known]
        raise ConfigError(f"base {name} has no model for the task {task}, only for {', '.join(able)}")
    named = next((each for each, suffix in TASKS.items() if suffix and name.endswith(suffix)), None)
    if named is not None:
        raise ConfigError(f"base {name!r} names a task; use base={name.removesuffix(TASKS[named])} task={named}")
    found: str = known[name + TASKS[task]].read_text("utf-8")
    return found


def _meant(name: str, known: Collection[str]) -> str:
    """Return a hint which base an unknown name may refer to."""
    # YOLOv10 is spelt with a v, YOLO11 without
    spelt = re.sub(r"^yolov?", "yolo" if name.startswith("yolov") else "yolov", name)
    for each in (name, spelt):
        letter = re.fullmatch(r"(yolov?\d+)([a-z])(.*)", each)
        if letter and letter[1] + letter[3] in known:
            return f"; use base={letter[1]}{letter[3]} scale={letter[2]}"
        family = re.escape(letter[1] + letter[3] if letter else each)
        of_scales = sorted(other for other in known if re.fullmatch(rf"{family}[a-z]", other))
        if of_scales:
            return f": Ultralytics has a YAML for each scale of it, {', '.join(of_scales)}; use one of them"
    return suggest(spelt if spelt in known else name, [each for each in known if not each.endswith(SUFFIXES)])


def _rows(text: str, d: dict[str, Any]) -> list[Row]:
    """Return the rows of backbone and head with their comments and spacing in the YAML's text."""
    rows = d["backbone"] + d["head"]
    lines = text.partition("\nbackbone:")[2].splitlines()
    found = [re.fullmatch(r" *- \[.*?\] *(?:# *(.*))?", line) for line in lines]
    beside = [(match[1] or "", not lines[i - 1].strip()) for i, match in enumerate(found) if match]
    if len(beside) != len(rows):  # the YAML has an unknown layout
        beside = [("", False)] * len(rows)
    return [Row(*[*row, *notes]) for row, notes in zip(rows, beside, strict=True)]
