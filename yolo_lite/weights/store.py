"""Feature maps of many images, kept in memory up to a limit and on disk beyond it."""

import tempfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

MEMORY = 2**28  # bytes


class Store:
    """Float32 tensors, and lists or dictionaries of them, by key.

    Args:
        folder: Folder for tensors that do not fit into memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.used, self.written = Path(tempfile.mkdtemp(dir=folder)), 0, 0
        self.kept: dict[Hashable, Any] = {}

    def put(self, key: Hashable, value: Any) -> None:
        """Store a tensor, or a list or dictionary of tensors."""
        if key in self.kept:
            self.drop(key)
        self.kept[key] = _each(self._put, value)

    def get(self, key: Hashable, device: torch.device) -> Any:
        """Return a stored value on a device."""
        return _each(lambda kept: kept.read().to(device), self.kept[key])

    def drop(self, key: Hashable) -> None:
        """Delete a stored value."""
        _each(self._drop, self.kept.pop(key))

    def _put(self, value: torch.Tensor) -> "_Kept":
        value = value.detach().cpu().contiguous()
        if self.used + value.nbytes <= MEMORY:
            self.used += value.nbytes
            return _Kept(value, None, value.shape)
        self.written += 1
        path = self.folder / str(self.written)
        value.numpy().tofile(path)  # no memory map: its pages would count as this process's memory
        return _Kept(None, path, value.shape)

    def _drop(self, kept: "_Kept") -> None:
        if kept.path is not None:
            kept.path.unlink()
        elif kept.tensor is not None:
            self.used -= kept.tensor.nbytes


@dataclass(frozen=True)
class _Kept:
    tensor: torch.Tensor | None
    path: Path | None
    shape: torch.Size

    def read(self) -> torch.Tensor:
        if self.tensor is not None:
            return self.tensor
        return torch.from_numpy(np.fromfile(str(self.path), np.float32)).view(self.shape)


def _each(do: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to each tensor of a tensor, list or dictionary; return the results in the same structure."""
    if isinstance(value, dict):
        return {key: _each(do, each) for key, each in value.items()}
    return [_each(do, each) for each in value] if isinstance(value, list | tuple) else do(value)
