"""`yolo-lite doctor`: check the installation, and give advice on problems."""

import importlib.metadata
import os
import platform
import site
import subprocess
import sys
import tempfile
import warnings

from yolo_lite import torch_build
from yolo_lite.arguments import parse
from yolo_lite.environment import DISTRIBUTION, installed_version
from yolo_lite.torch_build import Line

REPOSITORY = "git+https://github.com/yolo-lite/yolo-lite"
MARKS = {True: "ok", None: "warn", False: "FAIL"}
_AGAIN = f"Reinstall it alone: pip install --force-reinstall --no-deps {REPOSITORY}"
_ELSEWHERE = "Python reads start-up files only in its site folders, here"
_PROBE = "import ultralytics.nn.tasks as tasks; print(hasattr(tasks.parse_model, 'yolo_lite'))"


def main(words: list[str]) -> int:
    """Print the results of the checks; return exit status 0 if none failed."""
    parse("doctor", words)
    return 0 if run() else 1


def run() -> bool:
    """Print one line per check, followed by advice if there is any.

    Returns:
        (bool): Whether yolo_lite works with the stock `yolo` command, i.e. no check failed; warnings do not count.
    """
    for name in ("ultralytics", "torch", "torchvision", "timm", DISTRIBUTION):
        print(f"      {name} {installed_version(name) or 'is not installed'}")
    print(f"      Python {platform.python_version()}, {platform.platform()}")
    healthy = True
    own = (_release(), _startup_file(), _active(), _parser(), _entry_points())
    for good, text, advice in (*torch_build.check(), *own):
        print(f"{MARKS[good]:4}  {text}")
        if advice:
            print(f"      {advice}")
        healthy &= good is not False
    return healthy


def _release() -> Line:
    from yolo_lite.ultralytics_hooks import internals

    def number(text: str) -> list[int]:
        return [int("".join(filter(str.isdigit, part)) or 0) for part in text.split(".")[:3]]

    first, last = internals.TESTED
    here = number(internals.version())
    text = f"Ultralytics {internals.version()}; tested with {first} to {last}"
    if here < number(first):
        return False, text, f"Too old: pip install 'ultralytics>={first}'"
    if here > number(last):
        return None, text, "Newer than what was tested; the checks below show whether it works."
    return True, text, ""


def _startup_file() -> Line:
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [str(file.locate()) for file in files if file.name in ("yolo_lite.pth", "yolo_lite.start")]
    folders = {os.path.realpath(each) for each in (*site.getsitepackages(), site.getusersitepackages())}
    elsewhere = {os.path.dirname(each) for each in found if os.path.dirname(os.path.realpath(each)) not in folders}
    if elsewhere:
        text = f"the start-up files are in {', '.join(sorted(elsewhere))}, where Python does not look for them"
        return (
            False,
            text,
            f"{_ELSEWHERE} {', '.join(sorted(folders))}: install without --target, or import yolo_lite first.",
        )
    if found and all(map(os.path.exists, found)):
        return True, f"start-up files: {', '.join(found)}", ""
    return False, "the start-up files are missing", _AGAIN


def _active() -> Line:
    with tempfile.TemporaryDirectory() as elsewhere:  # a folder from which no checkout can be imported by accident
        probe = subprocess.run([sys.executable, "-c", _PROBE], cwd=elsewhere, capture_output=True, text=True)
    if probe.stdout.strip().endswith("True"):
        return True, "a fresh interpreter registers yolo_lite's modules with Ultralytics", ""
    text = "a fresh interpreter does not register yolo_lite's modules with Ultralytics"
    if os.environ.get("YOLO_LITE_HOOK") == "0":
        return False, text, "YOLO_LITE_HOOK=0 switches it off: unset it, or `import yolo_lite` in your own code."
    reason = probe.stderr.strip().splitlines()
    return False, text, reason[-1] if reason else _AGAIN


def _parser() -> Line:
    from ultralytics.nn import tasks

    from yolo_lite.errors import ConfigError
    from yolo_lite.ultralytics_hooks import parser

    try:
        parser.patch(getattr(tasks.parse_model, "__wrapped__", tasks.parse_model))
    except ConfigError as error:
        return False, "Ultralytics' model parser cannot be patched", str(error)
    return True, "Ultralytics' model parser can be patched for yolo_lite's modules", ""


def _entry_points() -> Line:
    from yolo_lite import discovery

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # failures are reported below
        broken = discovery.failures()
    if not broken:
        return True, "no broken entry points of other packages", ""
    text = "; ".join(f"the entry point {name} failed: {reason}" for name, reason in broken.items())
    return False, text, "yolo_lite's own models work. Update or uninstall the package that is named."
