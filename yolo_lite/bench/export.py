"""Export models with Ultralytics' exporter, atomically, and cache the results in a folder."""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from yolo_lite import models
from yolo_lite.bench.runtimes import RUNTIMES, is_exported
from yolo_lite.errors import ConfigError, typed_line
from yolo_lite.files import ROOM, replacing, unwritable
from yolo_lite.output import silent

STALE = 86_400  # seconds after which an unfinished export is assumed to have been killed


@dataclass(frozen=True)
class Exported:
    """File or folder exported by the user; its parameters, GFLOPs and classes are unknown."""

    label: str
    path: Path
    parameters: ClassVar[None] = None
    gflops: ClassVar[None] = None
    classes: ClassVar[None] = None


Subject = models.Opened | Exported  # something to measure


def load(label: str, given: str | Path, imgsz: int) -> Subject:
    """Load a model, or find an exported file.

    Args:
        label: Display name.
        given: Name, YAML or checkpoint of a model, as for `models.load`, or path of an exported file or folder.
        imgsz: Image size for counting a model's GFLOPs, pixels.

    Raises:
        ConfigError: The file does not exist, or cannot be read.
    """
    if not is_exported(given):
        return models.load(given, imgsz, label)
    if not Path(given).exists():
        raise ConfigError(f"there is no file {given}")
    return Exported(label, Path(given))


def export(
    subject: Subject,
    runtime: str,
    folder: str | Path,
    imgsz: int = 640,
    data: str | Path | None = None,
    **options: Any,
) -> Path:
    """Export a model for a runtime with Ultralytics' exporter, unless the folder already contains the result.

    Args:
        subject: Model to export; the path of an `Exported` is returned unchanged.
        runtime: Name in `RUNTIMES`.
        folder: Folder that caches exports; they are written atomically, so interrupted exports never remain in it.
        imgsz: Height and width of the image, pixels.
        data: Dataset YAML to quantise to int8, calibrated with its training images; None for a float export.
        options: Further export arguments of Ultralytics.

    Returns:
        (Path): Exported file or folder.

    Raises:
        ConfigError: The export fails.
    """
    if isinstance(subject, Exported):
        return subject.path
    key = _key(subject, runtime, imgsz, _calibration(data) if data else None, options)
    suffix = f"{'_int8' if data else ''}{RUNTIMES[runtime].suffixes[0]}"
    target = Path(folder) / f"{Path(subject.source).stem}-{imgsz}-{key}{suffix}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target.parent)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=target.parent) as work:
        try:
            if data and RUNTIMES[runtime].int8 == "yolo_lite":
                from yolo_lite.bench.int8 import quantise

                float_file = export(subject, runtime, folder, imgsz, **options)
                made = quantise(float_file, Path(work) / target.name, data, imgsz)
            else:
                made = _by_ultralytics(subject, runtime, Path(work), imgsz, {**_int8_options(data), **options})
        except ConfigError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in ROOM:
                raise unwritable(error, target) from error
            raise ConfigError(f"{subject.label} cannot be exported for {runtime}: {typed_line(error)}") from error
        with replacing(target) as draft:
            os.replace(made, draft)
    return target


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; OpenVINO's .xml includes its .bin weights."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path, *path.rglob("*")]
    return sum(each.stat().st_size for each in files if each.is_file())


def _clear(folder: Path) -> None:
    """Delete the remains of killed exports from a folder; newer ones may belong to another running command."""
    for draft in folder.glob(".export_*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > STALE:
                shutil.rmtree(draft)


def _calibration(data: str | Path) -> tuple[str, list[tuple[str, int]]]:
    """Return the dataset and the names and sizes of its training images, which identify the calibration data."""
    from yolo_lite.datasets.images import training_files

    files = training_files(data)
    return str(data), [(str(file), file.stat().st_size) for file in files if file.is_file()]


def _int8_options(data: str | Path | None) -> dict[str, Any]:
    """Return Ultralytics' export arguments for int8, whose names depend on its release."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    if data is None:
        return {}
    precision = {"quantize": 8} if "quantize" in DEFAULT_CFG_DICT else {"int8": True}
    return {**precision, "data": str(data), "split": "train"}


def _by_ultralytics(model: models.Opened, runtime: str, work: Path, imgsz: int, options: Mapping[str, Any]) -> Path:
    network = model.yolo.model
    before = getattr(network, "pt_path", None)
    # the exporter writes beside this path and replaces the suffix everywhere in it; `.pt` occurs in many paths
    network.pt_path = str(work / f"{Path(model.source).stem}.yolo_lite")
    try:
        with silent(), models.nothing_installed():
            made = model.yolo.export(format=RUNTIMES[runtime].format, imgsz=imgsz, device="cpu", **options)
    finally:
        network.pt_path = before
    return Path(made)


def _key(model: models.Opened, *settings: object) -> str:
    """Return a short cache key of an export's inputs: weights, network, settings, Ultralytics release and our code."""
    from ultralytics import __version__ as release

    # the network's repr lacks arguments like a shortcut; the YAML lacks what a registered module derives from its row
    content = (model.digest, model.yolo.model, settings, release, _code())
    return hashlib.sha1(repr(content).encode()).hexdigest()[:8]


@functools.cache
def _code() -> str:
    """Return a digest of this package's source files, which may change without a new version during development."""
    files = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return hashlib.sha1(b"".join(file.read_bytes() for file in files)).hexdigest()
