"""Describe what a result depends on besides the code: the machine and the package versions."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from yolo_lite._version import __version__

DISTRIBUTION = "yolo-lite-backbones"
PACKAGES = ("ultralytics", "torch", "torchvision", "timm", "numpy", "opencv-python")


class Machine(TypedDict, total=False):
    """Description of a machine; `threads` and `gpus` are only present if torch is loaded."""

    processor: str
    cores: int | None
    threads: int
    gpus: list[str]
    system: str


def machine() -> Machine:
    """Return a description of this machine."""
    found: Machine = {"processor": processor(), "cores": os.cpu_count(), "system": system()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python, yolo_lite and the given packages (distribution names) that are installed."""
    found = {"python": platform.python_version(), "yolo_lite": __version__}
    for name in packages:
        installed = installed_version(name)
        if installed is not None:
            found[name] = installed
    return found


def in_words(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return machine and versions as short texts for the note below a table."""
    found = versions(packages)
    python = found.pop("python")
    words = {"CPU": processor(), "cores": str(os.cpu_count()), "system": f"{system()}, Python {python}"}
    return {**words, **found}


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def system() -> str:
    """Return the names of the operating system and the machine architecture, like `Linux x86_64`."""
    return f"{platform.system()} {platform.machine()}"


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
