"""Registry of module classes by YAML name, with rules that map a row's arguments to constructor arguments.

`register` is public. A *rule* converts the arguments of one YAML row into the constructor's arguments and the number of
output channels, like Ultralytics' own parser does for its modules:

    rule(c1, scale, *row arguments) -> (constructor arguments, c2)

where c1 is the number of input channels (a list for a module with several inputs) and `scale` is the model's `Scale`.
Most modules need one of the two rules `scaled` and `same`.
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

LOSSES = {  # keys of model YAMLs -> valid values, see losses.py
    "class_loss": ("varifocal", "varifocal-aligned"),
    "box_loss": ("siou",),
}

SEVERAL_LEVELS = "a TimmBackbone outputs several levels; put a Level row in between"

Rule: TypeAlias = Callable[..., tuple[list[Any], Any]]  # (c1, scale, *row arguments) -> (constructor arguments, c2)
Repeats: TypeAlias = Literal["stack", "argument", "once"]
Class = TypeVar("Class", bound="type[nn.Module]")


class Range(NamedTuple):
    """Constraint on an argument's value, given after the type in `typing.Annotated`."""

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
    """Model properties available to rules: scale letter, multipliers of that scale, and arguments of the head."""

    letter: str = ""
    depth: float = 1.0
    width: float = 1.0
    max_channels: float = math.inf
    backbone_width: float = 1.0  # alpha, the MobileNet width multiplier
    backbone_edge: bool = False  # ReLU6 for h-swish and SiLU, no squeeze-excite
    reg_max: int = 16
    end2end: bool | None = None

    def channels(self, c2: int) -> int:
        """Scale the channel count of a neck or head module exactly as Ultralytics does for its own modules.

        Raises:
            ConfigError: The channel count is below 1 or above `limits.CHANNELS`.
        """
        if not 1 <= c2 <= limits.CHANNELS:
            raise ConfigError(f"needs 1 to {limits.CHANNELS} output channels, found {c2}")
        return math.ceil(min(c2, self.max_channels) * self.width / 8) * 8


@dataclass(frozen=True)
class Spec:
    """Registered module with the arguments of `register`."""

    cls: "type[nn.Module]"
    rule: Rule
    inputs: int | None
    repeats: Repeats
    legacy: bool
    head: bool
    levels: bool


def scaled(c1: Any, scale: Scale, c2: int, *args: Any) -> tuple[list[Any], int]:
    """Rule for classes that take (c1, c2, ...): the row's first argument is c2, scaled by the model's width."""
    c2 = scale.channels(c2)
    return [c1, c2, *args], c2


def same(c1: Any, scale: Scale, *args: Any) -> tuple[list[Any], Any]:
    """Rule for classes that take (c1, ...) and have as many output channels as input channels."""
    return [c1, *args], c1


_specs: dict[str, Spec] = {}


def registered() -> dict[str, Spec]:
    """Return the modules registered so far; `discovery.specs` imports the remaining ones first."""
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
        name: Name in YAML rows; None for the class name.
        rule: Function that maps a row's arguments to the constructor's, see the module docstring.
        inputs: Number of inputs that a row has to list; None for any number. c1 is a list unless this is 1.
        repeats: "stack" builds the module `repeats` times in sequence, "argument" passes the number (scaled by the
            model's depth) as the constructor's third argument like C2f, "once" refuses any number other than 1.
        legacy: Whether a model with this module keeps the YOLOv8 form of Ultralytics' heads; False selects YOLO11's
            lighter heads, as C3k2 does.
        head: Whether the module may be a model's last row although it is not a subclass of an Ultralytics head.
        levels: Whether the input may be the output of a `TimmBackbone`, which has several levels.

    Raises:
        ConfigError: The class is not an `nn.Module` subclass, or checkpoints cannot reference it because it is defined
            in `__main__` or in a function; the name is used by Ultralytics, Python or another registered class; or an
            option is invalid.
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
    """Refuse a class that a checkpoint cannot reference: loading imports the class by module and qualified name.

    Raises:
        ConfigError: The class is defined in `__main__` or in a function.
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
    """Convert a row's arguments into the constructor's arguments.

    Args:
        name: Name of the module in YAML rows.
        spec: Registration of the module.
        args: Arguments of the row.
        c1: Input channels, a list for several inputs.
        scale: Scale of the model.

    Returns:
        (list, int): Constructor arguments, number of output channels (`Levels` for a `TimmBackbone`).

    Raises:
        ConfigError: The number or type of the arguments is wrong, the rule refuses them, or the input has several
            levels, which the module does not support.
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
    """Check the number and types of a row's arguments, which does not require the preceding rows."""
    rule = inspect.signature(spec.rule)
    try:
        bound = rule.bind(None, None, *args)
    except TypeError:
        raise ConfigError(f"found {len(args)} argument(s) {shown(args)}; {_usage(name, spec)}") from None
    _check_types(name, spec, bound.arguments, _hints(spec.rule))


def _parameters(spec: Spec) -> list[inspect.Parameter]:
    """Return the parameters that a YAML row sets, in order."""
    own = list(inspect.signature(spec.rule).parameters.values())[2:]
    if own and own[-1].kind is inspect.Parameter.VAR_POSITIONAL:  # the rule passes them on to the class
        own = list(inspect.signature(spec.cls).parameters.values())[1:]
        own = [p for i, p in enumerate(own) if not (spec.repeats == "argument" and i == 1)]
    return own


def _usage(name: str, spec: Spec) -> str:
    row = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in _parameters(spec))
    return f"{name} takes [{row}]"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # a user's class is valid even if its annotations cannot be evaluated
        return {}


def _check_types(name: str, spec: Spec, values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    row = {p.name for p in _parameters(spec)}
    for key, value in values.items():
        if key in row and key in hints and not _fits(value, hints[key]):
            raise ConfigError(f"{key} has to be {_wanted(hints[key])}, found {shown(value)}; {_usage(name, spec)}")


def _wanted(hint: Any) -> str:
    """Return a type annotation as text for a message."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *extras = typing.get_args(hint)
        return ", ".join([_wanted(base), *(each.text for each in extras if isinstance(each, Range))])
    if isinstance(hint, types.GenericAlias | types.UnionType):
        return str(hint)
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a YAML value matches a type annotation; any value matches annotations other than plain data."""
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
