"""The key `backbone_weights` of a model YAML: null, imagenet, a file's path, or {file: path, mean: [...], std: [...]}.

Weights are loaded when a model is built from the YAML file. What is stored with a checkpoint says that they were, so a
model rebuilt from a checkpoint never loads anything.
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
    from yolo_lite.ultralytics_hooks.checks import Checked, Row  # which ask this file about the key


class Request:
    """The value of `backbone_weights` in a dictionary that comes from a YAML file.

    It survives Ultralytics' deep copies, and is pickled, into a checkpoint, as a record that the weights are loaded.
    """

    def __init__(self, setting: Any) -> None:
        self.setting = setting
        self.loaded: str | None = None

    def __repr__(self) -> str:
        return f"Request({self.setting!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Request":
        return self  # Ultralytics parses a copy; what happens to it is to be known of the original

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (list({"loaded": self.loaded, "asked": repr(self.setting)}.items()),)


def check_setting(setting: Any, record: bool = True) -> None:
    """Check the value of `backbone_weights`.

    Args:
        setting: The value.
        record: Whether it may be a checkpoint's record that weights are loaded.

    Raises:
        ConfigError: It is none of those that the top of this file lists.
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
    """Read the weights that a model asks for, before anything is built.

    Args:
        value: The value of `backbone_weights` in the dictionary.
        checked: What is known of the model.

    Returns:
        (Callable | None): A function that loads them into the built layers and says what it did; None where none are
            asked for, or the model comes from a checkpoint.

    Raises:
        ConfigError: They do not exist or cannot be read.
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
    """Return a row's class, if it is one that weights are loaded into."""
    cls = row.spec.cls if row.spec is not None else None
    return cls if cls is not None and issubclass(cls, (Stage, TimmBackbone)) else None


def _find(row: "Row", setting: Any, scale: Scale) -> tuple[str, Source]:
    """Return the full name of a row's network, and weights for it."""
    name, cls = str(row.args[0]), _cls(row)
    if cls is None or issubclass(cls, TimmBackbone):
        name = name.removeprefix("timm/")
        return name, find_timm(name, setting)
    name = cls.resolve(name)
    if scale.backbone_edge and cls.has_edge_form(name):
        raise ConfigError(f"backbone_edge: true {NO_EDGE_WEIGHTS}; set backbone_weights: null")
    return name, find(name, scale.backbone_width, setting)
