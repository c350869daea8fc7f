"""Exports: by Ultralytics' own exporter, complete or absent, kept in a folder."""

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

STALE = 86_400  # seconds after which an unfinished export is one that was killed


@dataclass(frozen=True)
class Exported:
    """A file or folder that has been exported already; what it cost before is not known."""

    label: str
    path: Path
    parameters: ClassVar[None] = None
    gflops: ClassVar[None] = None
    classes: ClassVar[None] = None


Subject = models.Opened | Exported  # what is measured


def load(label: str, given: str | Path, imgsz: int) -> Subject:
    """Find a model or an exported file.

    Args:
        label: What to call it.
        given: A name, YAML or checkpoint, as for `models.load`, or an exported file or folder.
        imgsz: The image size that a model's cost is counted at, pixels.

    Raises:
        ConfigError: There is no such file, or it cannot be read.
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
    """Export a model for a runtime with Ultralytics' own exporter, unless the folder has the result already.

    Args:
        subject: The model; an exported file is returned as it is.
        runtime: A name in `RUNTIMES`.
        folder: Where exports are kept; an export in it is complete, whenever it was interrupted.
        imgsz: Height and width of the image, pixels.
        data: A dataset's YAML: quantise to int8, calibrated with images of its training split.
        options: More of Ultralytics' export arguments.

    Returns:
        (Path): The exported file or folder.

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
    """Bytes of a file, or of all files of a folder; of OpenVINO's .xml with its weights."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path, *path.rglob("*")]
    return sum(each.stat().st_size for each in files if each.is_file())


def _clear(folder: Path) -> None:
    """Throw away what killed exports left in a folder; younger drafts may be another command's."""
    for draft in folder.glob(".export_*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > STALE:
                shutil.rmtree(draft)


def _calibration(data: str | Path) -> tuple[str, list[tuple[str, int]]]:
    """What there is to know of the images that calibrate, without reading them."""
    from yolo_lite.datasets.images import training_files

    files = training_files(data)
    return str(data), [(str(file), file.stat().st_size) for file in files if file.is_file()]


def _int8_options(data: str | Path | None) -> dict[str, Any]:
    """Ultralytics' export arguments for int8, which its releases name differently."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    if data is None:
        return {}
    precision = {"quantize": 8} if "quantize" in DEFAULT_CFG_DICT else {"int8": True}
    return {**precision, "data": str(data), "split": "train"}


def _by_ultralytics(model: models.Opened, runtime: str, work: Path, imgsz: int, options: Mapping[str, Any]) -> Path:
    network = model.yolo.model
    before = getattr(network, "pt_path", None)
    # The exporter writes beside this, and exchanges the suffix wherever in the path it finds it: `.pt` is in many.
    network.pt_path = str(work / f"{Path(model.source).stem}.yolo_lite")
    try:
        with silent(), models.nothing_installed():
            made = model.yolo.export(format=RUNTIMES[runtime].format, imgsz=imgsz, device="cpu", **options)
    finally:
        network.pt_path = before
    return Path(made)


def _key(model: models.Opened, *settings: object) -> str:
    """A short word for all that an export depends on: other weights, code, size or release give another one."""
    from ultralytics import __version__ as release

    # Printed, the network lacks arguments like a shortcut; the YAML lacks what a registered module makes of its row.
    content = (model.digest, model.yolo.model, settings, release, _code())
    return hashlib.sha1(repr(content).encode()).hexdigest()[:8]


@functools.cache
def _code() -> str:
    """A digest of this package's own files, which stand in no version while they are worked on."""
    files = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return hashlib.sha1(b"".join(file.read_bytes() for file in files)).hexdigest()
