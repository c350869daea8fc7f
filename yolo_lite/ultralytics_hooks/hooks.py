"""The only file that touches Ultralytics' internals.

Some of its functions are wrapped. Each wrapper hands everything that does not concern us to the original, so that a
stock model runs stock code from start to end:

    parse_model           builds models whose YAML names a module of ours, with a taught copy of the host's own parser
    yaml_model_load       finds and checks model YAMLs of ours
    check_file            finds the configs that we ship by their bare names, as it does the host's
    check_cls_dataset     makes shapes-cls, since a classification dataset has no YAML that could do it
    torch_safe_load       lets our classes through under ULTRALYTICS_SAFE_LOAD=1
    initialize_weights    keeps the settings of timm's modules
    BaseModel.load        carries neck and head of a model with another backbone over by role
    BaseModel.fuse        folds what the host cannot, and
    BaseModel.is_fused    says whether that is done

The taught copy is the host's `parse_model` with one branch in front of its chain of rules. It is made when the first
model needs it. What it relies on (the signature, the loop over the rows, the name look-up in `globals()`, the chain's
last branch) is the same in all releases from 8.0.100 on, and is looked for: where it is missing, stock models go on
and a YAML of ours is refused in one sentence.
"""

import functools
import importlib
import sys

from yolo_lite.discovery import specs
from yolo_lite.output import say_once
from yolo_lite.ultralytics_hooks import checks, configs, internals, parser


def install(host):
    """Wrap the host's functions; once is enough, more does no harm.

    Args:
        host: The module `ultralytics.nn.tasks` or `ultralytics.data.utils`.
    """
    for owner, name, wrap in _of_data(host) if host.__name__.endswith(".data.utils") else _of_models(host):
        original = getattr(owner, name)
        if hasattr(original, "yolo_lite"):
            continue
        wrapper = functools.wraps(original)(wrap(original))
        wrapper.yolo_lite = True
        setattr(owner, name, wrapper)
        for each in list(sys.modules.values()):  # those that imported it by name before us have it too
            if getattr(each, "__name__", "").startswith("ultralytics") and vars(each).get(name) is original:
                setattr(each, name, wrapper)


def _of_data(utils):
    return [(utils, "check_cls_dataset", configs.check_cls_dataset)]


def _of_models(tasks):
    checks = importlib.import_module("ultralytics.utils.checks")
    return [
        (tasks, "parse_model", parser.parse_model),
        (tasks, "yaml_model_load", configs.yaml_model_load),
        (checks, "check_file", configs.check_file),
        (tasks, "torch_safe_load", _torch_safe_load),
        (tasks, "initialize_weights", _initialize_weights),
        (tasks.BaseModel, "load", _load),
        (tasks.BaseModel, "fuse", _fuse),
        (tasks.BaseModel, "is_fused", _is_fused),
    ]


def installed():
    """Tell whether the host's parser is wrapped in this process."""
    return hasattr(internals.tasks().parse_model, "yolo_lite")


def _initialize_weights(original):
    def initialize_weights(model):
        """The host sets eps, momentum (and once inplace) by exact type, which is not its to set in timm's networks."""
        kept = [
            (module, name, getattr(module, name))
            for network in model.modules()
            if type(network).__name__ == "TimmBackbone"
            for module in network.modules()
            for name in ("eps", "momentum", "inplace")
            if hasattr(module, name)
        ]
        original(model)
        for module, name, value in kept:
            setattr(module, name, value)

    return initialize_weights


def _load(original):
    def load(self, weights, *args, **kwargs):
        source = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
        host, theirs = vars(internals.tasks()), getattr(source, "yaml", None)
        if not (isinstance(theirs, dict) and checks.is_ours(self.yaml, host)) or _same_rows(theirs, self.yaml):
            return original(self, weights, *args, **kwargs)
        from yolo_lite.weights.by_role import ByRole

        found = ByRole(source, self)
        result = original(self, found, *args, **kwargs)
        say_once(found.said_of(self))
        return result

    return load


def _same_rows(a, b):
    return all([row[2] for row in a[key]] == [row[2] for row in b[key]] for key in ("backbone", "head"))


def _foldable(model):
    """The modules of ours that hold BatchNorms or branches which the host's `fuse` does not know."""
    return [module for module in model.modules() if hasattr(type(module), "fold")]


def _fuse(original):
    def fuse(self, *args, **kwargs):
        for module in _foldable(self):
            module.fold()
        return original(self, *args, **kwargs)

    return fuse


def _is_fused(original):
    def is_fused(self, *args, **kwargs):
        return original(self, *args, **kwargs) and all(module.folded for module in _foldable(self))

    return is_fused


def _torch_safe_load(original):
    def torch_safe_load(weight, safe_only=None):
        if safe_only or (safe_only is None and getattr(internals.tasks(), "SAFE_LOAD", False)):
            _allow_our_classes(weight)
        return original(weight) if safe_only is None else original(weight, safe_only)

    return torch_safe_load


def _allow_our_classes(weight):
    """List the classes of ours, and of registered modules, that a checkpoint names as safe to load."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(weight)
    except Exception:  # missing or damaged: the host says so better
        return
    if any(name.startswith("yolo_lite.") for name in names):
        registered = {f"{spec.cls.__module__}.{spec.cls.__qualname__}": spec.cls for spec in specs().values()}
        for name in names:
            module, _, attribute = name.rpartition(".")
            cls = registered.get(name)
            if cls is None and module.startswith("yolo_lite."):
                cls = getattr(importlib.import_module(module), attribute, None)
            if isinstance(cls, type) and issubclass(cls, torch.nn.Module):
                torch.serialization.add_safe_globals([cls])
