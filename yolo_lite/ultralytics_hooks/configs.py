"""Model YAMLs: where ours are, where Ultralytics' are, and how one is found by its name."""

import copy
import importlib
import re
from pathlib import Path

from yolo_lite.errors import suggest
from yolo_lite.ultralytics_hooks import checks, internals
from yolo_lite.ultralytics_hooks.dry_run import levels


def config_folder():
    """Return the folder with our configs: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "cfg"
    return inside if inside.is_dir() else package.parent / "cfg"


def configs():
    """Return the YAML files that we ship, by name."""
    return {path.name: path for path in sorted(config_folder().rglob("*.yaml"))}


def host_configs():
    """Return the model YAMLs of the installed Ultralytics, by stem."""
    folder = Path(importlib.import_module("ultralytics").__file__).parent / "cfg" / "models"
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def host_levels(d):
    """Return the level k (stride 2**k) of every backbone row's output in a stock model dictionary."""
    scale = next(iter(d.get("scales") or {"": None}))
    parse_model = internals.tasks().parse_model
    return levels(lambda d: parse_model(copy.deepcopy(d), 3, False), {**d, "scale": scale}, len(d["backbone"]))


def check_file(original):
    def find(file, *args, **kwargs):
        name = str(file).strip()
        shipped = configs().get(name) if name.endswith(".yaml") and not Path(name).exists() else None
        if shipped is None:
            return original(file, *args, **kwargs)
        return original(file, *args, **{**kwargs, "hard": False}) or str(shipped)

    return find


def check_cls_dataset(original):
    def find(dataset, *args, **kwargs):
        if str(dataset) == "shapes-cls":
            from yolo_lite.datasets.shapes import generate

            if not Path(dataset).is_dir():
                generate(original.__globals__["DATASETS_DIR"] / dataset, "classify")
        return original(dataset, *args, **kwargs)

    return find


def yaml_model_load(original):
    def load(path):
        tasks = internals.tasks()
        file = _find_model(path)
        d = checks.load(file, vars(tasks)) if file else None
        if d is None:
            try:
                return original(path)
            except FileNotFoundError as error:
                names = [name for name in configs() if name.startswith("yolo")]
                near = suggest(without_letter(Path(path).name), names)
                if not near.startswith("; did you mean"):
                    raise
                raise FileNotFoundError(f"{error}{near}") from None
        d["scale"] = tasks.guess_model_scale(path)
        d["yaml_file"] = str(path)
        if d.get("backbone_weights") == "None":  # as Ultralytics' own YAMLs write it
            d["backbone_weights"] = None
        checks.check(d, vars(tasks), file=True)
        if d.get("backbone_weights") is not None:
            from yolo_lite.ultralytics_hooks.weights_key import Request

            d["backbone_weights"] = Request(d["backbone_weights"])
        return d

    return load


def _find_model(path):
    """Find a model YAML: as named, then without its scale letter, then (a bare name) among the configs we ship.

    The host takes the letter out of the whole path, which turns `2nd_try/` into `2d_try/`; here only the file's name
    counts.
    """
    path = Path(str(path).strip())
    names = [path.name, without_letter(path.name)]
    for candidate in (path.with_name(name) for name in names):
        if candidate.is_file():
            return candidate
    return next((configs()[name] for name in names if name in configs()), None) if path.name == str(path) else None


def without_letter(name):
    return re.sub(r"^(.*?yolo(?:e-)?v?\d+)[nsmlx]", r"\1", name)
