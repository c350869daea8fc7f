"""The patched parser."""

import ast
import contextlib
import copy
import functools
import inspect
import linecache
import types

from yolo_lite.discovery import specs
from yolo_lite.errors import ConfigError
from yolo_lite.output import say_once
from yolo_lite.registry import arguments
from yolo_lite.ultralytics_hooks import checks, internals
from yolo_lite.ultralytics_hooks.dry_run import dry_run

TAUGHT = "<ultralytics parse_model, taught by yolo_lite>"


def parse_model(original):
    def parse(d, ch, verbose=True):
        host = original.__globals__
        if not checks.is_ours(d, host):
            return original(d, ch, verbose)
        taught = teach(original)
        checks.check(d, host)
        with _no_trace(host):
            key = (repr(d), ch)
            if key not in _dry_runs:
                heads = tuple(host[name] for name in ("Detect", "RTDETRDecoder") if name in host)
                dry_run(lambda d: _call(taught, d, ch, False, host), d, ch, heads, TAUGHT)
                _dry_runs.add(key)
            load = _weights(d)
            layers, save = _call(taught, d, ch, verbose, host)
            if load is not None:
                say_once(load(layers))
            return layers, save

    return parse


def _weights(d):
    """Read the weights that a model asks for; return the function that loads them into its layers, None for none."""
    if d.get("backbone_weights") is None:
        return None
    from yolo_lite.ultralytics_hooks.weights_key import prepare

    try:
        return prepare(d, specs(), checks.scaling(d).backbone_width)
    except ConfigError as error:
        raise error.at(checks.source(d)) from None


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
            f"Ultralytics {internals.version()}: its model parser cannot be patched ({reason}). yolo_lite is tested "
            f"with ultralytics {' to '.join(internals.TESTED)}; install one of those, or a newer yolo-lite-backbones"
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
    d, scale = copy.deepcopy(d), checks.scaling(d)
    namespace = {**host, "__yolo_lite_row__": _Row}
    for section in ("backbone", "head"):
        for row in d[section]:
            spec = specs().get(row[2])
            if spec is not None:
                row[3] = _Row(row[2], spec, checks.named_values(d, row[3]), scale)
                namespace[row[2]] = spec.cls
    return types.FunctionType(taught, namespace, "parse_model")(d, ch, verbose)
