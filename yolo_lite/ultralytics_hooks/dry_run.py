"""Builds a model and runs it once without memory or arithmetic, to find what its rows cannot do together."""

from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from yolo_lite.errors import ConfigError, typed_line
from yolo_lite.registry import SEVERAL_LEVELS
from yolo_lite.ultralytics_hooks import internals
from yolo_lite.ultralytics_hooks.checks import Checked

if TYPE_CHECKING:
    from torch import nn

SIZE = 256  # pixels, as Ultralytics does to find the strides
Build = Callable[[dict[str, Any]], tuple["nn.Sequential", list[int]]]  # what Ultralytics' parser does


def dry_run(
    build: Build, d: Mapping[str, Any], checked: Checked, ch: int, parser: str, heads: tuple[type, ...]
) -> None:
    """Build a model on torch's meta device and run it on an image's shape.

    Args:
        build: Builds the layers from a model dictionary.
        d: The model dictionary.
        checked: What is known of it.
        ch: The image's channels.
        parser: The file name of the parser's code, in whose frames the row's number is found.
        heads: The classes whose inputs have to come in the order of their strides.

    Raises:
        ConfigError: A row cannot be built, or does not take what the rows before it give; the row is named.
    """
    from yolo_lite.meta import without_memory  # only now, since it needs torch

    without_memory(lambda: _dry_run(build, d, checked, ch, parser, heads))


def _dry_run(
    build: Build, d: Mapping[str, Any], checked: Checked, ch: int, parser: str, heads: tuple[type, ...]
) -> None:
    import torch

    from yolo_lite.meta import is_about_meta

    try:
        layers, _ = build({**d, "scale": checked.scale.letter})  # Ultralytics warns of a missing letter once more
    except Exception as error:
        if is_about_meta(error):
            raise
        _raise_of_row(error, checked, parser)
        return
    x: Any = torch.zeros(2, ch, SIZE, SIZE)  # two, for BatchNorm
    outputs: list[Any] = []
    for layer, row in zip(layers, checked.rows, strict=True):
        x = _input(layer, x, outputs)
        if row is checked.rows[-1]:
            if isinstance(layer, heads):
                _check_strides(x, row.where)
            return
        try:
            x = layer(x)
        except Exception as error:
            if is_about_meta(error):
                raise
            found = ", ".join(_shape(each) for each in (x if isinstance(x, list) else [x]))
            raise ConfigError(
                f"{row.where}: cannot take inputs of the shapes {found} "
                f"(an image of {SIZE} x {SIZE}): {typed_line(error)}"
            ) from None
        outputs.append(x)


def levels(d: Mapping[str, Any]) -> list[int]:
    """Return the levels k (stride 2**k) that the rows of a model give for three-channel images, the head left out.

    Args:
        d: The model dictionary, without weights to load.
    """
    import copy

    import torch

    from yolo_lite.meta import without_memory

    def run() -> list[int]:
        layers, _ = internals.tasks().parse_model(copy.deepcopy(d), 3, False)
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
    return str(tuple(value.shape)) if hasattr(value, "shape") else f"[{', '.join(map(_shape, value.values()))}]"


def _check_strides(inputs: Any, where: str) -> None:
    strides = [SIZE // each.shape[-1] for each in (inputs if isinstance(inputs, list) else [inputs])]
    if strides != sorted(set(strides)):
        raise ConfigError(f"{where}: its inputs have to come in the order of their strides, found strides {strides}")


def _raise_of_row(error: Exception, checked: Checked, parser: str) -> None:
    """Raise what an error means for a row; return if none is to blame."""
    frame = _frame_of(error, parser)
    if frame is None:
        if isinstance(error, ConfigError):
            raise error from None
        return
    where = checked.rows[frame.f_locals["i"]].where
    if isinstance(error, ConfigError):
        raise error.at(where) from None
    if _takes_several_levels(frame):
        raise ConfigError(SEVERAL_LEVELS).at(where) from None
    raise ConfigError(f"cannot be built: {typed_line(error)}").at(where) from None


def _frame_of(error: Exception, parser: str) -> FrameType | None:
    """Return the parser's frame in an error's traceback, if it was at a row."""
    traceback = error.__traceback__
    while traceback:
        if traceback.tb_frame.f_code.co_filename == parser and "i" in traceback.tb_frame.f_locals:
            return traceback.tb_frame
        traceback = traceback.tb_next
    return None


def _takes_several_levels(frame: FrameType) -> bool:
    """Tell whether a row of Ultralytics' own was given what a `TimmBackbone` gives, which has no number of channels."""
    channels, rows = frame.f_locals["ch"], frame.f_locals["f"]
    return not all(isinstance(channels[each], int) for each in (rows if isinstance(rows, list) else [rows]))
