"""Static checks of a model dictionary that names a yolo_lite module, before anything is built from it.

They run once per build, and their result, `Checked`, is passed on. Errors that depend on the channels and strides of
the rows are found by `dry_run`, which builds the model without memory. Both raise `ConfigError` only.
"""

import ast
import contextlib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from yolo_lite import limits
from yolo_lite.discovery import specs
from yolo_lite.errors import ConfigError, one_line, shown, suggest
from yolo_lite.registry import LOSSES, Scale, Spec, check_arguments
from yolo_lite.ultralytics_hooks import internals
from yolo_lite.ultralytics_hooks.keys import SECTIONS, check_keys, check_number, scaling

NAMESPACES = {"nn.": "torch.nn", "torchvision.ops.": "torchvision.ops"}  # prefix of a name -> module that is searched


@dataclass(frozen=True)
class Row:
    """A row of a model dictionary."""

    index: int  # counted through backbone and head, as in `from`
    section: Literal["backbone", "head"]
    inputs: int | list[int]
    repeats: int
    module: str
    args: list[Any]  # with `nc` and `kpt_shape` replaced by their values
    spec: Spec | None  # None for Ultralytics' own modules
    cls: type
    where: str


@dataclass(frozen=True)
class Checked:
    """A yolo_lite model dictionary that passed the static checks."""

    where: str  # the file that it comes from, for messages
    scale: Scale
    rows: tuple[Row, ...]


def check(d: Mapping[str, Any], namespace: Mapping[str, Any], ch: int = 3, file: bool = False) -> Checked:
    """Check a yolo_lite model dictionary.

    Args:
        d: Model dictionary.
        namespace: Names that Ultralytics has for modules.
        ch: Number of image channels.
        file: Whether the dictionary was just read from a file, which cannot contain what only checkpoints record.

    Raises:
        ConfigError: If the dictionary has an error that can be found without building the model.
    """
    where = str(d.get("yaml_file") or "model dictionary")[: limits.TEXT]
    try:
        limits.check_data(dict(d))
        check_number("ch", ch, whole=True, most=limits.IMAGE_CHANNELS)
        check_keys(d, file)
        scale = scaling(d)
    except ConfigError as error:
        raise error.at(where) from None
    sections = [(section, row) for section in SECTIONS for row in d[section]]
    rows = tuple(_row(d, index, *each, scale.depth, where, namespace) for index, each in enumerate(sections))
    _check_heads(rows, namespace)
    if scale.backbone_edge and not any(_is_native(row) for row in rows):
        raise ConfigError("backbone_edge: true changes yolo_lite's native backbones, and this model has none").at(where)
    try:
        _check_losses(d, rows, namespace)
    except ConfigError as error:
        raise error.at(where) from None
    return Checked(where, scale, rows)


def _check_losses(d: Mapping[str, Any], rows: Sequence[Row], namespace: Mapping[str, Any]) -> None:
    """Check the loss keys, and whether the head has a loss that they can replace."""
    head = rows[-1].cls
    for key, known in LOSSES.items():
        value = d.get(key)
        if value is None:
            continue
        if value not in known:
            raise ConfigError(f"{key}: found {value!r}; needed null or {' or '.join(known)}{suggest(value, known)}")
        if not any(row.spec for row in rows):
            raise ConfigError(
                f"{key} is a key for models with a module of yolo_lite's; found none: add one, or remove {key}"
            )
        if not issubclass(head, internals.classes(("Detect",), namespace)):
            raise ConfigError(f"{key}: found {value}; needed null, since {rows[-1].module} has its own losses")
        if key == "box_loss" and issubclass(head, internals.classes(("OBB",), namespace)):
            raise ConfigError(
                f"{key}: found {value}, a loss of upright boxes; needed null for {rows[-1].module}'s rotated ones"
            )


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
    """Check a single row and return it."""
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
    """Return the class of a row's module by the name that Ultralytics looks up: its own, nn.X or torchvision.ops.X.

    Ultralytics calls any object of that name, including functions that load files; only `nn.Module` classes that are
    not whole models are accepted here.

    Args:
        name: Module name in the row.
        namespace: Names that Ultralytics has for modules.

    Raises:
        ConfigError: If nothing has that name, or it cannot be used as a module of a model.
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
    """Describe a value that cannot be used as a module of a model."""
    if isinstance(value, type):
        return "a class of another kind"
    if inspect.ismodule(value):
        return "a Python module"
    return "a function" if callable(value) else f"a {type(value).__name__}"


def _check_values(values: Any) -> None:
    """Check the arguments of Ultralytics' own modules, whose strings such as "[3, 5]" are evaluated as literals."""
    for value in values if isinstance(values, list | tuple) else [values]:
        if isinstance(value, str):
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                value = ast.literal_eval(value)
        if isinstance(value, list | tuple):
            _check_values(value)
        elif isinstance(value, int | float) and not abs(value) <= limits.ARGUMENT:
            raise ConfigError(f"numbers among args have to be at most {limits.ARGUMENT}, found {shown(value)}")


def _check_use(row: Row, spec: Spec) -> None:
    """Check the inputs, repeats and arguments of a registered module."""
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
    """Check that the last row of a model, and no other row, is a head."""
    heads, of_text = (internals.classes(names, namespace) for names in (internals.HEADS, internals.TEXT_HEADS))
    for row in rows:
        is_head, is_last = issubclass(row.cls, heads) or (row.spec is not None and row.spec.head), row is rows[-1]
        if is_last and not is_head:
            raise ConfigError("the last row has to be the model's head, like Detect").at(row.where)
        if is_head and not is_last:
            raise ConfigError(f"{row.module} is a head; only the last row can be one").at(row.where)
        if is_head and row.repeats != 1:
            raise ConfigError(f"a head cannot be repeated, found repeats {row.repeats}").at(row.where)
        if issubclass(row.cls, of_text):
            raise ConfigError(f"{row.module} takes text besides the image; choose another head").at(row.where)
        if row.spec is None and is_head and row.args:
            try:
                check_number("nc", row.args[0], whole=True, most=limits.CLASSES)
            except ConfigError as error:
                raise error.at(row.where) from None


def _is_native(row: Row) -> bool:
    from yolo_lite.backbones._stage import Stage

    return issubclass(row.cls, Stage)


def _flow(value: Any) -> str:
    """Return a row in YAML flow style."""
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 16).strip().removesuffix("\n...")
