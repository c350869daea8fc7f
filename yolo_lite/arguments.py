"""Parse command lines, YAML files and dictionaries into the option values of a command.

The error message for an invalid value is the same for every source.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_lite.errors import ConfigError, UsageError, one_line, suggest
from yolo_lite.options import COMMANDS, REQUIRED


def split(command: str, words: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Split command-line words into key=value pairs and positional words.

    Raises:
        UsageError: A key is given twice.
    """
    keys: dict[str, str] = {}
    others: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            others.append(word)
        elif key in keys:
            raise UsageError(f"{command} has {key}= twice; remove one; {_more(command)}")
        else:
            keys[key] = value
    return keys, others


def parse(command: str, words: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Parse command-line words into option values by name and a list of positional words.

    Raises:
        UsageError: A key is given twice or unknown, or there are too many or too few positional words.
        ConfigError: A word is not a valid value of its option.
    """
    keys, others = split(command, words)
    least, most = COMMANDS[command].words
    if not least <= len(others) <= most:
        found = " ".join(others) or "none"
        wanted = COMMANDS[command].usage or "no arguments"
        raise UsageError(f"{command} expects {wanted}, found {found}; {_more(command)}")
    return read(command, keys), others


def settings(command: str, words: Iterable[str]) -> dict[str, Any]:
    """Return the settings of a command line; its key=value pairs override those of a YAML file, if one is given.

    Raises:
        UsageError: As in `parse`, or a positional word is not a YAML file name.
        ConfigError: As in `parse`, or the file cannot be read.
    """
    values, files = parse(command, words)
    for file in files:
        if not file.endswith((".yaml", ".yml")):
            raise UsageError(
                f"{command} expects key=value or a YAML file of settings, found {file!r}; {_more(command)}"
            )
        values = {**given(command, file), **values}
    return values


def _more(command: str) -> str:
    return f"see yolo-lite {command} --help"


def read(command: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Convert key=value pairs of a command line into option values.

    Raises:
        UsageError: An option is unknown.
        ConfigError: A word is not a valid value of its option.
    """
    options = {option.name: option for option in COMMANDS[command].options}
    values = {}
    for key, word in keys.items():
        if key not in options:
            raise UsageError(f"{command} has no {key}={suggest(key, options)}; {_more(command)}")
        option = options[key]
        nothing = word.lower() in ("none", "null") and option.default is None
        try:
            values[key] = None if nothing else option.kind.read(word)
        except (KeyError, ValueError):
            raise option.kind.refusal(key, word, option.example) from None
    return values


def given(command: str, settings: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of a YAML file or a dictionary without checking them; None gives an empty dictionary.

    Raises:
        ConfigError: The file cannot be read, or does not contain a mapping.
    """
    if not isinstance(settings, str | Path):
        return dict(settings or {})
    import yaml

    path = settings
    try:
        found = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected settings of yolo-lite {command}, key: value, found {type(found).__name__}")
    return {str(key): value for key, value in found.items()}


def checked(command: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all options of a command, with defaults where nothing (or None) is given.

    Raises:
        UsageError: A required option is missing.
        ConfigError: An option is unknown or has an invalid value.
    """
    options = {option.name: option for option in COMMANDS[command].options}
    for key in settings:
        if key not in options:
            raise ConfigError(f"{command} has no {key}={suggest(key, options)}")
    values = {}
    for name, option in options.items():
        value = settings.get(name)
        if value is None and option.default is REQUIRED:
            raise UsageError(f"{command} needs {name}=, {option.help}; for example {name}={option.example}")
        if value is None or (value == "" and option.default == ""):
            value = option.default
        values[name] = value if value in (None, "") else option.kind.check(name, value, option.example)
    return values
