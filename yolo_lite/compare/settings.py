"""What the user gave: our own settings and Ultralytics' training arguments, read, parted and checked."""

import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite import arguments, kinds, options
from yolo_lite.compare import latency
from yolo_lite.errors import ConfigError, UsageError, one_line, suggest
from yolo_lite.files import is_file

TAKEN = {  # training arguments that a comparison decides itself: what to use instead
    "model": "models=",
    "seed": "seeds=",
    "resume": "restart=True or the default, which continues",
    "exist_ok": "name=",
    "save_dir": "project= and name=",
    "mode": "no mode, since it trains",
    "cfg": "a YAML file as the first word",
}
STAYS = {"plots": False, "deterministic": True}  # unless the user says otherwise
_OURS = {option.name for option in options.COMMANDS["compare"].options}
ALL = "all"  # in seeds and image sizes: the models that have none of their own
SIZES = kinds.keyed(kinds.IMGSZ, "for each model")


@dataclass(frozen=True)
class Settings:
    """What the user gave, checked.

    Attributes:
        models: Names, YAML files or `.pt` files.
        data: The dataset's YAML file.
        baseline: The model that the others are compared with, as the user calls it; None for the first.
        seeds: By model, as the user calls it; `ALL` for the others.
        split: The split of the final figures.
        match: "gflops" or "latency", what size-matched baselines have in common with their models; None without them.
        match_for: The models that get one, each perhaps with `:base`; empty for all.
        parallel: Runs side by side on this machine.
        restart: Whether interrupted runs are trained afresh instead of resumed.
        ray: Address of a Ray cluster, None without one.
        cpus, gpus: The share of a run on the cluster.
        latency: Whether it is measured after the training.
        runtimes, threads: What latency is measured with; no runtimes are all that are installed.
        folder: The comparison's folder.
        sizes: Height and width of the images, pixels, by model, as the user calls it; `ALL` for the others.
        train: Ultralytics' training arguments as they are written down, all but `data`; `imgsz` is the largest.
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
        settings: The path of a YAML file, or a dictionary; None for none.
        more: Settings that go before those.

    Raises:
        ConfigError: One is unknown, missing, or has a value that it cannot have; a package is missing.
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
    """Turn the words of a command line, `key=value` and at most one YAML file, into settings.

    Args:
        words: Behind the command.
        command: That trains.

    Returns:
        (str | None, dict): The YAML file, and the settings.

    Raises:
        ConfigError: A word is neither, or no value of its option.
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
    """Refuse settings that are neither options of a command nor training arguments.

    Args:
        command: That trains.
        settings: Their names.
        taken: Training arguments that the command decides itself, and what to use instead.

    Raises:
        ConfigError: One is.
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
    """Let Ultralytics check its arguments; return those that the user gave, and what a comparison sets.

    Raises:
        ConfigError: It refuses one, or with it models could not be compared.
    """
    from ultralytics.cfg import get_cfg

    if train.get("task", "detect") != "detect":
        raise ConfigError(f"task={train['task']}: only detectors can be compared")
    if train.get("val") is False:
        raise ConfigError("val=False: the curves over the epochs need validation")
    if isinstance(train.get("epochs"), int):  # older releases of Ultralytics take any
        kinds.whole().check("epochs", train["epochs"])
    source = train.get("pretrained")
    if isinstance(source, str):
        if not is_file(source):
            raise ConfigError(f"pretrained={source}: there is no such file; nothing is downloaded")
        train = {**train, "pretrained": str(Path(source).absolute())}
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
    keys = {*STAYS, "epochs", "imgsz", "batch", *train} - {"task"}
    written: dict[str, Any] = json.loads(json.dumps({key: checked[key] for key in sorted(keys)}))
    return written


def _check_together(settings: Settings) -> None:
    """Check what no single setting says.

    Raises:
        ConfigError: Settings do not go together, or a package is missing.
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
