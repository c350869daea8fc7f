"""yolo_lite: lightweight backbones for Ultralytics YOLO, used with the stock `yolo` command.

Importing this package registers its modules with Ultralytics (now, or as soon as Ultralytics is imported) and loads
nothing else: the public names below are imported lazily, on first use.
"""

from yolo_lite import _startup

TYPE_CHECKING = False  # same as `typing.TYPE_CHECKING`, without importing `typing`
if TYPE_CHECKING:
    from yolo_lite._version import __version__ as __version__
    from yolo_lite.compose.make import make as make
    from yolo_lite.errors import ConfigError as ConfigError
    from yolo_lite.registry import register as register
    from yolo_lite.registry import same as same
    from yolo_lite.registry import scaled as scaled
    from yolo_lite.zoo import create_backbone as create_backbone
    from yolo_lite.zoo import list_backbones as list_backbones

_PUBLIC = {  # public name -> module that defines it
    "__version__": "yolo_lite._version",
    "ConfigError": "yolo_lite.errors",
    "register": "yolo_lite.registry",
    "same": "yolo_lite.registry",
    "scaled": "yolo_lite.registry",
    "create_backbone": "yolo_lite.zoo",
    "list_backbones": "yolo_lite.zoo",
    "make": "yolo_lite.compose.make",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


_startup.register()
