"""Model YAMLs: location of yolo_lite's and Ultralytics' own, and lookup by name."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolo_lite._version import __version__
from yolo_lite.errors import ConfigError, nearest, one_line
from yolo_lite.files import is_file
from yolo_lite.ultralytics_hooks import internals
from yolo_lite.ultralytics_hooks.checkpoints import VERSION_KEY
from yolo_lite.ultralytics_hooks.checks import check
from yolo_lite.ultralytics_hooks.dry_run import levels
from yolo_lite.ultralytics_hooks.reading import load


def config_folder() -> Path:
    """Return the folder of yolo_lite's configs: inside the package if installed, next to it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "cfg"
    return inside if inside.is_dir() else package.parent / "cfg"


def configs() -> dict[str, Path]:
    """Return the YAML files that yolo_lite ships, by name."""
    return {path.name: path for path in sorted(config_folder().rglob("*.yaml"))}


def stock_configs() -> dict[str, Path]:
    """Return the model YAMLs of the installed Ultralytics, by stem."""
    folder = Path(internals.find("ultralytics:__file__")).parent / "cfg" / "models"
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def stock_levels(d: dict[str, Any]) -> list[int]:
    """Return the output level k (stride 2**k) of every row except the head in a stock model dictionary."""
    return list(_levels(json.dumps({**d, "scale": next(iter(d.get("scales") or {"": None}))})))


@functools.cache
def _levels(d: str) -> tuple[int, ...]:
    """Return the levels of a model dictionary given as JSON, cached for processes that compose hundreds of models."""
    return tuple(levels(json.loads(d)))


# Wrappers, see hooks.py -----------------------------------------------------------------------------------------------


def check_file(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `check_file` that also finds the YAMLs that yolo_lite ships by their bare names."""

    def find(file: str | Path, *args: Any, **kwargs: Any) -> Any:
        name = str(file).strip()
        shipped = configs().get(name) if name.endswith(".yaml") else None
        if shipped is None or Path(name).exists():
            return original(file, *args, **kwargs)
        return original(file, *args, **{**kwargs, "hard": False}) or str(shipped)

    def suggesting(file: str | Path, *args: Any, **kwargs: Any) -> Any:
        try:
            return find(file, *args, **kwargs)
        except FileNotFoundError as error:
            near = nearest(Path(str(file)).name, [n for n, path in configs().items() if path.parent.name == "datasets"])
            if near is None:
                raise
            raise FileNotFoundError(f"{error}; did you mean {near!r}?") from None

    return suggesting


def check_cls_dataset(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `check_cls_dataset` that generates shapes-cls, since a classification dataset has no YAML to do so."""

    def find(dataset: str | Path, *args: Any, **kwargs: Any) -> Any:
        if str(dataset) == "shapes-cls" and not Path(dataset).is_dir():
            from yolo_lite.datasets.shapes import generate

            generate(internals.find("ultralytics.data.utils:DATASETS_DIR") / dataset, "classify")
        return original(dataset, *args, **kwargs)

    return find


def yaml_model_load(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a `yaml_model_load` that finds and checks yolo_lite's model YAMLs."""

    def read(path: str | Path) -> dict[str, Any]:
        tasks = internals.tasks()
        file = find_model(path)
        d = load(file, vars(tasks)) if file else None
        if d is None:
            try:
                return original(path)
            except FileNotFoundError:
                near = _near(Path(path))
                if near is None:
                    raise
                raise FileNotFoundError(f"{str(path)!r} does not exist; did you mean {near!r}?") from None
        d["scale"] = tasks.guess_model_scale(path)
        d["yaml_file"] = str(path)
        d[VERSION_KEY] = __version__
        if d.get("backbone_weights") == "None":  # as Ultralytics' own YAMLs write it
            d["backbone_weights"] = None
        check(d, vars(tasks), file=True)
        if d.get("backbone_weights") is not None:
            from yolo_lite.ultralytics_hooks.weights_key import Request

            d["backbone_weights"] = Request(d["backbone_weights"])
        return d

    return read


def find_model(path: str | Path) -> Path | None:
    """Find a model YAML: as named, then without its scale letter, then (for a bare name) among the shipped configs.

    Ultralytics removes the letter from the whole path, which turns `2nd_try/` into `2d_try/`; here only the file name
    is considered.
    """
    named = Path(str(path).strip())
    if named.suffix in (".yaml", ".yml") and _is_there(named) and not is_file(named):
        raise ConfigError(f"{one_line(named)}: is not a file; needed a model YAML")
    names = [named.name, without_letter(named.name)]
    for candidate in (named.with_name(name) for name in names):
        if is_file(candidate):
            return candidate
    if named.name != str(named):
        return None
    shipped = configs()
    return next((shipped[name] for name in names if name in shipped), None)


def _near(named: Path) -> str | None:
    """Return the nearest config name with the requested scale letter, and with its folder if the file is in it."""
    near = nearest(without_letter(named.name), [name for name in configs() if name.startswith("yolo")])
    if near is None:
        return None
    letter = re.match(r"yolo(?:e-)?v?\d+([nsmlx])", named.name)
    name = re.sub(r"^(yolov?\d+)", rf"\g<1>{letter[1]}", near) if letter else near
    return str(named.with_name(name)) if is_file(named.with_name(near)) else name


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def without_letter(name: str) -> str:
    """Return the name of a model YAML without its scale letter, as Ultralytics looks it up."""
    return re.sub(r"^(.*?yolo(?:e-)?v?\d+)[nsmlx]", r"\1", name)
