"""Text of a model YAML: keys and comments of the base, the new rows, and a descriptive header."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from yolo_lite.compose.base import Base, Row, flow, read_base
from yolo_lite.compose.graft import grafted
from yolo_lite.compose.recipe import Recipe
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError
from yolo_lite.options import TASKS

Widths = Mapping[str, float] | None  # alpha by scale letter; None for a backbone without a width multiplier


@dataclass(frozen=True)
class Draft:
    """Model YAML without the widths of its backbone.

    Attributes:
        recipe: Recipe of the model.
        base: Stock model that is modified.
        backbone: New rows of the backbone.
        head: New rows of neck and head.
        letters: Scale letters to include, [""] for a base with one scale without a letter.
    """

    recipe: Recipe
    base: Base
    backbone: list[Row]
    head: list[Row]
    letters: list[str]

    @classmethod
    def of(cls, recipe: Recipe) -> "Draft":
        """Return the draft of a checked recipe, with its backbone, neck and head put into its base.

        Raises:
            ConfigError: The combination is not possible.
        """
        base = read_base(recipe.base, recipe.task)
        step = 2 ** max(base.outputs)
        if recipe.pixels % step:
            raise ConfigError(f"imgsz has to be a multiple of {step} for base {base.name}, found {recipe.pixels}")
        base = replace(base, d={**base.d, **recipe.edge_keys, **(recipe.keys or {})})
        backbone, head = grafted(base, recipe.backbone, recipe.neck, recipe.head)
        return cls(recipe, base, backbone, head, recipe.letters(base.scales))

    def body(self, widths: Widths) -> str:
        """Return the YAML without its header."""
        lines = [line for key, value in self.base.d.items() for line in self._key(key, value)]
        if widths is not None:
            lines.append(f"backbone_width: {self._alphas(widths)} # alpha, the width multiplier")
        lines.append(f"backbone_weights: {flow(self.recipe.weights)} # null, imagenet, or a checkpoint's path")
        head = [self.head[0].but(gap=False), *self.head[1:]]
        lines += ["", "backbone:", "  # [from, repeats, module, args]", *map(str, self.backbone)]
        lines += ["", "head:", *map(str, head)]
        return "\n".join(lines) + "\n"

    def _key(self, key: str, value: Any) -> list[str]:
        """Return the YAML lines of one key of the base."""
        if key in ("backbone", "head"):
            return []
        if key == "scales":
            first = "scales: # [depth, width, max_channels] of neck and head, as in every Ultralytics YAML"
            return [first, *(f"  {each}: {_scale(value[each])}" for each in self.letters)] if value else []
        comment = self.base.comments.get(key)
        return [f"{key}: {flow(value)}" + (f" # {comment}" if comment else "")]

    def _alphas(self, widths: Mapping[str, float]) -> str:
        if self.letters == [""]:
            return str(float(widths[""]))
        return f"{{{', '.join(f'{letter}: {float(widths[letter])}' for letter in self.letters)}}}"

    def header(self, notes: Iterable[str], name: str) -> list[str]:
        """Return the lines of the header.

        Args:
            notes: Sentences to add; empty ones are skipped.
            name: Name of the file.
        """
        recipe = self.recipe
        paper = families()[recipe.backbone].paper if recipe.native else "through timm"
        parts = [f"{key} {value}" for key, value in (("neck", recipe.neck), ("head", recipe.head)) if value != "base"]
        example = re.sub(r"(yolov?\d+)", r"\g<1>" + self.base.scales[0], name, count=1)
        data = {"classify": "imagenet10", "obb": "dota8.yaml"}.get(recipe.task, f"coco8{TASKS[recipe.task]}.yaml")
        sentences = [
            f"{recipe.stem} with {', '.join([f'the backbone {recipe.backbone}', *parts])}: {paper}",
            f"Use: yolo train model={example} data={data}",
            *filter(None, notes),
        ]
        return [f"# {line}" for each in sentences for line in textwrap.wrap(each, 118)]


def _scale(values: tuple[float, float, int]) -> str:
    depth, width, most = values
    return f"[{_hundredths(depth)}, {_hundredths(width)}, {most}]"


def _hundredths(value: float) -> str:
    return f"{value:.2f}" if round(value, 2) == value else str(value)
