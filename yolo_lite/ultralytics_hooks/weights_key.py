"""The key `backbone_weights` of a model YAML: null, imagenet, a file's path, or {file: path, mean: [...], std: [...]}.

Weights are loaded when a model is built from the YAML file. A checkpoint records that they were loaded, so a model
rebuilt from a checkpoint never loads anything.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from yolo_lite.backbones._stage import Stage
from yolo_lite.backbones.timm_backbone import TimmBackbone
from yolo_lite.errors import ConfigError, shown
from yolo_lite.registry import NO_EDGE_WEIGHTS, Scale
from yolo_lite.weights.loading import load
from yolo_lite.weights.published import IMAGENET_MEAN, IMAGENET_STD, Source, check_normalisation, find, find_timm, read

if TYPE_CHECKING:
    from yolo_lite.ultralytics_hooks.checks import Checked, Row  # which import this module


class Request:
    """Value of `backbone_weights` in a dictionary that was read from a YAML file.

    It survives Ultralytics' deep copies, and is pickled into a checkpoint as a record that the weights were loaded.
    """

    def __init__(self, setting: Any) -> None:
        self.setting = setting
        self.loaded: str | None = None

    def __repr__(self) -> str:
        return f"Request({self.setting!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Request":
        return self  # Ultralytics parses a copy, but the original has to record what was loaded

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (list({"loaded": self.loaded, "asked": repr(self.setting)}.items()),)


def check_setting(setting: Any, record: bool = True) -> None:
    """Check the value of `backbone_weights`.

    Args:
        setting: Value to check.
        record: Whether the value may be a checkpoint's record that weights were loaded.

    Raises:
        ConfigError: If the value is none of those listed in the module docstring.
    """
    if setting is None or isinstance(setting, Request) or (isinstance(setting, str) and setting):
        return
    if isinstance(setting, dict):
        if "loaded" in setting and record:
            return
        if isinstance(setting.get("file"), str) and setting.keys() <= {"file", "mean", "std"}:
            check_normalisation(setting.get("mean", IMAGENET_MEAN), setting.get("std", IMAGENET_STD))
            return
    raise ConfigError(
        f"backbone_weights has to be null, imagenet, a path, or {{file: path, mean: [...], std: [...]}}, "
        f"found {shown(setting)}"
    )


def prepare(value: Any, checked: "Checked") -> Callable[[nn.Sequential], str] | None:
    """Read the weights that a model requests, before anything is built.

    Args:
        value: Value of `backbone_weights` in the model dictionary.
        checked: Result of the static checks of the model.

    Returns:
        (Callable | None): Function that loads the weights into the built layers and returns a summary; None if no
            weights are requested, or the model comes from a checkpoint.

    Raises:
        ConfigError: If the weights do not exist or cannot be read, or the model has no backbone that takes weights.
    """
    setting = value.setting if isinstance(value, Request) else value
    if setting is None or (isinstance(setting, dict) and "loaded" in setting):
        return None
    rows = [row for row in checked.rows if row.section == "backbone" and _cls(row) is not None]
    if not rows:
        raise ConfigError("backbone_weights is set, but no row of the backbone is a stage or a TimmBackbone")
    name, source = _find(rows[0], setting, checked.scale)
    weights = read(source)

    def apply(layers: nn.Sequential) -> str:
        first = layers[rows[0].index]
        if isinstance(first, TimmBackbone):
            loaded, total = first.load(weights, source.mean, source.std)
        else:
            stages = nn.ModuleList(layers[row.index] for row in rows)
            loaded, total = load(stages, name, weights, source.mean, source.std)
        if isinstance(value, Request):
            value.loaded = f"{source.name} {source.tag}".strip()
        return (
            f"backbone_weights: {source.name} {source.tag} (licence: {source.licence}), {loaded} of {total} tensors; "
            f"mean {source.mean} and std {source.std} are applied inside the model, images stay in 0..1"
        )

    return apply


def _cls(row: "Row") -> type[Stage] | type[TimmBackbone] | None:
    """Return a row's class if weights can be loaded into it, else None."""
    cls = row.spec.cls if row.spec is not None else None
    return cls if cls is not None and issubclass(cls, (Stage, TimmBackbone)) else None


def _find(row: "Row", setting: Any, scale: Scale) -> tuple[str, Source]:
    """Return the full name of a row's network, and the source of its weights."""
    name, cls = str(row.args[0]), _cls(row)
    if cls is None or issubclass(cls, TimmBackbone):
        name = name.removeprefix("timm/")
        return name, find_timm(name, setting)
    name = cls.resolve(name)
    if scale.backbone_edge and cls.has_edge_form(name):
        raise ConfigError(f"backbone_edge: true {NO_EDGE_WEIGHTS}; set backbone_weights: null")
    return name, find(name, scale.backbone_width, setting)
