"""Options of `yolo-lite make`, given on the command line, in a YAML file or in Python, and their checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite import arguments, limits, options
from yolo_lite.compose.graft import swap_of
from yolo_lite.compose.reserved_names import check_out
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError
from yolo_lite.registry import NO_EDGE_WEIGHTS
from yolo_lite.ultralytics_hooks.weights_key import check_setting
from yolo_lite.weights import published

DEFAULTS = options.COMMANDS["make"].defaults


@dataclass(frozen=True)
class Recipe:
    """Options of `yolo-lite make`, described in `options.py`; validated by `check`, not by the constructor."""

    base: str = DEFAULTS["base"]
    backbone: str = DEFAULTS["backbone"]
    neck: str = DEFAULTS["neck"]
    head: str = DEFAULTS["head"]
    task: str = DEFAULTS["task"]
    width: float | dict[str, float] | None = DEFAULTS["width"]
    scale: str | None = DEFAULTS["scale"]
    max_gflops: float | None = DEFAULTS["max_gflops"]
    max_params: float | None = DEFAULTS["max_params"]
    imgsz: int | None = DEFAULTS["imgsz"]
    weights: str | dict[str, Any] | None = DEFAULTS["weights"]
    edge: bool = DEFAULTS["edge"]
    out: str | None = DEFAULTS["out"]
    exist_ok: bool = DEFAULTS["exist_ok"]
    note: str = DEFAULTS["note"]
    count: bool = DEFAULTS["count"]
    keys: dict[str, Any] | None = DEFAULTS["keys"]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Return the recipe for some settings, each checked separately.

        Raises:
            ConfigError: A setting is unknown, or has an invalid value.
        """
        return cls(**arguments.checked("make", settings))

    @property
    def stem(self) -> str:
        """Return the name of the base's YAML, without its suffix."""
        return self.base + options.TASKS[self.task]

    @property
    def pixels(self) -> int:
        """Return the height and width of the image for counting GFLOPs."""
        if self.imgsz is not None:
            return self.imgsz
        return 224 if self.task == "classify" else 640

    @property
    def native(self) -> bool:
        """Return whether the backbone is native to yolo_lite, not timm's."""
        return self.backbone in families()

    @property
    def timm_name(self) -> str:
        """Return the backbone's name without the prefix `timm/`."""
        return self.backbone.removeprefix("timm/")

    @property
    def has_budget(self) -> bool:
        """Return whether the width is chosen to fit a budget."""
        return self.max_gflops is not None or self.max_params is not None

    @property
    def edge_keys(self) -> dict[str, Any]:
        """Return the YAML keys that `edge` sets."""
        if not self.edge:
            return {}
        changes = families()[self.backbone].has_edge_form(self.backbone)
        return {**({"backbone_edge": True} if changes else {}), "activation": "nn.ReLU6()"}

    def check(self) -> None:
        """Check each option, and the combinations that do not depend on the base.

        Raises:
            ConfigError: An option has an invalid value, or two options are incompatible.
        """
        arguments.checked("make", vars(self))
        if self.out is not None:
            check_out(Path(self.out), self.base, self.exist_ok)
        swap_of(self.backbone)
        if self.edge:
            self._check_edge()
        if self.weights is not None:
            check_setting(self.weights, record=False)
            if self.weights != "imagenet":
                published.find(self.backbone, 1.0, self.weights)  # fail early if the file does not exist
        self._check_width()

    def _check_edge(self) -> None:
        if not self.native:
            raise ConfigError(
                f"edge=True changes yolo_lite's own backbones only, {self.backbone} is timm's: yolo-lite list"
            )
        if self.weights is not None and "backbone_edge" in self.edge_keys:
            raise ConfigError(f"edge=True {NO_EDGE_WEIGHTS}; leave out weights")

    def _check_width(self) -> None:
        if not self.native and (self.width is not None or self.has_budget):
            raise ConfigError(
                f"{self.backbone} is timm's and has no width multiplier; only yolo_lite's own have: yolo-lite list"
            )
        if self.width is None:
            return
        if self.has_budget:
            raise ConfigError("a budget chooses the width; give one of the two")
        for value in self.width.values() if isinstance(self.width, dict) else [self.width]:
            if value > limits.BACKBONE_WIDTH:
                raise ConfigError(f"width has to be at most {limits.BACKBONE_WIDTH}, found {value}")

    def letters(self, scales: list[str]) -> list[str]:
        """Return the requested scale letters.

        Args:
            scales: Scale letters of the base, [""] for a base with one scale without a letter.

        Raises:
            ConfigError: The base lacks a scale, `width` lacks a requested scale, or a budget is given for several.
        """
        has = f"the scales {', '.join(scales)}" if scales != [""] else "one scale without a letter"
        if self.scale is not None and self.scale not in scales:
            raise ConfigError(f"base {self.base} has {has}, found scale={self.scale}")
        letters = [self.scale] if self.scale is not None else scales
        if isinstance(self.width, dict):
            for letter, alpha in self.width.items():
                if letter not in scales:
                    raise ConfigError(f"base {self.base} has {has}, found width={letter}:{alpha}")
            for letter in letters:
                if letter not in self.width:
                    raise ConfigError(f"width lacks the scale {letter}, it has {', '.join(self.width)}")
        if self.has_budget and len(letters) > 1:
            raise ConfigError(f"a budget is for one model: give scale={letters[0]} or another of {', '.join(letters)}")
        return letters
