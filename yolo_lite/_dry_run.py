"""Builds a model and runs it once without memory or arithmetic, to find what its rows cannot do together."""

import re

from yolo_lite import _check
from yolo_lite._registry import ConfigError

SIZE = 256  # pixels, as the host does to find the strides


def without_memory(run):
    """Call a function on torch's meta device, and on the CPU where that device lacks what a module needs.

    Which modules those are depends on the releases of torch and timm. Random numbers are left as they were.

    Args:
        run (Callable): Takes nothing; builds modules, of which only shapes and names are wanted.

    Returns:
        (Any): What the function returns.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        with torch.device("meta"):
            try:
                return run()
            except Exception as error:
                if not is_about_meta(error):
                    raise
        with torch.device("cpu"):
            return run()


def is_about_meta(error):
    """Tell whether code that runs on the meta device failed only because that device cannot do something."""
    import torch

    about = r"meta (tensor|device|backend|kernel|function)|'meta'|device meta"
    return torch.empty(0).is_meta and not isinstance(error, ConfigError) and bool(re.search(about, str(error).lower()))


def dry_run(build, d, ch, heads, parser):
    """Build a model on torch's meta device and run it on an image's shape.

    Args:
        build: Builds the layers from a model dictionary.
        d: The model dictionary.
        ch: The image's channels.
        heads: The classes whose inputs have to come in the order of their strides.
        parser: The file name of the parser's code, in whose frames the row's number is found.

    Raises:
        ConfigError: A row cannot be built, or does not take what the rows before it give; the row is named.
    """
    d = {**d, "scale": _check.scaling(d).letter}  # the host warns of a missing letter, once is enough
    without_memory(lambda: _dry_run(build, d, ch, heads, parser))


def _dry_run(build, d, ch, heads, parser):
    import torch

    try:
        layers, _ = build(d)
    except Exception as error:
        if is_about_meta(error):
            raise
        index = _row_of(error, parser)
        if not isinstance(error, ConfigError) and index is None:
            return  # not a row's fault
        reason = error if isinstance(error, ConfigError) else ConfigError(f"cannot be built: {_one_line(error)}")
        if "'Levels'" in str(error):
            reason = ConfigError("a TimmBackbone gives several levels; put a Level row between")
        raise (reason if index is None else reason.at(_check.row_name(d, index))) from None
    x, outputs = torch.zeros(2, ch, SIZE, SIZE), []  # two, for BatchNorm
    for index, layer in enumerate(layers):
        x = _input(layer, x, outputs)
        if layer is layers[-1]:
            if isinstance(layer, heads):
                _check_strides(x, _check.row_name(d, index))
            return
        try:
            x = layer(x)
        except Exception as error:
            if is_about_meta(error):
                raise
            found = ", ".join(_shape(each) for each in (x if isinstance(x, list) else [x]))
            raise ConfigError(
                f"{_check.row_name(d, index)}: cannot take inputs of the shapes {found} "
                f"(an image of {SIZE} x {SIZE}): {_one_line(error)}"
            ) from None
        outputs.append(x)


def levels(build, d, count):
    """Return the levels k (stride 2**k) of the first `count` rows of a model for three-channel images."""
    import torch

    def run():
        layers, _ = build(d)
        x, outputs = torch.zeros(2, 3, SIZE, SIZE), []
        for layer in layers[:count]:
            x = layer(_input(layer, x, outputs))
            outputs.append(x)
        return [(SIZE // each.shape[-1]).bit_length() - 1 for each in outputs]

    return without_memory(run)


def _input(layer, x, outputs):
    if layer.f == -1:
        return x
    return outputs[layer.f] if isinstance(layer.f, int) else [x if j == -1 else outputs[j] for j in layer.f]


def _shape(value):
    return str(tuple(value.shape)) if hasattr(value, "shape") else f"[{', '.join(map(_shape, value.values()))}]"


def _check_strides(inputs, where):
    strides = [SIZE // each.shape[-1] for each in (inputs if isinstance(inputs, list) else [inputs])]
    if strides != sorted(set(strides)):
        raise ConfigError(f"{where}: its inputs have to come in the order of their strides, found strides {strides}")


def _row_of(error, parser):
    """Return the number of the row at which the parser raised an error."""
    traceback = error.__traceback__
    while traceback:
        if traceback.tb_frame.f_code.co_filename == parser and "i" in traceback.tb_frame.f_locals:
            return traceback.tb_frame.f_locals["i"]
        traceback = traceback.tb_next
    return None


def _one_line(error):
    return f"{' '.join(str(error).split())[:300]} ({type(error).__name__})"
