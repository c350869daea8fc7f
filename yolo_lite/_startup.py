"""Registers yolo_lite with Ultralytics, whenever Ultralytics is imported: all that runs when Python starts.

The line in `yolo_lite.pth` (PEP 829: `yolo_lite.start`) calls `install`, which puts one finder on `sys.meta_path` and
returns. The finder waits for the modules in `HOSTS` and hands each to `ultralytics_hooks.hooks` once it is loaded. This
file imports the standard library's already loaded modules only; whatever goes wrong here is reported in one line and
leaves Ultralytics as it is. `YOLO_LITE_HOOK=0` switches the start-up registration off.
"""

import os
import sys

HOSTS = ("ultralytics.nn.tasks", "ultralytics.data.utils")  # each by itself, since they import each other
failure = None  # why the registration did not work, for `yolo-lite doctor`


class _Finder:
    """Finds nothing itself: lets the other finders find the host, and adds our step to its loading."""

    searching = False

    def find_spec(self, name, path=None, target=None):
        if name not in HOSTS or self.searching:
            return None
        self.searching = True
        try:
            spec = next(filter(None, (finder.find_spec(name, path, target) for finder in sys.meta_path)), None)
        finally:
            self.searching = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            load = spec.loader.exec_module

            def load_and_register(module):
                load(module)
                _hand_over(module)

            spec.loader.exec_module = load_and_register
        return spec


def install():
    """Register at start-up, unless `YOLO_LITE_HOOK=0` says not to; never raises."""
    if os.environ.get("YOLO_LITE_HOOK") == "0":
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder) is not _Finder]
        for name in [name for name in sys.modules if name.partition(".")[0] == "yolo_lite"]:
            del sys.modules[name]  # so that an explicit `import yolo_lite` later on still registers
    else:
        register()


def register():
    """Register with Ultralytics now if it is loaded, or else as soon as it is."""
    for name in HOSTS:
        host = sys.modules.get(name)
        if host is not None and not getattr(host.__spec__, "_initializing", False):
            _hand_over(host)
        elif not active():
            sys.meta_path.insert(0, _Finder())


def active():
    """Tell whether the finder is in place."""
    return any(type(finder) is _Finder for finder in sys.meta_path)


def _hand_over(host):
    global failure
    try:
        from yolo_lite.ultralytics_hooks import hooks

        hooks.install(host)
    except Exception as error:  # stock Ultralytics has to go on, whatever is wrong with us
        said, failure = failure, f"{type(error).__name__}: {error}"
        if failure == said:
            return
        print(
            f"yolo_lite: not registered with Ultralytics ({failure}); stock models work as always. "
            "`yolo-lite doctor` says more.",
            file=sys.stderr,
        )
