"""Cache of finished transfers, so that the many trainings of a hyperparameter search compute each of them once.

A file is named by a digest of everything that the result depends on, to the bit. The most recently used ones are kept.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from yolo_lite import __version__
from yolo_lite.files import replacing
from yolo_lite.weights.fitting import Fit, Method
from yolo_lite.weights.transfer import Transferred

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

KEPT = 4  # number of files that are kept
State = Mapping[str, torch.Tensor]


def folder() -> Path:
    """Return the path of the cache folder."""
    from ultralytics.utils import USER_CONFIG_DIR

    return Path(USER_CONFIG_DIR, "yolo_lite")


def key_of(
    source: "BaseModel", target: "BaseModel", images: torch.Tensor, seed: int, method: Method, device: str
) -> str:
    """Return the SHA-256 digest of everything that a transfer depends on."""
    digest = hashlib.sha256(repr((__version__, torch.__version__, device, seed, method, images.shape)).encode())
    model: Any
    for model in (source, target):
        d = {key: value for key, value in model.yaml.items() if key not in ("yaml_file", "backbone_weights")}
        digest.update(repr((sorted(d.items()), getattr(model, "names", None))).encode())
        for name, value in model.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    digest.update(images.numpy().tobytes())
    return digest.hexdigest()


def read(key: str) -> tuple[State, Transferred] | None:
    """Return the cached weights and the summary of the transfer, None if they are missing or unreadable."""
    file = folder() / f"transfer-{key}.pt"
    try:
        found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        os.utime(file)
        return found["state"], Transferred(tuple(Fit(*each) for each in found["fits"]), found["images"])
    except Exception:  # whatever the cause, the transfer can be computed again
        return None


def write(key: str, state: State, done: Transferred) -> None:
    """Store a transfer and delete the least recently used ones; do nothing if the disk is full or read-only."""
    kept = {name: value.cpu() for name, value in state.items()}
    with contextlib.suppress(Exception):
        with replacing(folder() / f"transfer-{key}.pt") as draft:
            torch.save({"state": kept, "fits": [astuple(fit) for fit in done.fits], "images": done.images}, draft)
        files = sorted(folder().glob("transfer-*.pt"), key=lambda file: file.stat().st_mtime)
        for file in files[:-KEPT]:
            file.unlink(missing_ok=True)
