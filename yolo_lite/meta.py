"""Networks without memory: torch's meta device, where only shapes and names are wanted."""

import contextlib
import functools
import inspect
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from yolo_lite import limits
from yolo_lite.errors import ConfigError

T = TypeVar("T")


def without_memory(run: Callable[[], T]) -> T:
    """Call a function on torch's meta device, and on the CPU where that device lacks what a module needs.

    Which modules those are depends on the releases of torch and timm. Random numbers are left as they were.

    Args:
        run: Builds modules, of which only shapes and names are wanted.

    Returns:
        (T): What the function returns.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        with torch.device("meta"):
            try:
                return run()
            except Exception as error:
                if not is_about_meta(error):
                    raise
        with torch.device("cpu"):
            return run()


def is_about_meta(error: Exception) -> bool:
    """Tell whether code that runs on the meta device failed only because that device cannot do something."""
    about = r"meta (tensor|device|backend|kernel|function)|'meta'|device meta"
    return not isinstance(error, ConfigError) and torch.empty(0).is_meta and bool(re.search(about, str(error).lower()))


class Bounded(TorchDispatchMode):
    """Refuses what is beyond `limits` while a model is built and run for two images, before memory is taken for it.

    Raises:
        ConfigError: There are too many operations, parameters or FLOPs, or one tensor is too large.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.made = self.flops = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(_thread, "unbounded", False):
            return operation(*args, **kwargs)
        self.operations += 1
        _refuse_above(limits.OPERATIONS, self.operations, "torch operations to be built and run")
        place = _place_of_size(operation)
        if place is not None and place < len(args):
            _refuse_above(limits.ELEMENTS, math.prod(args[place]), "values in one tensor")
        out = operation(*args, **kwargs)
        if isinstance(out, torch.Tensor):
            _refuse_above(limits.ELEMENTS, out.numel(), "values in one tensor")
            if not any(isinstance(each, torch.Tensor) for each in args):
                self.made += out.numel()
                _refuse_above(2 * limits.PARAMETERS, self.made, "parameters and constants")
        count = flop_registry.get(getattr(operation, "_overloadpacket", None))
        if count is not None:
            self.flops += count(*args, **kwargs, **{_result_name(): out})
            _refuse_above(limits.GFLOPS, self.flops / 2e9, "GFLOPs for an image of 256 px")
        return out


_thread = threading.local()


@contextlib.contextmanager
def unbounded() -> Iterator[None]:
    """Let what happens here not count for `Bounded`: networks that are only described."""
    before, _thread.unbounded = getattr(_thread, "unbounded", False), True
    try:
        yield
    finally:
        _thread.unbounded = before


def _refuse_above(most: float, found: float, what: str) -> None:
    if found > most:
        raise ConfigError(f"the model needs more than {most:,} {what}")


@functools.cache
def _result_name() -> str:
    """Return what torch's formulas of FLOPs call an operation's result: `out` in old releases, `out_val` in new."""
    formula = inspect.signature(flop_registry[torch.ops.aten.convolution], follow_wrapped=False)
    return "out_val" if "out_val" in formula.parameters else "out"


@functools.cache
def _place_of_size(operation: Any) -> int | None:
    """Return which argument of an operation says how large its tensor will be."""
    schema = getattr(operation, "_schema", None)  # higher-order operators have none
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    return names.index("size") if "size" in names else None
