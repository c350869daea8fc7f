"""Checks a model dictionary that names one of our modules, before anything is built from it.

What can be read off it is checked here, once a build; what comes out, `Checked`, is handed on. What needs the channels
and strides of the rows is found by `dry_run`, which builds the model without memory. Both raise `ConfigError` only.
"""

import ast
import contextlib
import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from yolo_lite import limits
from yolo_lite.discovery import specs
from yolo_lite.errors import ConfigError, one_line, shown, suggest
from yolo_lite.registry import LOSSES, Scale, Spec, check_arguments
from yolo_lite.ultralytics_hooks import internals
from yolo_lite.ultralytics_hooks.reading import OUR_KEYS, begins_like_ours, meant

NAMESPACES = {"nn.": "torch.nn", "torchvision.ops.": "torchvision.ops"}  # prefix of a name -> where it is looked for
SECTIONS: tuple[Literal["backbone", "head"], ...] = ("backbone", "head")


@dataclass(frozen=True)
class Row:
    """A row of a model dictionary."""

    index: int  # counts through backbone and head, as `from` does
    section: Literal["backbone", "head"]
    inputs: int | list[int]
    repeats: int
    module: str
    args: list[Any]  # with the values of the keys that it names
    spec: Spec | None  # None for a module of Ultralytics' own
    cls: type
    where: str


@dataclass(frozen=True)
class Checked:
    """A model dictionary of ours in which nothing was found that is known to fail."""

    where: str  # the file that it comes from
    scale: Scale
    rows: tuple[Row, ...]


def check(d: Mapping[str, Any], namespace: Mapping[str, Any], ch: int = 3, file: bool = False) -> Checked:
    """Check a model dictionary of ours.

    Args:
        d: The dictionary.
        namespace: The names that Ultralytics has for modules.
        ch: The image's channels.
        file: Whether it was just read from a file, which cannot have what only checkpoints record.

    Raises:
        ConfigError: Anything in it that can be known to fail without building it.
    """
    where = str(d.get("yaml_file") or "model dictionary")[: limits.TEXT]
    try:
        limits.check_data(dict(d))
        check_number("ch", ch, whole=True, most=limits.IMAGE_CHANNELS)
        _check_keys(d, file)
        scale = scaling(d)
    except ConfigError as error:
        raise error.at(where) from None
    sections = [(section, row) for section in SECTIONS for row in d[section]]
    rows = tuple(_row(d, index, *each, scale.depth, where, namespace) for index, each in enumerate(sections))
    _check_heads(rows, namespace)
    if scale.backbone_edge and not any(_is_native(row) for row in rows):
        raise ConfigError("backbone_edge: true changes our native backbones, and there is none in this model").at(where)
    try:
        _check_losses(d, rows, namespace)
    except ConfigError as error:
        raise error.at(where) from None
    return Checked(where, scale, rows)


# Keys -----------------------------------------------------------------------------------------------------------------


def _check_keys(d: Mapping[str, Any], file: bool) -> None:
    for key in ("nc", "backbone", "head"):
        if key not in d:
            raise ConfigError(f"the key {key!r} is missing; found {one_line(', '.join(map(str, d)))}")
    for key in d:
        right = meant(key)
        if right is not None:
            raise ConfigError(f"unknown key {shown(key)}; did you mean {right!r}?")
        if begins_like_ours(key) and key not in OUR_KEYS:
            raise ConfigError(f"unknown key {shown(key)}; there are {', '.join(sorted(OUR_KEYS))}")
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
    if not isinstance(d.get("end2end"), bool | None):
        raise ConfigError(f"end2end has to be true or false, found {shown(d['end2end'])}")
    _check_activation(d.get("activation"))
    if d.get("backbone_weights") is not None:
        from yolo_lite.ultralytics_hooks.weights_key import check_setting

        check_setting(d["backbone_weights"], record=not file)


def _check_losses(d: Mapping[str, Any], rows: Sequence[Row], namespace: Mapping[str, Any]) -> None:
    """Check the keys of losses, and whether the head has a loss that they could replace."""
    head = rows[-1].cls
    for key, known in LOSSES.items():
        value = d.get(key)
        if value is None:
            continue
        if value not in known:
            raise ConfigError(f"{key}: found {value!r}; needed null or {' or '.join(known)}{suggest(value, known)}")
        if not any(row.spec for row in rows):
            raise ConfigError(
                f"{key} is a key of yolo_lite's, for models with a module of ours; found none, needed one or no {key}"
            )
        if not issubclass(head, internals.classes(("Detect",), namespace)):
            raise ConfigError(f"{key}: found {value}; needed null, since {rows[-1].module} has losses of its own")
        if key == "box_loss" and issubclass(head, internals.classes(("OBB",), namespace)):
            raise ConfigError(
                f"{key}: found {value}, a loss of upright boxes; needed null for {rows[-1].module}'s rotated ones"
            )


def scaling(d: Mapping[str, Any]) -> Scale:
    """Return the `Scale` of a model dictionary.

    Raises:
        ConfigError: Its letter is not in the table, or a number in it is none, not finite or not above 0.
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
    """Return the scale letter, and depth, width and most channels of neck and head."""
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
    """Refuse what is no finite number above 0.

    Args:
        name: What to call it.
        value: The value.
        whole: Whether it has to be a whole number.
        most: The highest that it may be.

    Raises:
        ConfigError: It is none.
    """
    wanted = "a whole number above 0" if whole else "a finite number above 0"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name} has to be {wanted}, found {shown(value)}")
    if value > most:
        raise ConfigError(f"{name} has to be at most {most}, found {value}")


def _check_activation(text: Any) -> None:
    """Ultralytics evaluates this text; we let through what it documents: a torch.nn class with literal arguments."""
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
        without_memory(run)  # is it small enough
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            result = run()  # the meta device does not check everything
    except Exception as error:
        raise ConfigError(f"activation {shown(text)} cannot be used: {one_line(error)}") from None
    if getattr(result, "shape", None) != shape:
        raise ConfigError(f"activation has to keep a map's shape, {shown(text)} does not")


def _activation_call(text: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """Return the name of the torch.nn class that a text like nn.ReLU() calls, and its arguments."""
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


# Rows -----------------------------------------------------------------------------------------------------------------


def _row(
    d: Mapping[str, Any],
    index: int,
    section: Literal["backbone", "head"],
    value: Any,
    depth: float,
    source: str,
    namespace: Mapping[str, Any],
) -> Row:
    """Check a row by itself."""
    where = f"{source}, {section} row {index} {one_line(_flow(value))}"
    try:
        if not isinstance(value, list) or len(value) != 4:
            raise ConfigError("a row has to be [from, repeats, module, args]")
        inputs, repeats, module, args = value
        _check_from(inputs, index)
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise ConfigError(f"repeats has to be a whole number from 1, found {shown(repeats)}")
        if repeats > 1 and repeats * depth > limits.REPEATS:
            raise ConfigError(f"repeats times depth has to be at most {limits.REPEATS}, found {repeats} x {depth:g}")
        if not isinstance(module, str):
            raise ConfigError(f"module has to be a name, found {shown(module)}")
        if not isinstance(args, list):
            raise ConfigError(f"args has to be a list, found {shown(args)}")
        values = [d[each] if each in ("nc", "kpt_shape") and each in d else each for each in args]
        spec = specs().get(module)
        cls = spec.cls if spec is not None else module_class(module, namespace)
        row = Row(index, section, inputs, repeats, module, values, spec, cls, where)
        if row.spec is not None:
            _check_use(row, row.spec)
        else:
            _check_values(values)
        if issubclass(row.cls, internals.classes(("Pose",), namespace)):
            _check_keypoints(d.get("kpt_shape"), values)
    except ConfigError as error:
        raise error.at(where) from None
    return row


def _check_from(inputs: Any, index: int) -> None:
    for each in inputs if isinstance(inputs, list) else [inputs]:
        if isinstance(each, bool) or not isinstance(each, int):
            raise ConfigError(f"from has to be a row's number or a list of them, found {shown(inputs)}")
        earliest = -max(index, 1)
        if not earliest <= each < max(index, 0) or (index == 0 and each != -1):
            allowed = "-1, the image" if index == 0 else f"{earliest} to {index - 1}"
            raise ConfigError(f"from has to name an earlier row ({allowed}), found {each}")
    if inputs == []:
        raise ConfigError("from is an empty list")


def module_class(name: str, namespace: Mapping[str, Any]) -> type:
    """Return the class of a row's module by the name that Ultralytics finds it by: its own, nn.X or torchvision.ops.X.

    Ultralytics calls whatever has that name, functions that load files among it; a module is an `nn.Module` class that
    is no whole model.

    Args:
        name: What stands in the row.
        namespace: The names that Ultralytics has for modules.

    Raises:
        ConfigError: Nothing has that name, or it is no module of a model.
    """
    from torch import nn

    prefix = next((each for each in NAMESPACES if name.startswith(each)), "")
    names = vars(importlib.import_module(NAMESPACES[prefix])) if prefix else namespace
    whole = internals.classes(internals.WHOLE_MODELS, namespace)
    classes = {prefix + each: value for each, value in names.items() if isinstance(value, type)}
    modules = {each: cls for each, cls in classes.items() if issubclass(cls, nn.Module) and not issubclass(cls, whole)}
    if name in modules:
        return modules[name]
    near = suggest(name, sorted({*specs(), *modules}))
    found = names.get(name.removeprefix(prefix))
    if found is None:
        raise ConfigError(f"unknown module {shown(name)}{near}")
    kind = "a whole model" if isinstance(found, type) and issubclass(found, whole) else _kind(found)
    raise ConfigError(f"module has to be the name of an nn.Module class, {shown(name)} is {kind}{near}")


def _kind(value: Any) -> str:
    """Say what a value is that is no module of a model."""
    if isinstance(value, type):
        return "a class of another kind"
    if inspect.ismodule(value):
        return "a Python module"
    return "a function" if callable(value) else f"a {type(value).__name__}"


def _check_values(values: Any) -> None:
    """Check the arguments of a module of Ultralytics' own, which takes texts like "[3, 5]" for what they say."""
    for value in values if isinstance(values, list | tuple) else [values]:
        if isinstance(value, str):
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                value = ast.literal_eval(value)
        if isinstance(value, list | tuple):
            _check_values(value)
        elif isinstance(value, int | float) and not abs(value) <= limits.ARGUMENT:
            raise ConfigError(f"numbers among args have to be at most {limits.ARGUMENT}, found {shown(value)}")


def _check_use(row: Row, spec: Spec) -> None:
    """Check inputs, repeats and arguments of a registered module."""
    inputs, several = row.inputs, isinstance(row.inputs, list)
    if spec.inputs == 1 and several:
        raise ConfigError(f"{row.module} takes one input, its row's number without brackets, found {shown(inputs)}")
    count = len(inputs) if isinstance(inputs, list) else 1
    if spec.inputs != 1 and (not several or count != (spec.inputs or count)):
        raise ConfigError(f"{row.module} takes {spec.inputs or 'a list of'} inputs, found {count}")
    if row.repeats != 1 and (spec.repeats == "once" or (spec.repeats == "stack" and several)):
        raise ConfigError(f"{row.module} cannot be repeated, found repeats {row.repeats}")
    check_arguments(row.module, spec, row.args)


def _check_keypoints(shape: Any, args: list[Any]) -> None:
    right = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not right or shape[0] < 1 or shape[1] not in (2, 3):
        raise ConfigError(f"needs the key kpt_shape, [number of keypoints, 2 or 3], found {shown(shape)}")
    check_number("kpt_shape", shape[0], whole=True, most=limits.KEYPOINTS)
    if len(args) > 1 and args[1] != shape:
        raise ConfigError(f"takes the key kpt_shape, {shape}, as [nc, kpt_shape]; found {shown(args[1])}")


def _check_heads(rows: tuple[Row, ...], namespace: Mapping[str, Any]) -> None:
    """Check that a model's last row is a head, and no other."""
    heads, of_text = (internals.classes(names, namespace) for names in (internals.HEADS, internals.TEXT_HEADS))
    for row in rows:
        is_head, is_last = issubclass(row.cls, heads) or (row.spec is not None and row.spec.head), row is rows[-1]
        if is_last and not is_head:
            raise ConfigError("the last row has to be the model's head, like Detect").at(row.where)
        if is_head and not is_last:
            raise ConfigError(f"{row.module} is a head, which only the last row can be").at(row.where)
        if is_head and row.repeats != 1:
            raise ConfigError(f"a head cannot be repeated, found repeats {row.repeats}").at(row.where)
        if issubclass(row.cls, of_text):
            raise ConfigError(f"{row.module} takes words besides the image; choose another head").at(row.where)
        if row.spec is None and is_head and row.args:
            try:
                check_number("nc", row.args[0], whole=True, most=limits.CLASSES)
            except ConfigError as error:
                raise error.at(row.where) from None


def _is_native(row: Row) -> bool:
    from yolo_lite.backbones._stage import Stage

    return issubclass(row.cls, Stage)


def _flow(value: Any) -> str:
    """Write a row as it stands in a YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 16).strip().removesuffix("\n...")
