"""Dry run: build a model and run it once without memory or arithmetic, to find rows that do not fit together."""

import re
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from yolo_lite import limits
from yolo_lite.errors import ConfigError, one_line, shown, typed_line
from yolo_lite.registry import SEVERAL_LEVELS
from yolo_lite.ultralytics_hooks import internals
from yolo_lite.ultralytics_hooks.checks import Checked

if TYPE_CHECKING:
    from torch import nn

SIZE = 256  # image size in pixels; Ultralytics uses the same to determine the strides
Build = Callable[[dict[str, Any]], tuple["nn.Sequential", list[int]]]  # dictionary -> layers, rows that are kept


def dry_run(
    build: Build, d: Mapping[str, Any], checked: Checked, ch: int, parser: str, heads: tuple[type, ...]
) -> None:
    """Build a model on torch's meta device and run it on an image shape.

    Args:
        build: Function that builds the layers from a model dictionary.
        d: Model dictionary.
        checked: Result of the static checks.
        ch: Number of image channels.
        parser: File name of the parser's code, whose stack frames contain the row number.
        heads: Head classes whose inputs have to be in the order of their strides.

    Raises:
        ConfigError: If a row cannot be built, or does not accept the outputs of the rows before it (the message names
            the row), or the model is too large.
    """
    from yolo_lite.meta import Bounded, without_memory  # imported here, since it needs torch

    def run() -> None:
        with Bounded():
            _dry_run(build, d, checked, ch, parser, heads)

    try:
        without_memory(run)
    except ConfigError as error:
        raise (error if str(error).startswith(checked.where) else error.at(checked.where)) from None


def _dry_run(
    build: Build, d: Mapping[str, Any], checked: Checked, ch: int, parser: str, heads: tuple[type, ...]
) -> None:
    import torch

    from yolo_lite.meta import is_about_meta

    try:
        layers, _ = build({**d, "scale": checked.scale.letter})  # without it, Ultralytics would warn again
    except Exception as error:
        if is_about_meta(error):
            raise
        raise _of_row(error, checked, parser) from None
    parameters = sum(each.numel() for each in layers.parameters())
    if parameters > limits.PARAMETERS:
        raise ConfigError(f"the model has {parameters:,} parameters; needed at most {limits.PARAMETERS:,}")
    for layer, row in zip(layers, checked.rows, strict=True):
        largest = max((each.numel() for each in layer.parameters()), default=0)
        if largest > limits.WEIGHT:
            raise ConfigError(f"{row.where}: one weight has {largest:,} values; needed at most {limits.WEIGHT:,}")
    layers.eval()  # all but the head, as in Ultralytics' computation of the strides; takes half the time
    layers[-1].training = True
    x: Any = torch.zeros(2, ch, SIZE, SIZE)
    outputs: list[Any] = []
    kept = 0
    run = internals.classes(internals.RUN_HEADS, internals.namespace())
    for layer, row in zip(layers, checked.rows, strict=True):
        x = _input(layer, x, outputs)
        if row is checked.rows[-1]:
            if isinstance(layer, heads):
                _check_strides(x, row.where)
            if not isinstance(layer, run):
                return
        try:
            x = layer(x)
        except ConfigError as error:
            raise error.at(row.where) from None
        except Exception as error:
            if is_about_meta(error):
                raise
            found = one_line(", ".join(map(_shape, x)) if isinstance(x, list | tuple) else _shape(x))
            raise ConfigError(
                f"{row.where}: cannot take inputs of the shapes {found} "
                f"(an image of {SIZE} x {SIZE}): {typed_line(error)}"
            ) from None
        outputs.append(x)
        kept += x.numel() if isinstance(x, torch.Tensor) else 0
        if kept > limits.KEPT:
            raise ConfigError(f"{row.where}: the outputs of all rows up to here hold more than {limits.KEPT:,} values")


def levels(d: Mapping[str, Any]) -> list[int]:
    """Return the output level k (stride 2**k) of every row of a model except the head, for three-channel images.

    Args:
        d: Model dictionary, without weights to load.
    """
    import copy

    import torch

    from yolo_lite.meta import without_memory

    def run() -> list[int]:
        layers, _ = internals.tasks().parse_model(copy.deepcopy(d), 3, False)
        layers.eval()
        x: Any = torch.zeros(2, 3, SIZE, SIZE)
        outputs: list[Any] = []
        for layer in layers[:-1]:
            x = layer(_input(layer, x, outputs))
            outputs.append(x)
        return [(SIZE // each.shape[-1]).bit_length() - 1 for each in outputs]

    return without_memory(run)


def _input(layer: Any, x: Any, outputs: list[Any]) -> Any:
    if layer.f == -1:
        return x
    return outputs[layer.f] if isinstance(layer.f, int) else [x if j == -1 else outputs[j] for j in layer.f]


def _shape(value: Any) -> str:
    """Return the shape of a map, or the shapes of several maps, as text."""
    if hasattr(value, "shape"):
        return str(tuple(value.shape))
    several = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return f"a {type(value).__name__}" if several is None else f"[{', '.join(map(_shape, several))}]"


def _check_strides(inputs: Any, where: str) -> None:
    maps = inputs if isinstance(inputs, list) else [inputs]
    if not all(getattr(each, "ndim", 0) == 4 and 0 < each.shape[-1] <= SIZE for each in maps):
        raise ConfigError(
            f"{where}: its inputs have to be feature maps, found {one_line(', '.join(map(_shape, maps)))}"
        )
    strides = [SIZE // each.shape[-1] for each in maps]
    if strides != sorted(set(strides)):
        raise ConfigError(f"{where}: its inputs have to be in the order of their strides, found strides {strides}")


def _of_row(error: Exception, checked: Checked, parser: str) -> ConfigError:
    """Convert an error to a `ConfigError`, attributed to the row that caused it if there is one."""
    frame = _frame_of(error, parser)
    if frame is None:
        return error if isinstance(error, ConfigError) else ConfigError(f"cannot be built: {typed_line(error)}")
    row = checked.rows[frame.f_locals["i"]]
    if isinstance(error, ConfigError):
        return error.at(row.where)
    if _is_about_inputs(error, parser):
        wanted = "one input, its row's number without brackets" if isinstance(row.inputs, list) else "a list of inputs"
        return ConfigError(f"{row.module} takes {wanted}, found {shown(row.inputs)}").at(row.where)
    if _takes_several_levels(frame):
        return ConfigError(SEVERAL_LEVELS).at(row.where)
    return ConfigError(f"cannot be built: {typed_line(error)}").at(row.where)


def _frame_of(error: Exception, parser: str) -> FrameType | None:
    """Return the parser's frame in an error's traceback, None if it was not processing a row."""
    traceback = error.__traceback__
    while traceback:
        if traceback.tb_frame.f_code.co_filename == parser and "i" in traceback.tb_frame.f_locals:
            return traceback.tb_frame
        traceback = traceback.tb_next
    return None


def _is_about_inputs(error: BaseException, parser: str) -> bool:
    """Return whether Ultralytics' parser itself failed because it got one input instead of a list, or the reverse."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    by_parser = traceback is not None and traceback.tb_frame.f_code.co_filename == parser
    return by_parser and bool(
        re.match(r"'int' object is not (iterable|subscriptable)|list indices must be", str(error))
    )


def _takes_several_levels(frame: FrameType) -> bool:
    """Return whether a stock row reads the output of a `TimmBackbone`, which has no single number of channels."""
    channels, rows = frame.f_locals["ch"], frame.f_locals["f"]
    return not all(isinstance(channels[each], int) for each in (rows if isinstance(rows, list) else [rows]))
