"""Checks of a model dictionary's keys and numbers, and its scale."""

import ast
import math
from collections.abc import Mapping
from typing import Any, Literal

from yolo_lite import limits
from yolo_lite.errors import ConfigError, one_line, shown, suggest
from yolo_lite.registry import Scale
from yolo_lite.ultralytics_hooks.reading import OUR_KEYS, begins_like_ours, meant

SECTIONS: tuple[Literal["backbone", "head"], ...] = ("backbone", "head")


def check_keys(d: Mapping[str, Any], file: bool) -> None:
    """Check which keys are present, and all values except the rows.

    Args:
        d: Model dictionary.
        file: Whether the dictionary was just read from a file.

    Raises:
        ConfigError: If a key is missing or misspelt, or a value is invalid.
    """
    for key in ("nc", "backbone", "head"):
        if key not in d:
            raise ConfigError(f"the key {key!r} is missing; found {one_line(', '.join(map(str, d)))}")
    for key in d:
        right = meant(key)
        if right is not None:
            raise ConfigError(f"unknown key {shown(key)}; did you mean {right!r}?")
        if begins_like_ours(key) and key not in OUR_KEYS:
            raise ConfigError(f"unknown key {shown(key)}; choose from {', '.join(sorted(OUR_KEYS))}")
    check_number("nc", d["nc"], whole=True, most=limits.CLASSES)
    if "ch" in d:
        check_number("ch", d["ch"], whole=True, most=limits.IMAGE_CHANNELS)
    for section in SECTIONS:
        if not isinstance(d[section], list) or not d[section]:
            raise ConfigError(f"{section} has to be a list of rows, found {shown(d[section])}")
    count = sum(len(d[section]) for section in SECTIONS)
    if count > limits.ROWS:
        raise ConfigError(f"backbone and head may have {limits.ROWS} rows, found {count}")
    if "reg_max" in d:
        check_number("reg_max", d["reg_max"], whole=True, most=limits.REG_MAX)
    for key in ("end2end", "transfer"):
        if not isinstance(d.get(key), bool | None):
            raise ConfigError(f"{key} has to be true or false, found {shown(d[key])}")
    _check_activation(d.get("activation"))
    if d.get("backbone_weights") is not None:
        from yolo_lite.ultralytics_hooks.weights_key import check_setting

        check_setting(d["backbone_weights"], record=not file)


def scaling(d: Mapping[str, Any]) -> Scale:
    """Return the `Scale` of a model dictionary.

    Raises:
        ConfigError: If the letter is not in the table, or a number is not finite, not above 0 or too large.
    """
    letter, depth, width, max_channels = _compound(d)
    alpha = d.get("backbone_width", 1.0)
    if isinstance(alpha, dict):
        if letter not in alpha:
            raise ConfigError(
                f"backbone_width lacks the scale {letter!r}, it has {one_line(', '.join(map(str, alpha)))}"
            )
        alpha = alpha[letter]
    check_number("backbone_width", alpha, most=limits.BACKBONE_WIDTH)
    edge = d.get("backbone_edge", False)
    if not isinstance(edge, bool):
        raise ConfigError(f"backbone_edge has to be true or false, found {shown(edge)}")
    return Scale(letter, depth, width, max_channels, alpha, edge, d.get("reg_max", 16), d.get("end2end"))


def _compound(d: Mapping[str, Any]) -> tuple[str, float, float, float]:
    """Return the scale letter, and the depth, width and maximum channels of neck and head."""
    scales, letter = d.get("scales"), d.get("scale") or ""
    depth, width, max_channels = d.get("depth_multiple", 1.0), d.get("width_multiple", 1.0), math.inf
    if scales is not None:
        if not isinstance(scales, dict) or not scales:
            raise ConfigError(f"scales has to map letters to [depth, width, max_channels], found {shown(scales)}")
        letter = letter or next(iter(scales))
        if not isinstance(letter, str | int) or letter not in scales:
            raise ConfigError(
                f"the name asks for scale {shown(letter)}, scales has {one_line(', '.join(map(str, scales)))}"
            )
        if not isinstance(scales[letter], list) or len(scales[letter]) != 3:
            raise ConfigError(f"scales, {letter}: needs [depth, width, max_channels], found {shown(scales[letter])}")
        depth, width, max_channels = scales[letter]
        check_number(f"scales, {letter}: max_channels", max_channels)
    check_number("depth", depth, most=limits.DEPTH)
    check_number("width", width, most=limits.WIDTH)
    return letter, depth, width, max_channels


def check_number(name: str, value: object, whole: bool = False, most: float = math.inf) -> None:
    """Reject a value that is not a finite number above 0.

    Args:
        name: Name of the value in messages.
        value: Value to check.
        whole: Whether the value has to be a whole number.
        most: Largest allowed value.

    Raises:
        ConfigError: If the value is not such a number, or is above `most`.
    """
    wanted = "a whole number above 0" if whole else "a finite number above 0"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name} has to be {wanted}, found {shown(value)}")
    if value > most:
        raise ConfigError(f"{name} has to be at most {most}, found {value}")


def _check_activation(text: Any) -> None:
    """Check the activation, which Ultralytics evaluates: only its documented form passes, nn.X(literal arguments)."""
    if text is None:
        return
    name, values, named = _activation_call(text)
    import torch

    from yolo_lite.meta import Bounded, without_memory

    cls = getattr(torch.nn, name, None)
    if not isinstance(cls, type) or not issubclass(cls, torch.nn.Module):
        raise ConfigError(f"activation: torch.nn has no {shown(name)}{suggest(name, dir(torch.nn))}")
    shape = (2, 16, 8, 8)

    def run() -> Any:
        with Bounded():
            return cls(*values, **named)(torch.zeros(shape))

    try:
        without_memory(run)  # whether it is small enough
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            result = run()  # the meta device does not check everything
    except Exception as error:
        raise ConfigError(f"activation {shown(text)} cannot be used: {one_line(error)}") from None
    if getattr(result, "shape", None) != shape:
        raise ConfigError(f"activation has to keep a map's shape, {shown(text)} does not")


def _activation_call(text: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """Return the name of the torch.nn class in a string like nn.ReLU(), and its arguments."""
    try:
        if len(text) > limits.ACTIVATION:
            raise ValueError
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError
        *path, name = ast.unparse(call.func).split(".")
        values = [ast.literal_eval(each) for each in call.args]
        named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
        if path not in (["nn"], ["torch", "nn"]):
            raise ValueError
    except (AttributeError, SyntaxError, TypeError, ValueError, RecursionError, MemoryError):  # the last two: too deep
        raise ConfigError(f"activation has to be like nn.ReLU(), found {shown(text)}") from None
    return name, values, named
