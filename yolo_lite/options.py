"""Every option of every command, once.

The command line, settings in Python and in YAML files, `yolo-lite COMMAND --help` and the pages' tables are made from
`COMMANDS`; an option that is not here does not exist. What a value has to be is its `Kind`, and the sentence that
refuses another one is the same wherever it comes from.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yolo_lite.errors import ConfigError, suggest


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes:
        wanted: What it has to be, for the sentence that refuses another one.
        read: Turns a word of the command line into a value; ValueError or KeyError where it is none.
        holds: Tells whether a value is one.
        nearest: Names the nearest valid value, "" where there is none to name.
    """

    wanted: str
    read: Callable[[str], Any]
    holds: Callable[[Any], bool]
    nearest: Callable[[Any], str] = lambda value: ""

    def check(self, name: str, value: Any) -> Any:
        """Return a value that is of this kind.

        Raises:
            ConfigError: It is not.
        """
        if not self.holds(value):
            near = self.nearest(value)
            text = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]}..."
            raise ConfigError(f"{name} has to be {self.wanted}, found {text}{f'; {near}' if near else ''}")
        return value


def _is_number(value: Any, whole: bool = False) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def whole(least: int = 1, multiple: int = 1, most: float = math.inf) -> Kind:
    """Whole numbers from `least` to `most`, multiples of `multiple`."""
    text = "a whole number above 0" if least == 1 else f"a whole number from {least}"
    text += "" if most == math.inf else f" to {most:g}"
    text = text if multiple == 1 else f"a multiple of {multiple}"

    def holds(value: Any) -> bool:
        return _is_number(value, whole=True) and least <= value <= most and value % multiple == 0

    def nearest(value: Any) -> str:
        fits = multiple > 1 and _is_number(value) and math.isfinite(value)
        return f"near it is {max(round(value / multiple), 1) * multiple}" if fits else ""

    return Kind(text, int, holds, nearest)


def number(most: float = math.inf, least: float | None = None) -> Kind:
    """Finite numbers above 0, or from `least` on, up to `most`."""
    text = "a finite number above 0" if least is None else f"a finite number from {least:g}"
    text += "" if most == math.inf else f" and at most {most:g}"

    def holds(value: Any) -> bool:
        low = _is_number(value) and (value > 0 if least is None else value >= least)
        return low and math.isfinite(value) and value <= most

    return Kind(text, lambda word: float(word) if "." in word or "e" in word.lower() else int(word), holds)


def one_of(*choices: str) -> Kind:
    """One of some words."""
    return Kind(
        f"one of {', '.join(choices)}",
        str,
        lambda value: value in choices,
        lambda value: suggest(value, choices).removeprefix("; ") if isinstance(value, str) else "",
    )


def listed(kind: Kind, text: str) -> Kind:
    """A list of values of a kind; on the command line with commas between."""

    def read(word: str) -> list[Any]:
        return [kind.read(part.strip()) for part in word.split(",") if part.strip()]

    def holds(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) > 0 and all(map(kind.holds, value))

    return Kind(text, read, holds)


FLAG = Kind("True or False", lambda word: {"true": True, "false": False}[word.lower()], lambda v: isinstance(v, bool))
TEXT = Kind("a text", str, lambda value: isinstance(value, str) and value != "")
WORDS = listed(TEXT, "names with commas between")
IMGSZ = whole(least=32, multiple=32)  # pixels: five strides of 2
SECONDS = number()


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        name: As in `name=value`.
        kind: What its value has to be; None is a value of every option whose default it is.
        default: Its value where it is not given; `REQUIRED` where it has to be.
        help: One line.
        example: A value that could stand there, as it is written on the command line.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    example: str


REQUIRED: Any = object()


@dataclass(frozen=True)
class Command:
    """One command: what it does, what may stand behind it.

    Attributes:
        summary: One line.
        usage: What stands behind `yolo-lite NAME`.
        example: A command that works.
        options: The options in the order of their importance.
        trains: Whether it takes every training argument of Ultralytics, too.
    """

    summary: str
    usage: str
    example: str
    options: tuple[Option, ...] = ()
    trains: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """The options' defaults by name, without those that have to be given."""
        return {option.name: option.default for option in self.options if option.default is not REQUIRED}


COMMANDS: dict[str, Command] = {}


def split(command: str, words: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Part the words of a command line into key=value and the others.

    Raises:
        ConfigError: A key is given twice.
    """
    keys: dict[str, str] = {}
    others: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            others.append(word)
        elif key in keys:
            raise ConfigError(f"yolo-lite {command} has {key}= twice; leave one out")
        else:
            keys[key] = value
    return keys, others


def read(command: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Turn the words of a command line into values.

    Raises:
        ConfigError: There is no such option, or a word is no value of it.
    """
    options = {option.name: option for option in COMMANDS[command].options}
    values = {}
    for key, word in keys.items():
        if key not in options:
            raise ConfigError(
                f"yolo-lite {command} has no {key}={suggest(key, options)}; see yolo-lite {command} --help"
            )
        option = options[key]
        try:
            values[key] = (
                None if word.lower() in ("none", "null") and option.default is None else option.kind.read(word)
            )
        except (KeyError, ValueError):
            raise ConfigError(
                f"{key} has to be {option.kind.wanted}, found {word!r}; like {key}={option.example}"
            ) from None
    return values


def checked(command: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a command with their values, defaults where nothing is given.

    Raises:
        ConfigError: One is missing, unknown, or has a value that it cannot have.
    """
    options = {option.name: option for option in COMMANDS[command].options}
    for key in settings:
        if key not in options:
            raise ConfigError(f"{command} has no {key}={suggest(key, options)}")
    values = {}
    for name, option in options.items():
        value = settings.get(name, option.default)
        if value is REQUIRED:
            raise ConfigError(f"{command} needs {name}=, {option.help}; like {name}={option.example}")
        values[name] = value if value is None and option.default is None else option.kind.check(name, value)
    return values


def help_of(name: str) -> str:
    """Return the help page of a command."""
    command = COMMANDS[name]
    lines = [f"yolo-lite {name} {command.usage}".rstrip(), "", command.summary, ""]
    width = max((len(f"{each.name}={each.example}") for each in command.options), default=0)
    for option in command.options:
        default = "required" if option.default is REQUIRED else f"default {option.default}"
        lines.append(f"  {f'{option.name}={option.example}'.ljust(width)}  {option.help} ({default})")
    if command.trains:
        lines += ["", "Every training argument of Ultralytics is passed on: epochs=, imgsz=, batch=, ..."]
    return "\n".join([*lines, "", f"Example: {command.example}", ""])


def table_of(name: str) -> list[str]:
    """Return a command's options as the lines of a Markdown table, for the pages."""
    rows = ["| option | default | what it is |", "|---|---|---|"]
    for option in COMMANDS[name].options:
        default = "required" if option.default is REQUIRED else f"`{option.default}`"
        rows.append(f"| `{option.name}={option.example}` | {default} | {option.help}; {option.kind.wanted} |")
    return rows
