"""The patched parser: Ultralytics' own `parse_model` with a branch for yolo_lite rows before its if-elif chain.

It is compiled when the first model needs it. What it relies on, `internals.Landmarks`, is searched for in the source of
the installed release; if it is missing, stock models still work and a yolo_lite YAML is rejected with a clear error.
"""

import ast
import contextlib
import copy
import functools
import inspect
import linecache
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from yolo_lite.discovery import one_at_a_time
from yolo_lite.errors import ConfigError
from yolo_lite.output import say_once
from yolo_lite.registry import Scale, Spec, arguments
from yolo_lite.ultralytics_hooks import checkpoints, checks, internals
from yolo_lite.ultralytics_hooks.dry_run import dry_run
from yolo_lite.ultralytics_hooks.internals import Landmarks
from yolo_lite.ultralytics_hooks.reading import is_ours

if TYPE_CHECKING:
    from torch import nn

PATCHED = "<ultralytics parse_model, patched by yolo_lite>"  # file name of its code
Parse = Callable[..., tuple["nn.Sequential", list[int]]]  # (d, ch, verbose) -> layers, rows whose outputs are kept


def parse_model(original: Parse) -> Parse:
    """Return a `parse_model` that builds yolo_lite models with the patched parser, and others with the original."""

    def parse(d: dict[str, Any], ch: int, verbose: bool = True) -> tuple["nn.Sequential", list[int]]:
        namespace: dict[str, Any] = original.__globals__
        if not is_ours(d, namespace):
            return original(d, ch, verbose)
        code = patch(original)
        checked = checks.check(d, namespace, ch)

        def build(d: Mapping[str, Any], verbose: bool = False, dry: bool = True) -> tuple["nn.Sequential", list[int]]:
            return _run(code, d, checked, ch, verbose, dry, namespace)

        with no_trace(namespace):
            key = (repr(d), ch)
            if key not in _dry_runs:
                heads = internals.classes(internals.STRIDED_HEADS, namespace)
                dry_run(build, d, checked, ch, PATCHED, heads)
                _dry_runs.add(key)
            load = _weights(d, checked)
            layers, save = build(d, verbose, dry=False)
            if load is not None:
                say_once(load(layers))
            checkpoints.name_distribution(layers)
            return layers, save

    return parse


def _weights(d: Mapping[str, Any], checked: checks.Checked) -> "Callable[[nn.Sequential], str] | None":
    """Read the weights that a model requests; return a function that loads them into its layers, None without any."""
    if d.get("backbone_weights") is None:
        return None
    from yolo_lite.ultralytics_hooks.weights_key import prepare

    try:
        return prepare(d["backbone_weights"], checked)
    except ConfigError as error:
        raise error.at(checked.where) from None


@contextlib.contextmanager
def no_trace(namespace: Mapping[str, Any]) -> Iterator[None]:
    """Restore the process-wide state that a parse changes: the default activation, and on failure the `legacy` flags.

    Ultralytics leaves the activation changed when a parse fails, and some releases always do. Threads that build models
    wait for each other, since otherwise one would build with the activation of another.
    """
    conv = namespace["Conv"]
    heads: list[Any] = [value for value in namespace.values() if isinstance(value, type) and "legacy" in vars(value)]
    with one_at_a_time:
        activation, legacy = conv.default_act, [head.legacy for head in heads]
        try:
            yield
        except BaseException:
            for head, value in zip(heads, legacy, strict=True):
                head.legacy = value
            raise
        finally:
            conv.default_act = activation


_dry_runs: set[tuple[str, int]] = set()  # (dictionary, channels) that passed; a model is built two or three times


class _Arguments:
    """A row's arguments, hidden from Ultralytics' parser, which would replace and evaluate strings in them."""

    def __init__(self, row: checks.Row, spec: Spec, scale: Scale) -> None:
        self.row, self.spec, self.scale = row, spec, scale

    def __iter__(self) -> Iterator[Any]:
        return iter(())  # Ultralytics looks for strings here

    def resolve(
        self, ch: list[Any], f: int | list[int], n: int, legacy: bool
    ) -> tuple[Callable[..., "nn.Module"], int, list[Any], Any, bool]:
        """Return the parser's values for the row: module, repeats, arguments, output channels and `legacy` flag.

        Args:
            ch: Output channels of the rows so far.
            f: Index of the input row, or a list of them.
            n: Number of repeats, scaled by the model's depth.
            legacy: Flag for older heads, as set by the rows so far.
        """
        name, args, spec = self.row.module, self.row.args, self.spec
        c1 = ch[f] if isinstance(f, int) else [ch[x] for x in f]
        values, c2 = arguments(name, spec, args, c1, self.scale)
        legacy = legacy and spec.legacy
        if spec.repeats == "argument":
            return spec.cls, 1, [*values[:2], n, *values[2:]], c2, legacy
        if n > 1:
            from yolo_lite.blocks import Repeat

            again, _ = arguments(name, spec, args, c2, self.scale)
            return Repeat, 1, [spec.cls, values, *[again] * (n - 1)], c2, legacy
        return spec.cls, n, values, c2, legacy


@functools.lru_cache(maxsize=1)
def patch(parse_model: Parse) -> types.CodeType:
    """Compile Ultralytics' parser with a branch for yolo_lite rows before its own rules.

    Args:
        parse_model: Ultralytics' function.

    Returns:
        (types.CodeType): Code of the patched function.

    Raises:
        ConfigError: If the parser does not have the expected structure.
    """
    try:
        tree = ast.parse(inspect.getsource(parse_model))
        loop, place = _landmarks(tree)
    except (ConfigError, OSError, SyntaxError) as error:
        raise ConfigError(
            f"Ultralytics {internals.version()}: its model parser cannot be patched ({error}). yolo_lite is tested "
            f"with ultralytics {' to '.join(internals.TESTED)}; install one of those, or a newer yolo-lite-backbones"
        ) from None
    _insert_branch(loop, place)
    return _compile(tree)


def _landmarks(tree: ast.Module) -> tuple[ast.For, int]:
    """Find the parser's loop over the rows, and the index of its if-elif chain in the loop's body.

    Raises:
        ConfigError: If a landmark is missing.
    """
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef) or [a.arg for a in function.args.args] != Landmarks.SIGNATURE:
        raise ConfigError(f"its signature is not ({', '.join(Landmarks.SIGNATURE)})")
    loops = [each for each in ast.walk(function) if isinstance(each, ast.For)]
    loop = next((each for each in loops if ast.unparse(each.iter) == Landmarks.LOOP), None)
    if loop is None or ast.unparse(loop.target) != Landmarks.TARGET or Landmarks.LOOKUP not in ast.unparse(loop):
        raise ConfigError("its loop over the rows has changed")
    if not any(ast.unparse(each) == Landmarks.LEGACY for each in function.body):
        raise ConfigError("its switch for older heads is missing")
    chains = [i for i, each in enumerate(loop.body) if isinstance(each, ast.If) and _ends_with_default(each)]
    if not chains:
        raise ConfigError("its chain of rules was not found")
    return loop, chains[0]


def _ends_with_default(chain: ast.If) -> bool:
    """Return whether an if-elif chain ends with Ultralytics' default rule."""
    while len(chain.orelse) == 1 and isinstance(chain.orelse[0], ast.If):
        chain = chain.orelse[0]
    return [ast.unparse(each) for each in chain.orelse] == [Landmarks.DEFAULT]


def _insert_branch(loop: ast.For, place: int) -> None:
    rule = f"if isinstance(args, {_Arguments.__name__}):\n    m, n, args, c2, legacy = args.resolve(ch, f, n, legacy)"
    branch = ast.parse(rule).body[0]
    assert isinstance(branch, ast.If)
    branch.orelse = [loop.body[place]]
    loop.body[place] = branch


def _compile(tree: ast.Module) -> types.CodeType:
    source = ast.unparse(ast.fix_missing_locations(tree))
    linecache.cache[PATCHED] = (len(source), None, source.splitlines(keepends=True), PATCHED)  # for tracebacks
    module = compile(source, PATCHED, "exec")
    return next(each for each in module.co_consts if isinstance(each, types.CodeType))


def _run(
    code: types.CodeType,
    d: Mapping[str, Any],
    checked: checks.Checked,
    ch: int,
    verbose: bool,
    dry: bool,
    namespace: Mapping[str, Any],
) -> tuple["nn.Sequential", list[int]]:
    """Run the patched parser on a yolo_lite model dictionary, in Ultralytics' namespace plus yolo_lite's classes."""
    d, names = copy.deepcopy(dict(d)), {**namespace, _Arguments.__name__: _Arguments}
    for row, values in zip(checked.rows, d["backbone"] + d["head"], strict=True):
        if row.spec is not None:
            values[3] = _Arguments(row, row.spec, checked.scale)
            names[row.module] = row.spec.cls
        elif dry and issubclass(row.cls, internals.classes(internals.WITH_WEIGHTS, namespace)):
            values[3][2:3] = [None]  # its weights, which it would otherwise download
    layers, save = types.FunctionType(code, names, "parse_model")(d, ch, verbose)
    return layers, save
