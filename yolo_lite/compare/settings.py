"""User settings of a comparison: our own settings and Ultralytics' training arguments, read, separated and checked."""

import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite import arguments, kinds, options
from yolo_lite.compare import latency
from yolo_lite.errors import ConfigError, UsageError, one_line, suggest
from yolo_lite.ultralytics_hooks.released import checkpoint

TAKEN = {  # training arguments that a comparison sets itself: what to use instead
    "model": "models=",
    "seed": "seeds=",
    "resume": "restart=True or the default, which continues",
    "exist_ok": "name=",
    "save_dir": "project= and name=",
    "mode": "no mode, since it trains",
    "cfg": "a YAML file as the first word",
}
STAYS = {"plots": False, "deterministic": True}  # defaults that the user may override
_OURS = {option.name for option in options.COMMANDS["compare"].options}
ALL = "all"  # key in seeds and image sizes for the models without an entry
SIZES = kinds.keyed(kinds.IMGSZ, "for each model")


@dataclass(frozen=True)
class Settings:
    """Checked user settings.

    Attributes:
        models: Names, YAML files or `.pt` files of the models.
        data: Path of the dataset's YAML file.
        baseline: Model that the others are compared with, as named by the user; None for the first.
        seeds: Seeds by model, as named by the user; `ALL` for the other models.
        split: Dataset split of the final metrics.
        match: Cost in which size-matched baselines equal their models, "gflops" or "latency"; None without them.
        match_for: Models that get a size-matched baseline, optionally with `:base`; empty for all.
        parallel: Number of runs at a time on this machine.
        restart: Whether interrupted runs are trained afresh instead of resumed.
        ray: Address of a Ray cluster; None without one.
        cpus, gpus: CPUs and GPUs per run on the cluster.
        latency: Whether to measure latency after the training.
        runtimes, threads: Runtimes and numbers of threads for latency; empty `runtimes` stand for all default ones
            installed.
        folder: Folder of the comparison.
        sizes: Height and width of the images, in pixels, by model as named by the user; `ALL` for the other models.
        train: Training arguments of Ultralytics as recorded, without `data`; `imgsz` is the largest image size.
    """

    models: tuple[str, ...]
    data: str
    baseline: str | None
    seeds: Mapping[str, tuple[int, ...]]
    split: str
    match: str | None
    match_for: tuple[str, ...]
    parallel: int
    restart: bool
    ray: str | None
    cpus: float
    gpus: float | None
    latency: bool
    runtimes: tuple[str, ...]
    threads: tuple[int, ...]
    folder: Path
    sizes: Mapping[str, int]
    train: Mapping[str, Any]


def read(settings: str | Path | Mapping[str, Any] | None = None, more: Mapping[str, Any] | None = None) -> Settings:
    """Read and check settings.

    Args:
        settings: Path of a YAML file or a dictionary with settings; None for none.
        more: Settings that override these.

    Raises:
        ConfigError: A setting is unknown, missing or invalid, or a package is missing.
    """
    given = arguments.given("compare", settings) | dict(more or {})
    check_names("compare", given, TAKEN)
    ours = arguments.checked("compare", {key: value for key, value in given.items() if key in _OURS})
    train = {key: value for key, value in given.items() if key not in _OURS}
    sizes = SIZES.check("imgsz", train["imgsz"]) if isinstance(train.get("imgsz"), dict) else {}
    train = checked_train({**train, "imgsz": max(sizes.values())} if sizes else train)
    seeds = ours["seeds"] if isinstance(ours["seeds"], dict) else {ALL: ours["seeds"]}
    folder = Path(ours.pop("project"), ours.pop("name")).absolute()
    ours["seeds"] = {name: tuple(each) for name, each in seeds.items()}
    ours |= {key: tuple(ours[key] or ()) for key in ("models", "match_for", "runtimes", "threads")}
    found = Settings(
        **ours, folder=folder, sizes=sizes or {ALL: train["imgsz"]}, train=train
    )  # every other option is a field
    _check_together(found)
    return found


def parse(words: Iterable[str], command: str = "compare") -> tuple[str | None, dict[str, Any]]:
    """Parse the words of a command line, `key=value` and at most one YAML file, into settings.

    Args:
        words: Words after the command.
        command: Name of a command that trains.

    Returns:
        (str | None, dict): The YAML file, if there is one, and the settings.

    Raises:
        ConfigError: A word is neither of them, or a value is invalid for its option.
    """
    from ultralytics.cfg import smart_value

    keys, files = arguments.split(command, words)
    wrong = [file for number, file in enumerate(files) if number > 0 or not file.endswith((".yaml", ".yml"))]
    if wrong:
        known = options.COMMANDS[command]
        raise UsageError(f"{command} expects {known.usage}, found {wrong[0]!r}; for example {known.example}")
    mine = {option.name for option in options.COMMANDS[command].options}
    train = {key: smart_value(word) for key, word in keys.items() if key not in mine}
    if ":" in keys.get("imgsz", ""):
        train["imgsz"] = SIZES.read(keys["imgsz"])
    ours = arguments.read(command, {key: word for key, word in keys.items() if key in mine})
    return files[0] if files else None, {**ours, **train}


def check_names(command: str, settings: Iterable[str], taken: Mapping[str, str]) -> None:
    """Check that settings are options of a command or training arguments.

    Args:
        command: Name of a command that trains.
        settings: Names of the settings.
        taken: Training arguments that the command sets itself, with what to use instead.

    Raises:
        ConfigError: A setting is unknown, or is set by the command itself.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    ours = [option.name for option in options.COMMANDS[command].options]
    known = [*ours, *(key for key in DEFAULT_CFG_DICT if key not in taken)]
    for key in settings:
        if key in ours:
            continue
        if key in taken:
            raise ConfigError(f"{key}= cannot be set for yolo-lite {command}; use {taken[key]}")
        if key not in known:
            raise ConfigError(f"unknown setting {key}={suggest(key, known)}")


def checked_train(train: Mapping[str, Any]) -> dict[str, Any]:
    """Let Ultralytics check its arguments; return those that the user gave and those that a comparison sets.

    Raises:
        ConfigError: Ultralytics refuses an argument, or models cannot be compared with it.
    """
    from ultralytics.cfg import get_cfg

    if train.get("task", "detect") != "detect":
        raise ConfigError(f"task={train['task']}: only detectors can be compared")
    if train.get("val") is False:
        raise ConfigError("val=False: the curves over the epochs need validation")
    if isinstance(train.get("epochs"), int):  # older releases of Ultralytics accept any integer
        kinds.whole().check("epochs", train["epochs"])
    try:
        checked = vars(get_cfg(overrides={**STAYS, **train}))
    except Exception as error:
        raise ConfigError(f"training arguments: {one_line(error)}") from None
    kinds.IMGSZ.check("imgsz", checked["imgsz"])
    if not isinstance(checked["batch"], int) or checked["batch"] < 1:
        raise ConfigError(
            f"batch has to be a whole number above 0, found {checked['batch']!r}; chosen by memory, it would differ "
            "between models"
        )
    if isinstance(checked["pretrained"], str):
        checked["pretrained"] = str(checkpoint(checked["pretrained"], "pretrained"))
    keys = {*STAYS, "epochs", "imgsz", "batch", *train} - {"task"}
    written: dict[str, Any] = json.loads(json.dumps({key: checked[key] for key in sorted(keys)}))
    return written


def _check_together(settings: Settings) -> None:
    """Check combinations of settings, and the packages that they need.

    Raises:
        ConfigError: Settings are incompatible, or a package is missing.
    """
    if settings.match and len({*settings.sizes.values()}) > 1:
        raise ConfigError(f"match={settings.match}: needs one imgsz for all models, found {dict(settings.sizes)}")
    if settings.match_for and settings.match is None:
        raise ConfigError(f"match_for={','.join(settings.match_for)}: needs match=gflops or match=latency")
    for package in ["scipy"] + (["ray"] if settings.ray else []):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"compare needs {package}: pip install {package}")
    if settings.latency:
        latency.runtimes_of(settings.runtimes)
