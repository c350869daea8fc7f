"""Maps of many images, kept in memory up to a limit and beyond that on disk."""

import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch

MEMORY = 2**28  # bytes


class Store:
    """Float32 tensors, and lists of them, by key.

    Args:
        folder: Where to write what does not fit into memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.used, self.written = Path(tempfile.mkdtemp(dir=folder)), 0, 0
        self.kept: dict[Hashable, Any] = {}

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a tensor or a list of tensors."""
        if key in self.kept:
            self.drop(key)
        self.kept[key] = self._put(value)

    def get(self, key: Hashable, device: torch.device) -> Any:
        """Return what was kept."""
        return self._get(self.kept[key], device)

    def drop(self, key: Hashable) -> None:
        """Forget it."""
        self._drop(self.kept.pop(key))

    def _put(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return [self._put(each) for each in value]
        value = value.detach().cpu().contiguous()
        if self.used + value.nbytes <= MEMORY:
            self.used += value.nbytes
            return value
        self.written += 1
        path = self.folder / str(self.written)
        value.numpy().tofile(path)  # no memory map: its pages would count as this process's memory
        return path, value.shape

    def _get(self, kept: Any, device: torch.device) -> Any:
        if isinstance(kept, list):
            return [self._get(each, device) for each in kept]
        if isinstance(kept, tuple):
            path, shape = kept
            kept = torch.from_numpy(np.fromfile(path, np.float32)).view(shape)
        return kept.to(device)

    def _drop(self, kept: Any) -> None:
        if isinstance(kept, list):
            for each in kept:
                self._drop(each)
        elif isinstance(kept, tuple):
            kept[0].unlink()
        else:
            self.used -= kept.nbytes
