"""Start-up code: register yolo_lite with Ultralytics as soon as Ultralytics is imported.

The line in `yolo_lite.pth` (PEP 829: `yolo_lite.start`) calls `install`, which inserts one finder into `sys.meta_path`
and returns; nothing else runs at interpreter start-up. The finder waits for the modules in `AWAITED` and passes each
to `ultralytics_hooks.hooks` once it is loaded. This file imports only standard-library modules that are already
loaded. Any failure is reported in one line and leaves Ultralytics unchanged. `YOLO_LITE_HOOK=0` disables the start-up
registration.
"""

import os
import sys

TYPE_CHECKING = False  # same as `typing.TYPE_CHECKING`, without importing `typing`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

AWAITED = (  # each is hooked separately, since they import each other
    "ultralytics.nn.tasks",
    "ultralytics.data.utils",
    "ultralytics.engine.trainer",
)
failure: str | None = None  # why the registration failed, for `yolo-lite doctor`


class _Finder:
    """Meta path finder that delegates the search to the other finders and wraps the loader of the awaited modules."""

    def __init__(self) -> None:
        self.searching: set[str] = set()  # a set, since another thread may be importing another module

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in AWAITED or name in self.searching:
            return None
        self.searching.add(name)
        try:
            finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]  # skip Python 2 finders
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
            spec.loader = _Loader(loader)  # type: ignore[assignment]  # a loader by duck typing
        return spec


class _Loader:
    """Loader wrapper that restores the module's original loader, executes the module and then installs our hooks."""

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
    """Register at start-up unless `YOLO_LITE_HOOK=0` is set; never raises."""
    if os.environ.get("YOLO_LITE_HOOK") == "0":
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder) is not _Finder]
        for name in [name for name in sys.modules if name.partition(".")[0] == "yolo_lite"]:
            del sys.modules[name]  # so that a later explicit `import yolo_lite` still registers
    else:
        register()


def register() -> None:
    """Register with Ultralytics now if it is loaded, otherwise as soon as it is imported."""
    for name in AWAITED:
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _hand_over(module)
        elif not active():
            sys.meta_path.insert(0, _Finder())


def active() -> bool:
    """Return whether the finder is installed in `sys.meta_path`."""
    return any(type(finder) is _Finder for finder in sys.meta_path)


def _hand_over(module: "ModuleType") -> None:
    global failure
    try:
        from yolo_lite.ultralytics_hooks import hooks

        hooks.install(module)
    except Exception as error:  # stock Ultralytics has to keep working, whatever fails here
        said, failure = failure, f"{type(error).__name__}: {error}"
        if failure == said:
            return
        try:  # noqa: SIM105, contextlib need not be loaded yet
            print(
                f"yolo_lite: not registered with Ultralytics ({failure}); stock models work as before. "
                "`yolo-lite doctor` says more.",
                file=sys.stderr,
            )
        except Exception:  # stderr is not writable
            pass
