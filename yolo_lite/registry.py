"""The registry: which YAML name stands for which class, and how a row's arguments become the constructor's.

`register` is public. A *rule* turns the arguments of one YAML row into the constructor's arguments and the number of
output channels, the way Ultralytics' own parser does for its modules:

    rule(c1, scale, *row arguments) -> (constructor arguments, c2)

where c1 is the number of input channels (a list of them for a module with several inputs) and `scale` is the model's
`Scale`. `scaled` and `same` are the two rules that most modules need.
"""

import builtins
import importlib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, overload

from yolo_lite import limits
from yolo_lite.errors import ConfigError, shown

if TYPE_CHECKING:
    from torch import nn

NO_EDGE_WEIGHTS = "removes what published weights were trained with"

LOSSES = {  # keys of model YAMLs -> their values, see losses.py
    "class_loss": ("varifocal", "varifocal-aligned"),
    "box_loss": ("siou",),
}

SEVERAL_LEVELS = "a TimmBackbone outputs several levels; put a Level row in between"

Rule: TypeAlias = Callable[..., tuple[list[Any], Any]]  # (c1, scale, *row arguments) -> (constructor arguments, c2)
Repeats: TypeAlias = Literal["stack", "argument", "once"]
Class = TypeVar("Class", bound="type[nn.Module]")


class Range(NamedTuple):
    """Which values of its type an argument may have; stands behind the type in `typing.Annotated`."""

    text: str
    holds: Callable[[Any], bool]


Count = typing.Annotated[int, Range(f"from 1 to {limits.CHANNELS}", lambda n: 1 <= n <= limits.CHANNELS)]
Kernel = typing.Annotated[int, Range("an odd number from 1 to 31", lambda n: n % 2 == 1 and 1 <= n <= 31)]
KernelOrNone = typing.Annotated[
    int, Range("0 for none or an odd number up to 31", lambda n: n == 0 or (n % 2 == 1 and 1 <= n <= 31))
]
Heads = typing.Annotated[int, Range("from 1 to 64", lambda n: 1 <= n <= 64)]
Stride = typing.Annotated[int, Range("from 1 to 8", lambda n: 1 <= n <= 8)]
Factor = typing.Annotated[float, Range("above 0 and at most 32", lambda x: 0 < x <= 32)]
Part = typing.Annotated[float, Range("above 0 and at most 1", lambda x: 0 < x <= 1)]
PartOrNone = typing.Annotated[float, Range("from 0 to 1", lambda x: 0 <= x <= 1)]


class Scale(NamedTuple):
    """What a rule may know of the model: its scale letter and what that stands for, and what its head is told."""

    letter: str = ""
    depth: float = 1.0
    width: float = 1.0
    max_channels: float = math.inf
    backbone_width: float = 1.0  # alpha, the MobileNet width multiplier
    backbone_edge: bool = False  # ReLU6 for h-swish and SiLU, no squeeze-excite
    reg_max: int = 16
    end2end: bool | None = None

    def channels(self, c2: int) -> int:
        """Scale a neck's or head's channel count exactly as Ultralytics does for its own modules.

        Raises:
            ConfigError: It is below 1, or beyond any use.
        """
        if not 1 <= c2 <= limits.CHANNELS:
            raise ConfigError(f"needs 1 to {limits.CHANNELS} output channels, found {c2}")
        return math.ceil(min(c2, self.max_channels) * self.width / 8) * 8


@dataclass(frozen=True)
class Spec:
    """One registered module, as `register` was told of it."""

    cls: "type[nn.Module]"
    rule: Rule
    inputs: int | None
    repeats: Repeats
    legacy: bool
    head: bool
    levels: bool


def scaled(c1: Any, scale: Scale, c2: int, *args: Any) -> tuple[list[Any], int]:
    """Rule: the row's first argument is c2, scaled by the model's width; the class takes (c1, c2, ...)."""
    c2 = scale.channels(c2)
    return [c1, c2, *args], c2


def same(c1: Any, scale: Scale, *args: Any) -> tuple[list[Any], Any]:
    """Rule: as many output channels as input channels; the class takes (c1, ...)."""
    return [c1, *args], c1


_specs: dict[str, Spec] = {}


def registered() -> dict[str, Spec]:
    """Return the modules that are registered so far; `discovery.specs` finds the others first."""
    return _specs


@overload
def register(
    cls: Class,
    *,
    name: str | None = ...,
    rule: Rule = ...,
    inputs: int | None = ...,
    repeats: Repeats = ...,
    legacy: bool = ...,
    head: bool = ...,
    levels: bool = ...,
) -> Class: ...


@overload
def register(
    cls: None = ...,
    *,
    name: str | None = ...,
    rule: Rule = ...,
    inputs: int | None = ...,
    repeats: Repeats = ...,
    legacy: bool = ...,
    head: bool = ...,
    levels: bool = ...,
) -> Callable[[Class], Class]: ...


def register(
    cls: Any = None,
    *,
    name: str | None = None,
    rule: Rule = scaled,
    inputs: int | None = 1,
    repeats: Repeats = "stack",
    legacy: bool = True,
    head: bool = False,
    levels: bool = False,
) -> Any:
    """Make a module class available in model YAMLs under its own name, or under `name`.

    Args:
        cls: The `nn.Module` subclass; omitted when used as a decorator with options.
        name: The name in YAML rows.
        rule: How a row's arguments become the constructor's, see the top of this file.
        inputs: How many inputs a row has to name; None for a list of any length. Except for 1, c1 is a list.
        repeats: "stack" builds the module `repeats` times in sequence, "argument" passes the number (scaled by the
            model's depth) as the constructor's third argument like C2f, "once" refuses any other number than 1.
        legacy: Whether Ultralytics' heads stay YOLOv8's in a model with this module; False gives it YOLO11's lighter
            ones, as C3k2 does.
        head: Whether it may be a model's last row although it is not a subclass of one of Ultralytics' heads.
        levels: Whether its input may be a `TimmBackbone`'s output, several levels at once.

    Raises:
        ConfigError: What is registered is not an `nn.Module` class, or one that checkpoints cannot name because it is
            defined in `__main__` or in a function; its name belongs to Ultralytics or to another
            registered class already, or an option is unknown.
    """
    if cls is None:
        return lambda cls: register(
            cls, name=name, rule=rule, inputs=inputs, repeats=repeats, legacy=legacy, head=head, levels=levels
        )
    from torch import nn

    if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
        raise ConfigError(f"register: found {shown(cls)}; needed a subclass of torch.nn.Module")
    name = name or cls.__name__
    if not callable(rule):
        raise ConfigError(f"register, {name}: rule has to be callable, found {rule!r}")
    if inputs is not None and (isinstance(inputs, bool) or not isinstance(inputs, int) or inputs < 1):
        raise ConfigError(f"register, {name}: inputs has to be None or a whole number from 1, found {inputs!r}")
    if repeats not in typing.get_args(Repeats):
        raise ConfigError(f'register, {name}: repeats has to be "stack", "argument" or "once", found {repeats!r}')
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"register: name has to be one word of letters, digits and _, found {shown(name)}")
    _check_importable(cls)
    if name in _specs and _path(_specs[name].cls) != _path(cls):
        raise ConfigError(f"{name} is registered already, by {_path(_specs[name].cls)}; choose another name")
    if name in vars(importlib.import_module("ultralytics.nn.tasks")) or hasattr(builtins, name):
        raise ConfigError(f"{name} is a name of Ultralytics' own or of Python's; choose another name for {_path(cls)}")
    _specs[name] = Spec(cls, rule, inputs, repeats, legacy, head, levels)
    return cls


def _check_importable(cls: type) -> None:
    """Refuse a class that a checkpoint could not name: loading one imports its module and looks the class up there.

    Raises:
        ConfigError: It is such.
    """
    if cls.__module__ == "__main__":
        where = "is defined in the script that was started (or in a notebook)"
    elif "<locals>" in cls.__qualname__:
        where = "is defined in a function"
    else:
        return
    raise ConfigError(
        f"register, {cls.__qualname__}: {where}, where no checkpoint can find it; "
        "move it to the top level of a module and import that"
    )


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def arguments(name: str, spec: Spec, args: Sequence[Any], c1: Any, scale: Scale) -> tuple[list[Any], Any]:
    """Turn a row's arguments into the constructor's.

    Args:
        name: The module's name in YAML rows.
        spec: What it is registered as.
        args: The row's arguments.
        c1: The channels of its input, a list of them for several inputs.
        scale: The model's scale.

    Returns:
        (list, int): The constructor's arguments, the number of output channels (of a `TimmBackbone`, `Levels`).

    Raises:
        ConfigError: Their number or type is wrong, or the rule refuses them.
    """
    check_arguments(name, spec, args)
    if not spec.levels and not all(isinstance(c, int) for c in (c1 if isinstance(c1, list) else [c1])):
        raise ConfigError(SEVERAL_LEVELS)
    values, c2 = spec.rule(c1, scale, *args)
    call = [*values[:2], 1, *values[2:]] if spec.repeats == "argument" else values
    constructor = inspect.signature(spec.cls)
    try:
        bound = constructor.bind(*call)
    except TypeError as error:
        raise ConfigError(f"{error}; {_usage(name, spec)}") from None
    _check_types(name, spec, bound.arguments, _hints(spec.cls.__init__))
    return values, c2


def check_arguments(name: str, spec: Spec, args: Sequence[Any]) -> None:
    """Check what can be known of a row's arguments without the rows before it: their number and types."""
    rule = inspect.signature(spec.rule)
    try:
        bound = rule.bind(None, None, *args)
    except TypeError:
        raise ConfigError(f"found {len(args)} argument(s) {shown(args)}; {_usage(name, spec)}") from None
    _check_types(name, spec, bound.arguments, _hints(spec.rule))


def _parameters(spec: Spec) -> list[inspect.Parameter]:
    """The parameters that a YAML row fills, in order."""
    own = list(inspect.signature(spec.rule).parameters.values())[2:]
    if own and own[-1].kind is inspect.Parameter.VAR_POSITIONAL:  # the rule passes on what the class takes
        own = list(inspect.signature(spec.cls).parameters.values())[1:]
        own = [p for i, p in enumerate(own) if not (spec.repeats == "argument" and i == 1)]
    return own


def _usage(name: str, spec: Spec) -> str:
    row = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in _parameters(spec))
    return f"{name} takes [{row}]"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations of a user's class that cannot be evaluated are no reason to refuse it
        return {}


def _check_types(name: str, spec: Spec, values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    row = {p.name for p in _parameters(spec)}
    for key, value in values.items():
        if key in row and key in hints and not _fits(value, hints[key]):
            raise ConfigError(f"{key} has to be {_wanted(hints[key])}, found {shown(value)}; {_usage(name, spec)}")


def _wanted(hint: Any) -> str:
    """Write a type annotation for a message."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *extras = typing.get_args(hint)
        return ", ".join([_wanted(base), *(each.text for each in extras if isinstance(each, Range))])
    if isinstance(hint, types.GenericAlias | types.UnionType):
        return str(hint)
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value out of a YAML fits a type annotation; annotations that are not plain data fit anything."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        extents = [each for each in inner[1:] if isinstance(each, Range)]
        return _fits(value, inner[0]) and all(extent.holds(value) for extent in extents)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is typing.Literal:
        return value in inner
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, list, tuple, dict, type(None)):
        return isinstance(value, (list, tuple) if hint in (list, tuple) else hint)
    return True
