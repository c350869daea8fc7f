"""Registers yolo_lite with Ultralytics, whenever Ultralytics is imported: all that runs when Python starts.

The line in `yolo_lite.pth` (PEP 829: `yolo_lite.start`) calls `install`, which puts one finder on `sys.meta_path` and
returns. The finder waits for the modules in `AWAITED` and hands each to `ultralytics_hooks.hooks` once it is loaded.
This file imports the standard library's already loaded modules only; whatever goes wrong here is reported in one line
and leaves Ultralytics as it is. `YOLO_LITE_HOOK=0` switches the start-up registration off.
"""

import os
import sys

TYPE_CHECKING = False  # as `typing` has it, without importing that
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

AWAITED = (  # each by itself, since they import each other
    "ultralytics.nn.tasks",
    "ultralytics.data.utils",
    "ultralytics.engine.trainer",
)
failure: str | None = None  # why the registration did not work, for `yolo-lite doctor`


class _Finder:
    """Finds nothing itself: lets the other finders find Ultralytics, and adds our step to its loading."""

    def __init__(self) -> None:
        self.searching: set[str] = set()  # another thread may be at another module

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in AWAITED or name in self.searching:
            return None
        self.searching.add(name)
        try:
            finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]  # not those of Python 2
            spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        finally:
            self.searching.discard(name)
        loader = spec.loader if spec is not None else None
        if (
            spec is not None
            and loader is not None
            and hasattr(loader, "exec_module")
            and hasattr(loader, "create_module")
        ):
            spec.loader = _Loader(loader)  # type: ignore[assignment]  # a loader by its methods
        return spec


class _Loader:
    """Loads a module by its own loader, which may load others too, steps back for it, and hands the module over."""

    def __init__(self, loader: "Loader") -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        return self.loader.create_module(spec)

    def exec_module(self, module: "ModuleType") -> None:
        for owner, name in ((module, "__loader__"), (module.__spec__, "loader")):
            if getattr(owner, name, None) is self:
                setattr(owner, name, self.loader)
        self.loader.exec_module(module)
        _hand_over(module)


def install() -> None:
    """Register at start-up, unless `YOLO_LITE_HOOK=0` says not to; never raises."""
    if os.environ.get("YOLO_LITE_HOOK") == "0":
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder) is not _Finder]
        for name in [name for name in sys.modules if name.partition(".")[0] == "yolo_lite"]:
            del sys.modules[name]  # so that an explicit `import yolo_lite` later on still registers
    else:
        register()


def register() -> None:
    """Register with Ultralytics now if it is loaded, or else as soon as it is."""
    for name in AWAITED:
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _hand_over(module)
        elif not active():
            sys.meta_path.insert(0, _Finder())


def active() -> bool:
    """Tell whether the finder is in place."""
    return any(type(finder) is _Finder for finder in sys.meta_path)


def _hand_over(module: "ModuleType") -> None:
    global failure
    try:
        from yolo_lite.ultralytics_hooks import hooks

        hooks.install(module)
    except Exception as error:  # stock Ultralytics has to go on, whatever is wrong with us
        said, failure = failure, f"{type(error).__name__}: {error}"
        if failure == said:
            return
        try:  # noqa: SIM105, contextlib need not be loaded yet
            print(
                f"yolo_lite: not registered with Ultralytics ({failure}); stock models work as before. "
                "`yolo-lite doctor` says more.",
                file=sys.stderr,
            )
        except Exception:  # nowhere to say it
            pass
