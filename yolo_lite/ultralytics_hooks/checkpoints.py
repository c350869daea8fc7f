"""Checkpoints that name classes of ours: safe mode, those of newer releases, machines on which we are missing."""

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

OURS = ("yolo_lite.", "yolo_lite_backbones.")  # how the paths of our classes begin
VERSION_KEY = "yolo_lite_version"  # in the model dictionary that a checkpoint stores
LARGEST = 2**26  # bytes of a checkpoint without its tensors
# The length of the text behind the key, and our classes by module and name, as pickles of protocol 2 to 5 write them.
_VERSION = re.compile(VERSION_KEY.encode() + rb"(?:q.|r.{4}|\x94)?(?:X(.{4})|\x8c(.))", re.DOTALL)
_CLASS = re.compile(rb"c(yolo_lite[\w.]*)\n(\w+)\n")


def name_distribution(layers: "nn.Sequential") -> None:
    """Let a model's checkpoints name our distribution before any class of ours, where its layers have one.

    Python pickles attributes in their order, so this one has to be the first.
    """
    if any(type(module).__module__.startswith(OURS) for module in layers.modules()):
        state = vars(layers)
        others = dict(state)
        state.clear()
        state.update({"distribution": Distribution, **others})


def torch_safe_load(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `torch_safe_load` that knows our classes, and names a newer release that made a checkpoint."""

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
    """Return what a checkpoint holds besides tensors, as it stands in the file; nothing where it has none of ours."""
    try:
        if not is_file(weight):
            return b""
        with zipfile.ZipFile(weight) as archive:
            (entry,) = [each for each in archive.infolist() if each.filename.endswith("/data.pkl")]
            data = archive.read(entry) if entry.file_size <= LARGEST else b""
        return data if b"yolo_lite" in data else b""
    except Exception:  # missing, damaged or of another kind: Ultralytics says so better
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
    """Yield the classes of ours that a checkpoint names and this release lacks."""
    for module, name in sorted(set(_CLASS.findall(data))):
        path = f"{module.decode()}.{name.decode()}"
        try:
            getattr(importlib.import_module(module.decode()), name.decode())
        except (ImportError, AttributeError):
            yield path


def _allow_our_classes(weight: Any) -> None:
    """List the classes of ours, and of registered modules, that a checkpoint names as safe to load."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(weight)
    except Exception:  # missing or damaged: Ultralytics says so better
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
