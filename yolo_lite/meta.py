"""Networks without memory: torch's meta device, where only shapes and names are wanted."""

import re
from collections.abc import Callable
from typing import TypeVar

import torch

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
    return torch.empty(0).is_meta and not isinstance(error, ConfigError) and bool(re.search(about, str(error).lower()))
