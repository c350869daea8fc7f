"""Networks on torch's meta device, which use no memory, for code that needs only shapes and names."""

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
    """Call a function on torch's meta device, or on the CPU if a module needs an operation that meta lacks.

    Which modules need the CPU depends on the releases of torch and timm. The CPU random state is preserved.

    Args:
        run: Function that builds modules of which only shapes and names are needed.

    Returns:
        (T): Return value of the function.
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
    """Return whether the meta device is active and an error was caused only by an operation that it lacks."""
    about = r"meta (tensor|device|backend|kernel|function)|'meta'|device meta"
    return not isinstance(error, ConfigError) and torch.empty(0).is_meta and bool(re.search(about, str(error).lower()))


class Bounded(TorchDispatchMode):
    """Dispatch mode that enforces `limits` while a model is built and run for two images, before memory is allocated.

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
    """Exempt the operations in this context from `Bounded`, for networks that are only described."""
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
    """Return the keyword of an operation's result in torch's FLOP formulas: `out` in old releases, else `out_val`."""
    formula = inspect.signature(flop_registry[torch.ops.aten.convolution], follow_wrapped=False)
    return "out_val" if "out_val" in formula.parameters else "out"


@functools.cache
def _place_of_size(operation: Any) -> int | None:
    """Return the index of an operation's `size` argument, the shape of its result; None if it has no such argument."""
    schema = getattr(operation, "_schema", None)  # higher-order operators have none
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    return names.index("size") if "size" in names else None
