"""Checkpoints that name yolo_lite classes: safe mode, newer releases, machines without yolo_lite."""

import importlib
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from yolo_lite._version import __version__
from yolo_lite.discovery import specs
from yolo_lite.errors import ConfigError, typed_line
from yolo_lite.files import is_file
from yolo_lite.ultralytics_hooks import internals
from yolo_lite_backbones import Distribution

if TYPE_CHECKING:
    from torch import nn

OURS = ("yolo_lite.", "yolo_lite_backbones.")  # prefixes of the paths of yolo_lite classes
VERSION_KEY = "yolo_lite_version"  # key in the model dictionary that a checkpoint stores
LARGEST = 2**26  # most bytes of a checkpoint's pickle, without tensors
# The length of the text after the key, in pickle protocols 2 to 5, and yolo_lite classes by module and name, in
# protocols up to 3; `torch.save` writes protocol 2.
_VERSION = re.compile(VERSION_KEY.encode() + rb"(?:q.|r.{4}|\x94)?(?:X(.{4})|\x8c(.))", re.DOTALL)
_CLASS = re.compile(rb"c(yolo_lite[\w.]*)\n(\w+)\n")


def name_distribution(layers: "nn.Sequential") -> None:
    """Make checkpoints of a model with yolo_lite layers name the distribution before any other yolo_lite class.

    Python pickles attributes in order, so this one has to come first.
    """
    if any(type(module).__module__.startswith(OURS) for module in layers.modules()):
        state = vars(layers)
        others = dict(state)
        state.clear()
        state.update({"distribution": Distribution, **others})


def torch_safe_load(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `torch_safe_load` that allows yolo_lite classes, and reports when a newer release made a checkpoint."""

    def load(weight: Any, safe_only: bool | None = None) -> Any:
        if safe_only or (safe_only is None and getattr(internals.tasks(), "SAFE_LOAD", False)):
            _allow_our_classes(weight)
        options = {} if safe_only is None else {"safe_only": safe_only}
        data = _pickled(weight)
        theirs = _version_of(data)
        if theirs is None or _order(theirs) <= _order(__version__):
            return original(weight, **options)
        said = f"{weight}: made with yolo_lite {theirs}, this is {__version__}; pip install -U yolo-lite-backbones"
        lacking = next(_lacking(data), None)
        if lacking is not None:  # before Ultralytics tries to install a package of that name
            raise ConfigError(f"{said} (there is no {lacking})")
        try:
            return original(weight, **options)
        except Exception as error:
            raise ConfigError(f"{said} ({typed_line(error)})") from None

    return load


def _pickled(weight: Any) -> bytes:
    """Return the raw pickle of a checkpoint, without tensors; empty if it does not mention yolo_lite."""
    try:
        if not is_file(weight):
            return b""
        with zipfile.ZipFile(weight) as archive:
            (entry,) = [each for each in archive.infolist() if each.filename.endswith("/data.pkl")]
            data = archive.read(entry) if entry.file_size <= LARGEST else b""
        return data if b"yolo_lite" in data else b""
    except Exception:  # missing, damaged or of another kind: Ultralytics reports it better
        return b""


def _version_of(data: bytes) -> str | None:
    found = _VERSION.search(data)
    if found is None:
        return None
    length = int.from_bytes(found[1] or found[2], "little")
    return data[found.end() : found.end() + min(length, 40)].decode("ascii", "ignore")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number[:9]) for number in re.findall(r"\d+", version)[:3])


def _lacking(data: bytes) -> Iterator[str]:
    """Yield the yolo_lite classes that a checkpoint names and this release lacks."""
    for module, name in sorted(set(_CLASS.findall(data))):
        path = f"{module.decode()}.{name.decode()}"
        try:
            getattr(importlib.import_module(module.decode()), name.decode())
        except (ImportError, AttributeError):
            yield path


def _allow_our_classes(weight: Any) -> None:
    """Mark the yolo_lite classes and registered modules that a checkpoint names as safe to load."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(weight)
    except Exception:  # missing or damaged: Ultralytics reports it better
        return
    if any(name.startswith(OURS) for name in names):
        registered = {f"{spec.cls.__module__}.{spec.cls.__qualname__}": spec.cls for spec in specs().values()}
        for name in names:
            module, _, attribute = name.rpartition(".")
            cls: Any = registered.get(name)
            if cls is None and name.startswith(OURS):
                cls = getattr(importlib.import_module(module), attribute, None)
            if isinstance(cls, type) and issubclass(cls, (torch.nn.Module, Distribution)):
                torch.serialization.add_safe_globals([cls])
