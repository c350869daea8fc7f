"""Types of option values: how command-line words are parsed, which values are valid, and the error messages."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from yolo_lite.errors import ConfigError, suggest

LONGEST = 200  # maximum number of characters quoted from an invalid value


def _as_it_is(value: Any) -> Any:
    return value


def _nothing(value: Any) -> str:
    return ""


@dataclass(frozen=True)
class Kind:
    """Type of an option's value.

    Attributes:
        wanted: Description of valid values for the error message.
        read: Function that parses a command-line word; raises ValueError or KeyError if the word is invalid.
        holds: Function that returns whether a value is valid.
        nearest: Function that returns a hint for an invalid value, "" for no hint.
        form: Function that normalises a value from Python or a YAML file; raises ValueError or KeyError if it cannot.
        choices: All valid values, if they can be enumerated.
    """

    wanted: str
    read: Callable[[str], Any]
    holds: Callable[[Any], bool]
    nearest: Callable[[Any], str] = _nothing
    form: Callable[[Any], Any] = _as_it_is
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any, example: str = "") -> Any:
        """Return the normalised value.

        Raises:
            ConfigError: The value is invalid.
        """
        try:
            formed = self.form(value)
        except (KeyError, ValueError):
            raise self.refusal(name, value, example) from None
        if not self.holds(formed):
            raise self.refusal(name, value, example)
        return formed

    def refusal(self, name: str, value: Any, example: str = "") -> ConfigError:
        """Return the error for an invalid value."""
        text = repr(value) if len(repr(value)) <= LONGEST else f"{repr(value)[:LONGEST]}..."
        near = self.nearest(value) or (f"for example {name}={example}" if example and not self.choices else "")
        return ConfigError(f"{name} has to be {self.wanted}, found {text}{f'; {near}' if near else ''}")


def _is_number(value: Any, whole: bool = False) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def whole(least: int = 1, multiple: int = 1, most: float = math.inf) -> Kind:
    """Return the kind of whole numbers from `least` to `most` that are multiples of `multiple`."""
    text = "a whole number above 0" if least == 1 else f"a whole number from {least}"
    text += "" if most == math.inf else f" to {most}"
    text = text if multiple == 1 else f"a multiple of {multiple}"

    def holds(value: Any) -> bool:
        return _is_number(value, whole=True) and least <= value <= most and value % multiple == 0

    def nearest(value: Any) -> str:
        fits = multiple > 1 and _is_number(value) and math.isfinite(value)
        return f"the nearest is {max(round(value / multiple), 1) * multiple}" if fits else ""

    return Kind(text, int, holds, nearest)


def number(most: float = math.inf, least: float | None = None) -> Kind:
    """Return the kind of finite numbers above 0, or at least `least`, and at most `most`."""
    text = "a finite number above 0" if least is None else f"a finite number from {least:g}"
    text += "" if most == math.inf else f" and at most {most:g}"

    def read(word: str) -> float:
        return float(word) if "." in word or "e" in word.lower() else int(word)

    def holds(value: Any) -> bool:
        low = _is_number(value) and (value > 0 if least is None else value >= least)
        return low and math.isfinite(value) and value <= most

    return Kind(text, read, holds)


def measured(unit: str) -> Kind:
    """Return the kind of finite numbers above 0 that may be followed by their unit."""
    plain = number()

    def read(word: str) -> Any:
        return plain.read(word.strip().removesuffix(unit))

    def form(value: Any) -> Any:
        return read(value) if isinstance(value, str) else value

    return Kind(f"{plain.wanted}, in {unit}", read, plain.holds, form=form)


def one_of(*choices: str, meant: Mapping[str, str] | None = None) -> Kind:
    """Return the kind of words from a fixed set.

    Args:
        choices: Valid words.
        meant: Mapping from invalid words to the choice to suggest; "" for words that should get no suggestion.
    """

    def holds(value: Any) -> bool:
        return isinstance(value, str) and value in choices

    def nearest(value: Any) -> str:
        near = suggest((meant or {}).get(str(value).lower(), value), choices)
        return near.removeprefix("; ") if "did you mean" in near else ""

    return Kind(f"one of {', '.join(choices)}", str, holds, nearest, choices=choices)


def listed(kind: Kind, unique: bool = False) -> Kind:
    """Return the kind of lists, given as a list, a single value or comma-separated text, and normalised to a list.

    Args:
        kind: Kind of the items.
        unique: Whether repeated items are invalid.
    """

    def read(word: str) -> list[Any]:
        return [kind.read(part.strip()) for part in word.split(",") if part.strip()]

    def form(value: Any) -> list[Any]:
        if isinstance(value, str):
            return read(value)
        return [kind.form(each) for each in value] if isinstance(value, list | tuple) else [kind.form(value)]

    def repeated(values: list[Any]) -> list[Any]:
        return [value for value in values if values.count(value) > 1] if unique else []

    def holds(value: Any) -> bool:
        return isinstance(value, list) and value != [] and all(map(kind.holds, value)) and not repeated(value)

    def nearest(value: Any) -> str:
        try:
            twice = repeated(form(value))
        except (KeyError, ValueError):
            return ""
        return f"{twice[0]} is repeated" if twice else ""

    one = kind.wanted.removeprefix("a ")
    several = one.replace("number", "numbers", 1) if "number" in one else f"{one}s"
    return Kind(f"comma-separated {several}", read, holds, nearest, form)


def keyed(kind: Kind, each: str) -> Kind:
    """Return the kind of single values or mappings from names to values, name:value,... on the command line.

    Args:
        kind: Kind of the values.
        each: What the names refer to, for the error message, like "for each scale".
    """

    def read(word: str) -> Any:
        if ":" not in word:
            return kind.read(word)
        pairs = [pair.partition(":") for pair in word.strip("{}").split(",")]
        return {name.strip(): kind.read(value.strip()) for name, _, value in pairs}

    def form(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(name): kind.form(one) for name, one in value.items()}
        return kind.form(value)

    def holds(value: Any) -> bool:
        return (value != {} and all(map(kind.holds, value.values()))) if isinstance(value, dict) else kind.holds(value)

    def nearest(value: Any) -> str:
        several = value.values() if isinstance(value, dict) else [value]
        return next(filter(None, map(kind.nearest, several)), "")

    return Kind(f"{kind.wanted}, or a value {each}", read, holds, nearest, form)


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _read_mapping(word: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(word)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and value != {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


FLAG = Kind("True or False", lambda word: {"true": True, "false": False}[word.lower()], lambda v: isinstance(v, bool))
TEXT = Kind("a text", str, _is_text, form=_text)
NAME = Kind("a name", str, _is_text, form=_text)
KEYS = Kind("a mapping of keys to values", _read_mapping, _is_mapping)
WEIGHTS = Kind(
    "imagenet, a path, or {file: path, mean: [...], std: [...]}",
    lambda word: _read_mapping(word) if word.startswith("{") else word,
    lambda value: _is_text(value) or _is_mapping(value),
    form=_text,
)
IMGSZ = whole(least=32, multiple=32)  # pixels; 32 is the product of five strides of 2
