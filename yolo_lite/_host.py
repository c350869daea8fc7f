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

import ast
import contextlib
import copy
import functools
import importlib
import inspect
import linecache
import re
import sys
import types
from pathlib import Path

from yolo_lite import _check
from yolo_lite._dry_run import dry_run, levels
from yolo_lite._registry import ConfigError, arguments, specs, suggest

TESTED = ("8.4.0", "8.4.190")  # the range of Ultralytics releases that the tests ran on
TAUGHT = "<ultralytics parse_model, taught by yolo_lite>"


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
    return [(utils, "check_cls_dataset", _check_cls_dataset)]


def _of_models(tasks):
    checks = importlib.import_module("ultralytics.utils.checks")
    return [
        (tasks, "parse_model", _parse_model),
        (tasks, "yaml_model_load", _yaml_model_load),
        (checks, "check_file", _check_file),
        (tasks, "torch_safe_load", _torch_safe_load),
        (tasks, "initialize_weights", _initialize_weights),
        (tasks.BaseModel, "load", _load),
        (tasks.BaseModel, "fuse", _fuse),
        (tasks.BaseModel, "is_fused", _is_fused),
    ]


def installed():
    """Tell whether the host's parser is wrapped in this process."""
    return hasattr(_tasks().parse_model, "yolo_lite")


def version():
    """Return the installed Ultralytics' version."""
    return importlib.import_module("ultralytics").__version__


def namespace():
    """Return the names that a stock model YAML may use for modules."""
    return vars(_tasks())


def _tasks():
    return importlib.import_module("ultralytics.nn.tasks")


# Model YAMLs ----------------------------------------------------------------------------------------------------------


def config_folder():
    """Return the folder with our configs: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "cfg"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "cfg"


def configs():
    """Return the YAML files that we ship, by name."""
    return {path.name: path for path in sorted(config_folder().rglob("*.yaml"))}


def host_configs():
    """Return the model YAMLs of the installed Ultralytics, by stem."""
    folder = Path(importlib.import_module("ultralytics").__file__).parent / "cfg" / "models"
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def host_levels(d):
    """Return the level k (stride 2**k) of every backbone row's output in a stock model dictionary."""
    scale = next(iter(d.get("scales") or {"": None}))
    parse_model = _tasks().parse_model
    return levels(lambda d: parse_model(copy.deepcopy(d), 3, False), {**d, "scale": scale}, len(d["backbone"]))


def build_model(d, task="detect"):
    """Build a model from its dictionary, ours or the host's."""
    decoder = d["head"][-1][2] == "RTDETRDecoder"
    name = {"segment": "Segmentation", "pose": "Pose", "obb": "OBB", "classify": "Classification"}.get(
        task, "Detection"
    )
    return getattr(_tasks(), f"{'RTDETRDetection' if decoder else name}Model")(d, verbose=False)


def _check_file(original):
    def check_file(file, *args, **kwargs):
        name = str(file).strip()
        shipped = configs().get(name) if name.endswith(".yaml") and not Path(name).exists() else None
        if shipped is None:
            return original(file, *args, **kwargs)
        return original(file, *args, **{**kwargs, "hard": False}) or str(shipped)

    return check_file


def _check_cls_dataset(original):
    def check_cls_dataset(dataset, *args, **kwargs):
        if str(dataset) == "shapes-cls":
            from yolo_lite.shapes import generate

            if not Path(dataset).is_dir():
                generate(original.__globals__["DATASETS_DIR"] / dataset, "classify")
        return original(dataset, *args, **kwargs)

    return check_cls_dataset


def _yaml_model_load(original):
    def yaml_model_load(path):
        tasks = _tasks()
        file = _find_model(path)
        d = _check.load(file, vars(tasks)) if file else None
        if d is None:
            try:
                return original(path)
            except FileNotFoundError as error:
                names = [name for name in configs() if name.startswith("yolo")]
                near = suggest(_without_letter(Path(path).name), names)
                if not near.startswith("; did you mean"):
                    raise
                raise FileNotFoundError(f"{error}{near}") from None
        d["scale"] = tasks.guess_model_scale(path)
        d["yaml_file"] = str(path)
        if d.get("backbone_weights") == "None":  # as Ultralytics' own YAMLs write it
            d["backbone_weights"] = None
        _check.check(d, vars(tasks), file=True)
        if d.get("backbone_weights") is not None:
            from yolo_lite.pretrained import Request

            d["backbone_weights"] = Request(d["backbone_weights"])
        return d

    return yaml_model_load


def _find_model(path):
    """Find a model YAML: as named, then without its scale letter, then (a bare name) among the configs we ship.

    The host takes the letter out of the whole path, which turns `2nd_try/` into `2d_try/`; here only the file's name
    counts.
    """
    path = Path(str(path).strip())
    names = [path.name, _without_letter(path.name)]
    for candidate in (path.with_name(name) for name in names):
        if candidate.is_file():
            return candidate
    return next((configs()[name] for name in names if name in configs()), None) if path.name == str(path) else None


def _without_letter(name):
    return re.sub(r"^(.*?yolo(?:e-)?v?\d+)[nsmlx]", r"\1", name)


# The parser -----------------------------------------------------------------------------------------------------------


def _parse_model(original):
    def parse_model(d, ch, verbose=True):
        host = original.__globals__
        if not _check.is_ours(d, host):
            return original(d, ch, verbose)
        taught = teach(original)
        _check.check(d, host)
        with _no_trace(host):
            key = (repr(d), ch)
            if key not in _dry_runs:
                heads = tuple(host[name] for name in ("Detect", "RTDETRDecoder") if name in host)
                dry_run(lambda d: _call(taught, d, ch, False, host), d, ch, heads, TAUGHT)
                _dry_runs.add(key)
            load = _weights(d)
            layers, save = _call(taught, d, ch, verbose, host)
            if load is not None:
                _say_once(load(layers))
            return layers, save

    return parse_model


def _weights(d):
    """Read the weights that a model asks for; return the function that loads them into its layers, None for none."""
    if d.get("backbone_weights") is None:
        return None
    from yolo_lite.pretrained import prepare

    try:
        return prepare(d, specs(), _check.scaling(d).backbone_width)
    except ConfigError as error:
        raise error.at(_check.source(d)) from None


_said = set()


def _say_once(text):
    """Log a line, the first time that this process has it, and in the first of several workers only."""
    from ultralytics.utils import LOGGER, RANK

    if text not in _said and RANK in {-1, 0}:
        LOGGER.info(text)
    _said.add(text)


@contextlib.contextmanager
def _no_trace(host):
    """Restore what a parse changes for the whole process: the default activation, and on failure the heads' flavour."""
    activation = host["Conv"].default_act  # the host leaves it changed when a parse fails, some releases always
    heads = [value for value in host.values() if isinstance(value, type) and "legacy" in vars(value)]
    legacy = [head.legacy for head in heads]
    try:
        yield
    except BaseException:
        for head, value in zip(heads, legacy, strict=True):
            head.legacy = value
        raise
    finally:
        host["Conv"].default_act = activation


_dry_runs = set()  # (dictionary, channels) that passed; the host builds the same model two or three times


class _Row:
    """A row's arguments, hidden from the host's parser, which would replace and evaluate the strings among them."""

    def __init__(self, name, spec, args, scale):
        self.name, self.spec, self.args, self.scale = name, spec, args, scale

    def __iter__(self):
        return iter(())  # the host looks for strings here

    def resolve(self, ch, f, n, legacy):
        """Return what the host's parser goes on with: module, repeats, arguments, output channels, flavour of heads."""
        c1 = ch[f] if isinstance(f, int) else [ch[x] for x in f]
        values, c2 = arguments(self.name, self.spec, self.args, c1, self.scale)
        legacy = legacy and self.spec.legacy
        if self.spec.repeats == "argument":
            return self.spec.cls, 1, [*values[:2], n, *values[2:]], c2, legacy
        if n > 1:
            from yolo_lite.blocks import Repeat

            again, _ = arguments(self.name, self.spec, self.args, c2, self.scale)
            return Repeat, 1, [self.spec.cls, values, *[again] * (n - 1)], c2, legacy
        return self.spec.cls, n, values, c2, legacy


@functools.lru_cache(maxsize=1)
def teach(parse_model):
    """Compile the host's parser with a branch for our rows in front of its own rules.

    Args:
        parse_model: The host's function.

    Returns:
        (types.CodeType): The code of the taught function.

    Raises:
        ConfigError: The host's parser is not built as expected.
    """
    try:
        tree = ast.parse(inspect.getsource(parse_model))
        function = tree.body[0]
        if [arg.arg for arg in function.args.args] != ["d", "ch", "verbose"]:
            raise ConfigError("its signature is not (d, ch, verbose)")
        loop = next(
            node
            for node in ast.walk(function)
            if isinstance(node, ast.For) and ast.unparse(node.iter) == "enumerate(d['backbone'] + d['head'])"
        )
        if ast.unparse(loop.target) != "(i, (f, n, m, args))" or "globals()[m]" not in ast.unparse(loop):
            raise ConfigError("its loop over the rows has changed")
        if not any(ast.unparse(node) == "legacy = True" for node in function.body):
            raise ConfigError("its switch for older heads is missing")
        place = next(i for i, node in enumerate(loop.body) if isinstance(node, ast.If) and _ends_with_default(node))
    except (ConfigError, OSError, StopIteration, SyntaxError) as error:
        reason = str(error) or "its loop over the rows or its chain of rules was not found"
        raise ConfigError(
            f"Ultralytics {version()}: its model parser cannot be taught our modules ({reason}). yolo_lite is tested "
            f"with ultralytics {TESTED[0]} to {TESTED[1]}; install one of those, or a newer yolo-lite-backbones"
        ) from None
    rule = "m, n, args, c2, legacy = args.resolve(ch, f, n, legacy)"
    branch = ast.parse(f"if isinstance(args, __yolo_lite_row__):\n    {rule}").body[0]
    branch.orelse = [loop.body[place]]
    loop.body[place] = branch
    source = ast.unparse(ast.fix_missing_locations(tree))
    linecache.cache[TAUGHT] = (len(source), None, source.splitlines(keepends=True), TAUGHT)  # for tracebacks
    return next(const for const in compile(source, TAUGHT, "exec").co_consts if isinstance(const, types.CodeType))


def _ends_with_default(node):
    """Tell whether an if-elif chain ends with `else: c2 = ch[f]`, the host's rule for all that it has no rule for."""
    while len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        node = node.orelse[0]
    return [ast.unparse(each) for each in node.orelse] == ["c2 = ch[f]"]


def _call(taught, d, ch, verbose, host):
    """Run the taught parser on a model dictionary of ours, in the host's namespace with our classes added."""
    d, scale = copy.deepcopy(d), _check.scaling(d)
    namespace = {**host, "__yolo_lite_row__": _Row}
    for section in ("backbone", "head"):
        for row in d[section]:
            spec = specs().get(row[2])
            if spec is not None:
                row[3] = _Row(row[2], spec, _check.named_values(d, row[3]), scale)
                namespace[row[2]] = spec.cls
    return types.FunctionType(taught, namespace, "parse_model")(d, ch, verbose)


# Built models ---------------------------------------------------------------------------------------------------------


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
        host, theirs = vars(_tasks()), getattr(source, "yaml", None)
        if not (isinstance(theirs, dict) and _check.is_ours(self.yaml, host)) or _same_rows(theirs, self.yaml):
            return original(self, weights, *args, **kwargs)
        from yolo_lite.transfer import ByRole

        found = ByRole(source, self)
        result = original(self, found, *args, **kwargs)
        _say_once(found.said_of(self))
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


# Checkpoints ----------------------------------------------------------------------------------------------------------


def _torch_safe_load(original):
    def torch_safe_load(weight, safe_only=None):
        if safe_only or (safe_only is None and getattr(_tasks(), "SAFE_LOAD", False)):
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
