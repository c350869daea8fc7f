"""Models by name or file, and their exports: by Ultralytics' own exporter, complete or absent, kept in a folder."""

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from yolo_lite.bench.runtimes import RUNTIMES
from yolo_lite.errors import ConfigError, suggest, typed_line
from yolo_lite.output import silent

PIP = {
    "pnnx": "pnnx==20260526",
    "ai_edge_litert": "ai-edge-litert",
    "litert_torch": "litert-torch",
}  # how pip calls what Python imports
NO_INSTALL = "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS"
STALE = 86_400  # seconds after which an unfinished export is one that was killed
INT8 = ("onnxruntime", "openvino")  # the runtimes that we quantise for


class Model(NamedTuple):
    """A model to measure: built or loaded, or an exported file."""

    label: str
    path: Path
    yolo: object = None  # the `YOLO` object; None for an exported file
    parameters: int | None = None
    gflops: float | None = None


def check_runtimes(names, int8=False):
    """Refuse runtimes that do not exist or whose packages are not installed.

    Raises:
        ConfigError: There is such a one.
    """
    for name in names:
        if name not in RUNTIMES:
            raise ConfigError(f"unknown runtime {name!r}{suggest(name, RUNTIMES)}")
        lacking = missing(name, int8)
        if lacking:
            raise ConfigError(f"the runtime {name} needs {', '.join(lacking)}: pip install {' '.join(lacking)}")


def missing(runtime, int8=False):
    """Return the packages that a runtime and the export to it need and that are not installed, as pip calls them."""
    runtime, name = RUNTIMES[runtime], runtime
    needed = [runtime.package, *runtime.needs, *(["nncf"] if int8 and name == "openvino" else [])]
    return [PIP.get(package, package) for package in needed if importlib.util.find_spec(package) is None]


def load(label, name, imgsz):
    """Find a model by its name, YAML, checkpoint or exported file, and read it.

    Args:
        label: What to call it.
        name: `yolov8n` or `yolov8n.yaml` (built with random weights), a .pt, or an exported file or folder.
        imgsz: The image size that its cost is counted at, pixels.

    Returns:
        (Model): With its parameters and GFLOPs, except for an exported file.

    Raises:
        ConfigError: There is no such file, or it cannot be read.
    """
    path = Path(name)
    if not path.name:
        raise ConfigError(f"{name!r} names no model")
    if is_exported(name):
        if not path.exists():
            raise ConfigError(f"there is no file {path}")
        return Model(label, path)
    if path.suffix == ".pt":
        if not path.is_file():  # Ultralytics would look for it on the network
            raise ConfigError(f"there is no file {path}; without .pt, {path.stem} is built with random weights")
    elif path.suffix not in (".yaml", ".yml"):
        path = path.with_name(f"{path.name}.yaml")
    from ultralytics import RTDETR, YOLO

    from yolo_lite.cost import cost

    try:
        with silent(), nothing_installed():
            kind = RTDETR if "rtdetr" in path.stem else YOLO  # told by the name, as the `yolo` command does
            yolo = kind(str(path))
            return Model(label, path, yolo, *cost(yolo.model, imgsz))
    except ConfigError:
        raise
    except FileNotFoundError as error:
        near = re.search("; did you mean .*", str(error))
        raise ConfigError(f"there is no model {name!r}{near[0] if near else ''}") from None
    except Exception as error:
        raise ConfigError(f"{path} cannot be read as a model: {typed_line(error)}") from None


def is_exported(name):
    """Tell whether a name is that of an exported file."""
    return str(name).rstrip("/").endswith(tuple(suffix for runtime in RUNTIMES.values() for suffix in runtime.suffixes))


def is_random(name):
    """Tell whether a model of that name is built with random weights."""
    return not is_exported(name) and not str(name).endswith(".pt")


def export(model, runtime, folder, imgsz=640, data=None, **options):
    """Export a model for a runtime with Ultralytics' own exporter, unless the folder has the result already.

    Args:
        model: The `Model`.
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
    if model.yolo is None:
        return model.path
    suffix = RUNTIMES[runtime].suffixes[0]
    calibration = _calibration(data) if data else None
    digest = _digest(model, runtime, imgsz, calibration, options)
    name = f"{model.path.stem}-{imgsz}-{digest}{'_int8' if data else ''}{suffix}"
    target = Path(folder) / name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target.parent)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=target.parent) as work:
        try:
            if data and runtime == "onnxruntime":
                from yolo_lite.bench.int8 import quantise

                float_file = export(model, runtime, folder, imgsz, **options)
                made = quantise(float_file, Path(work) / name, data, imgsz)
            else:
                made = _host_export(model, runtime, Path(work), imgsz, data, options)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"{model.label} cannot be exported for {runtime}: {typed_line(error)}") from error
        os.replace(made, target)
    return target


def _clear(folder):
    """Throw away what killed exports left in a folder; younger drafts may be another command's."""
    for draft in folder.glob(".export_*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > STALE:
                shutil.rmtree(draft)


def _calibration(data):
    """What there is to know of the images that calibrate, without reading them."""
    from yolo_lite.bench.int8 import training_files

    files = training_files(data)
    return str(data), [(str(file), file.stat().st_size) for file in files if file.is_file()]


def _host_export(model, runtime, work, imgsz, data, options):
    from ultralytics.utils import DEFAULT_CFG_DICT

    if data:
        precision = {"quantize": 8} if "quantize" in DEFAULT_CFG_DICT else {"int8": True}
        options = {**options, **precision, "data": str(data), "split": "train"}
    before = getattr(model.yolo.model, "pt_path", None)
    # The exporter writes beside this, and exchanges the suffix wherever in the path it finds it: `.pt` is in many.
    model.yolo.model.pt_path = str(work / f"{model.path.stem}.yolo_lite")
    try:
        with silent(), nothing_installed():
            made = model.yolo.export(format=RUNTIMES[runtime].format, imgsz=imgsz, device="cpu", **options)
    finally:
        model.yolo.model.pt_path = before
    return Path(made)


def _digest(model, *settings):
    """A short word for all that an export depends on: other weights, code, size or release give another one."""
    from ultralytics import __version__ as host

    if model.path.suffix == ".pt":
        content = model.path.read_bytes()
    else:  # printed, the network lacks arguments like a shortcut, the YAML lacks the widths
        d = model.yolo.model.yaml
        rows = {key: value for key, value in d.items() if key not in ("yaml_file", "backbone_weights")}
        content = repr((model.yolo.model, rows)).encode()
    return hashlib.sha1(content + repr((settings, host, _code())).encode()).hexdigest()[:8]


@functools.cache
def _code():
    """A digest of this package's own files, which stand in no version while they are worked on."""
    files = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return hashlib.sha1(b"".join(file.read_bytes() for file in files)).hexdigest()


@contextlib.contextmanager
def nothing_installed():
    """Keep Ultralytics from installing packages that it misses; what is missing is said instead."""
    before = os.environ.get(NO_INSTALL)
    os.environ[NO_INSTALL] = "1"  # the only value that the oldest releases know
    try:
        yield
    finally:
        os.environ.pop(NO_INSTALL)
        if before is not None:
            os.environ[NO_INSTALL] = before


def size_of(path):
    """Bytes of a file, or of all files of a folder; of OpenVINO's .xml with its weights."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path, *path.rglob("*")]
    return sum(each.stat().st_size for each in files if each.is_file())
