"""Discover the registered modules, once and under a lock: built-in, from entry points and defined by the user."""

import importlib
import os
import pkgutil
import threading
import warnings
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from yolo_lite import registry
from yolo_lite.errors import one_line

if TYPE_CHECKING:
    from yolo_lite.backbones._stage import Stage

ENTRY_POINTS = "yolo_lite.modules"

# Only one thread at a time may import modules or build a model: a partly imported module has registered only some of
# its classes.
one_at_a_time = threading.RLock()
if hasattr(os, "register_at_fork"):  # a process forked while the lock is held would deadlock
    os.register_at_fork(
        before=one_at_a_time.acquire, after_in_parent=one_at_a_time.release, after_in_child=one_at_a_time.release
    )
_found = False
_failures: dict[str, str] = {}


def specs() -> dict[str, registry.Spec]:
    """Return all registered modules by name: built-in ones, those of installed entry points, and the user's own."""
    global _found
    if not _found:
        with one_at_a_time:
            if not _found:
                _import_ours()
                _import_entry_points()
                _found = True  # only after all imports, since it is checked without the lock
    return registry.registered()


def families() -> dict[str, "type[Stage]"]:
    """Return the stage class of every native backbone, by the backbone's name."""
    from yolo_lite.backbones._stage import Stage  # imported here, since it needs torch

    stages = [spec.cls for spec in specs().values() if issubclass(spec.cls, Stage)]
    return {variant: stage for stage in stages for variant in stage.variants}


def failures() -> dict[str, str]:
    """Return the errors of entry points that failed to load, keyed by entry point and package."""
    specs()
    return dict(_failures)


def _import_ours() -> None:
    for module in ("yolo_lite.necks", "yolo_lite.heads"):
        importlib.import_module(module)
    package = importlib.import_module("yolo_lite.backbones")
    for found in pkgutil.iter_modules(package.__path__, "yolo_lite.backbones."):
        importlib.import_module(found.name)


def _import_entry_points() -> None:
    """Import the modules of other packages' entry points; one that fails only causes a warning."""
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:
            owner = entry.dist.name if entry.dist else "unknown"
            name = f"{entry.name} = {entry.value} of the package {owner}"
            _failures[name] = f"{type(error).__name__}: {one_line(error)}"
            warnings.warn(f"yolo_lite: the entry point {name} failed: {_failures[name]}", stacklevel=2)
