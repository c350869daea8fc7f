"""Checks of a comparison's folder: it is new or holds the same comparison, and has room for the results."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from yolo_lite.compare import comparison
from yolo_lite.compare.comparison import Comparison
from yolo_lite.errors import ConfigError

_ADVICE = "use the same settings to continue it, or choose another name="


def read_folder(folder: Path) -> Comparison | None:
    """Read the comparison in a folder; None if the folder is new.

    Raises:
        ConfigError: The folder holds something else.
    """
    old = comparison.read(folder)
    is_new = not folder.exists() or (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()))
    if old is None and not is_new:
        raise ConfigError(f"{folder}: exists, but is not a comparison; choose another name=")
    return old


def check_same(old: Comparison | None, new: Comparison, folder: Path) -> None:
    """Check that a folder holds the same comparison. Models and seeds may be added, but not removed; the baseline
    may be another one, since no run depends on it.

    Raises:
        ConfigError: The folder holds another comparison.
    """
    if old is None:
        return
    where = f"{folder} holds another comparison"
    if old.match != new.match:
        raise ConfigError(f"{where}: match={old.match}, found match={new.match}; {_ADVICE}")
    _check_data(old, new, where)
    for key in sorted({*old.train, *new.train}):
        if old.train.get(key) != new.train.get(key):
            raise ConfigError(f"{where}: {key}={old.train.get(key)}, found {new.train.get(key)}; {_ADVICE}")
    _check_models(old, new, where)


def _check_data(old: Comparison, new: Comparison, where: str) -> None:
    for key in ("split", "classes", "images", "digest"):
        before, now = getattr(old.data, key), getattr(new.data, key)
        if before != now:
            what = "its images or labels" if key == "digest" else f"data's {key} = {before}"
            raise ConfigError(f"{where}: {what}, found {now}; {_ADVICE}")
    if old.data.sizes not in (None, new.data.sizes):
        raise ConfigError(f"{where}: its images' files have changed in size; {_ADVICE}")


def _check_models(old: Comparison, new: Comparison, where: str) -> None:
    for label, model in old.models.items():
        if label not in new.models:
            raise ConfigError(f"{where}: it has the model {label} too; {_ADVICE}")
        if model.digest != new.models[label].digest:
            raise ConfigError(f"{where}: {label} has changed since ({model.given}); choose another name=")
        if old.imgsz(label) != new.imgsz(label):
            raise ConfigError(f"{where}: {label} at {old.imgsz(label)} px, found {new.imgsz(label)} px; {_ADVICE}")
        missing = set(old.seeds[label]) - set(new.seeds[label])
        if missing:
            raise ConfigError(f"{where}: it has {label} with seed {min(missing)} too; {_ADVICE}")


def check_space(folder: Path, parameters: Sequence[int], parallel: int) -> None:
    """Check that the disk has room for the results: checkpoints with their optimizer, and small files.

    Args:
        folder: Folder of the comparison.
        parameters: Number of parameters of the model of each remaining run.
        parallel: Number of runs at a time.

    Raises:
        ConfigError: The disk has too little room, or the folder is not writable.
    """
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not existing.is_dir():
        raise ConfigError(f"{folder}: {existing} is a file; choose another project=")
    if not os.access(existing, os.W_OK):
        raise ConfigError(f"{folder}: cannot be written to; choose another project=")
    half = [2 * number for number in parameters]  # bytes of a half-precision checkpoint
    needed = sum(2 * size + 1_000_000 for size in half) + parallel * 10 * max(half, default=0) + 20_000_000
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ConfigError(
            f"{folder}: {len(half)} runs need about {needed / 1e9:.1f} GB, found {free / 1e9:.1f} GB free; "
            "make room or choose another project="
        )
