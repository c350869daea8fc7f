"""Check for file names that Ultralytics would mistake for another model."""

import re
from pathlib import Path

from yolo_lite.errors import ConfigError
from yolo_lite.ultralytics_hooks import configs

OTHER_MODELS = ("yoloe", "-world", "fastsam", "sam_", "sam2")  # name parts by which Ultralytics recognises them
VERSION = r"yolo(?:e-)?v?\d+"


def check_out(path: Path, base: str, exist_ok: bool) -> None:
    """Refuse a path that cannot be written, or a file name that Ultralytics would misinterpret.

    Args:
        path: Path of the file to write.
        base: Name of the base.
        exist_ok: Whether an existing file may be overwritten.

    Raises:
        ConfigError: The path or name is not usable; the message suggests another name if there is one.
    """
    fault = _fault_of_place(path, exist_ok) or _fault_of_name(path, base)
    if fault:
        raise ConfigError(f"out={path}: {fault}")
    if "rtdetr" not in base and not re.search(VERSION, path.stem):
        from ultralytics.utils import LOGGER

        LOGGER.warning(
            f"out={path}: with this name the first scale is always used; one like {base}-{path.stem}.yaml lets "
            f"model={base}s-{path.stem}.yaml choose the scale"
        )


def _fault_of_place(path: Path, exist_ok: bool) -> str:
    if path.suffix != ".yaml":
        return "has to end in .yaml"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "is a folder"
    if path.exists() and not exist_ok:
        return "exists already; choose another name, or give exist_ok=True"
    return ""


def _fault_of_name(path: Path, base: str) -> str:
    if ("rtdetr" in base) != ("rtdetr" in path.stem):
        wanted = f"a name with rtdetr, like {base}-my.yaml" if "rtdetr" in base else "a name without rtdetr"
        return f"Ultralytics recognises RT-DETR by the file's name; use {wanted}"
    other = next((each for each in OTHER_MODELS if each in path.stem.lower()), None)
    if other:
        return f"Ultralytics takes {other!r} in a name for another kind of model; leave it out"
    letter = re.search(rf"{VERSION}([nslmx])", path.stem)
    if letter:
        before, after = path.name[: letter.start(1)], path.name[letter.end(1) :]
        use = before + (after if after.startswith(("-", ".", "_")) else f"-{letter[1]}{after}")
        reads = f"Ultralytics would read the scale letter {letter[1]!r} out of this name"
        return f"{reads}; use {use}, and name the letter in model="
    if path.stem in configs.stock_configs():
        return f"would hide Ultralytics' own {path.name}; choose a name like {path.stem}-my.yaml"
    return ""
