"""The functions of Ultralytics that are wrapped.

Each wrapper passes everything that does not concern yolo_lite to the original, so that a stock model runs stock code
throughout. See internals.py for the parts of Ultralytics that the wrappers and other packages rely on.
"""

import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from yolo_lite.output import say_once
from yolo_lite.registry import LOSSES
from yolo_lite.ultralytics_hooks import configs, internals, parser, released
from yolo_lite.ultralytics_hooks.reading import is_ours

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

Function = Callable[..., Any]
SOURCE = "yolo_lite_source"  # attribute of a model until training begins: path of the checkpoint it was loaded from


class Wrapped(NamedTuple):
    """A function of Ultralytics, and the function that wraps it."""

    name: str  # as in `internals.INTERNALS`
    wrap: Callable[[Function], Function]


def install(module: ModuleType) -> None:
    """Wrap the functions that can be wrapped once a module of Ultralytics is loaded; repeated calls have no effect.

    Args:
        module: Loaded module, one of those that the start-up import finder waits for.
    """
    for wrapped in WRAPPED[module.__name__]:
        where, _, path = wrapped.name.partition(":")
        *parents, name = path.split(".")
        owner = functools.reduce(getattr, parents, importlib.import_module(where))
        original = getattr(owner, name)
        if hasattr(original, "yolo_lite"):
            continue
        ours = functools.wraps(original)(wrapped.wrap(original))
        vars(ours)["yolo_lite"] = True
        setattr(owner, name, ours)
        for each in list(sys.modules.values()):  # modules that already imported it by name
            if getattr(each, "__name__", "").startswith("ultralytics") and vars(each).get(name) is original:
                setattr(each, name, ours)


# Models ---------------------------------------------------------------------------------------------------------------


def _initialize_weights(original: Function) -> Function:
    def initialize_weights(model: "BaseModel") -> None:
        """Keep eps, momentum and inplace of timm's networks, which Ultralytics would overwrite by exact type."""
        kept = [
            (module, name, getattr(module, name))
            for network in model.modules()
            if getattr(type(network), "keeps_settings", False)
            for module in network.modules()
            for name in ("eps", "momentum", "inplace")
            if hasattr(module, name)
        ]
        original(model)
        for module, name, value in kept:
            setattr(module, name, value)

    return initialize_weights


def _load(original: Function) -> Function:
    def load(self: "BaseModel", weights: Any, *args: Any, **kwargs: Any) -> Any:
        source = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
        ours: Any = self.yaml
        theirs = getattr(source, "yaml", None)
        if not (isinstance(theirs, dict) and is_ours(ours, internals.namespace())):
            return original(self, weights, *args, **kwargs)
        same, path = _same_rows(theirs, ours), getattr(source, "pt_path", None)
        if SOURCE in vars(source):  # a trainer's model inherits it from the user's model
            vars(self)[SOURCE] = vars(source)[SOURCE]
        elif path and not (same and _same_sizes(source, self)):
            vars(self)[SOURCE] = os.path.abspath(path)
        from yolo_lite.weights.by_role import ByRole, carried, fitting, said_of

        if not same:
            levels = _levels(theirs), _levels(ours)
            found = ByRole(source, self, levels if all(levels) else ((), ()))
            result = original(self, found, *args, **kwargs)
            tensors = found.tensors
        elif source in carried:  # rebuilt for a dataset; Ultralytics would count random tensors too
            result = original(self, weights, False)
            tensors = {name: value for name, value in source.state_dict().items() if name in carried[source]}
        else:
            return original(self, weights, *args, **kwargs)
        carried[self] = fitting(self, tensors)
        say_once(said_of(self))
        return result

    return load


def _setup_model(original: Function) -> Function:
    def setup_model(self: Any) -> Any:
        """Transfer from the model's source once the trainer has its model, before anything is wrapped around it."""
        result = original(self)
        source = vars(self.model).pop(SOURCE, None) if SOURCE in vars(self.model) else None
        if source is not None and not self.resume:
            from yolo_lite.ultralytics_hooks.training import begin

            begin(self, source)
        return result

    return setup_model


def _levels(d: dict[str, Any]) -> list[int]:
    """Return the output level of each row of a model, an empty list on failure, e.g. if a row outputs several maps."""
    from yolo_lite.ultralytics_hooks.dry_run import levels

    try:
        with parser.no_trace(internals.namespace()):
            return levels({**d, "backbone_weights": None} if "backbone_weights" in d else d)
    except Exception:
        return []


def _same_rows(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all([row[2] for row in a[key]] == [row[2] for row in b[key]] for key in ("backbone", "head"))


def _same_sizes(a: Any, b: Any) -> bool:
    """Return whether two models with the same rows have the same width; the number of classes may differ."""
    ours, theirs = ({name: value.shape for name, value in each.state_dict().items()} for each in (a, b))
    return bool(sum(theirs.get(name) == shape for name, shape in ours.items()) > 0.8 * len(ours))


def _foldable(model: "BaseModel") -> list[Any]:
    """Return the yolo_lite modules with BatchNorms or branches that Ultralytics' `fuse` does not know."""
    return [module for module in model.modules() if hasattr(type(module), "fold")]


def _fuse(original: Function) -> Function:
    def fuse(self: "BaseModel", *args: Any, **kwargs: Any) -> Any:
        for module in _foldable(self):
            module.fold()
        return original(self, *args, **kwargs)

    return fuse


def _is_fused(original: Function) -> Function:
    def is_fused(self: "BaseModel", *args: Any, **kwargs: Any) -> bool:
        return original(self, *args, **kwargs) and all(module.folded for module in _foldable(self))

    return is_fused


def _init_criterion(original: Function) -> Function:
    def init_criterion(self: "BaseModel") -> Any:
        d: Any = self.yaml
        if all(d.get(key) is None for key in LOSSES):
            return original(self)
        from yolo_lite.losses import apply

        return apply(original(self), d)

    return init_criterion


WRAPPED = {  # module of Ultralytics -> functions to wrap once it is loaded
    "ultralytics.nn.tasks": [
        Wrapped("ultralytics.nn.tasks:parse_model", parser.parse_model),
        Wrapped("ultralytics.nn.tasks:yaml_model_load", configs.yaml_model_load),
        Wrapped("ultralytics.utils.checks:check_file", configs.check_file),
        Wrapped("ultralytics.nn.tasks:torch_safe_load", released.torch_safe_load),
        Wrapped("ultralytics.nn.tasks:initialize_weights", _initialize_weights),
        Wrapped("ultralytics.nn.tasks:BaseModel.load", _load),
        Wrapped("ultralytics.nn.tasks:BaseModel.fuse", _fuse),
        Wrapped("ultralytics.nn.tasks:BaseModel.is_fused", _is_fused),
        Wrapped("ultralytics.nn.tasks:DetectionModel.init_criterion", _init_criterion),
        Wrapped("ultralytics.nn.tasks:SegmentationModel.init_criterion", _init_criterion),
        Wrapped("ultralytics.nn.tasks:PoseModel.init_criterion", _init_criterion),
        Wrapped("ultralytics.nn.tasks:OBBModel.init_criterion", _init_criterion),
    ],
    "ultralytics.engine.trainer": [Wrapped("ultralytics.engine.trainer:BaseTrainer.setup_model", _setup_model)],
    "ultralytics.data.utils": [Wrapped("ultralytics.data.utils:check_cls_dataset", configs.check_cls_dataset)],
}
