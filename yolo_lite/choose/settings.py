"""User settings of a search: our own settings and Ultralytics' training arguments, read and checked."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite import arguments, options
from yolo_lite.bench.runtimes import check_runtimes
from yolo_lite.choose.candidates import BACKBONES, BASES, SCALES
from yolo_lite.compare import settings as compare
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.files import is_file
from yolo_lite.ultralytics_hooks.configs import stock_configs
from yolo_lite.ultralytics_hooks.released import checkpoint

TAKEN = {  # training arguments that a search sets itself: what to use instead
    "model": "bases= and backbones=",
    "seed": "no seed, since the finalists get several",
    "resume": "the same command again, which resumes",
    "exist_ok": "name=",
    "save_dir": "project= and name=",
    "mode": "no mode, since it trains",
    "cfg": "a YAML file as the first word",
    "pretrained": "source=",
}
_OURS = {option.name for option in options.COMMANDS["choose"].options}


@dataclass(frozen=True)
class Settings:
    """Checked user settings.

    Attributes:
        data: Path of the dataset's YAML file.
        budget: Maximum latency, in milliseconds.
        runtime, threads, int8: Runtime, number of threads and precision that latency is measured with.
        max_params: Maximum number of parameters, in millions; None for no limit.
        max_size: Maximum size of the float32 weights, in megabytes; None for no limit.
        bases, backbones: Names of the stock models and the backbones that candidates are made of.
        source: Path of the trained model that candidates start from; None for random weights.
        latency: Path of a table of latencies measured elsewhere; None to measure here.
        hours: Maximum duration of the search, in hours.
        split: Dataset split that the finalists are compared on.
        parallel: Number of runs at a time on this machine.
        ray, cpus, gpus: Address of a Ray cluster and the share of a run on it, as for `yolo-lite compare`.
        folder: Folder of the search.
        train: Training arguments of Ultralytics; `epochs`, if given, applies to the finalists.
    """

    data: str
    budget: float
    runtime: str
    threads: int
    int8: bool
    max_params: float | None
    max_size: float | None
    bases: tuple[str, ...]
    backbones: tuple[str, ...]
    source: str | None
    latency: str | None
    hours: float
    split: str
    parallel: int
    ray: str | None
    cpus: float
    gpus: float | None
    folder: Path
    train: Mapping[str, Any]

    @property
    def imgsz(self) -> int:
        """Largest image size, in pixels."""
        return int(self.train["imgsz"])


def read(settings: str | Path | Mapping[str, Any] | None = None, more: Mapping[str, Any] | None = None) -> Settings:
    """Read and check settings.

    Args:
        settings: Path of a YAML file or a dictionary with settings; None for none.
        more: Settings that override these.

    Raises:
        ConfigError: A setting is unknown, missing or invalid, or a package is missing.
    """
    given = arguments.given("choose", settings) | dict(more or {})
    compare.check_names("choose", given, TAKEN)
    ours = arguments.checked("choose", {key: value for key, value in given.items() if key in _OURS})
    train = {key: value for key, value in given.items() if key not in _OURS}
    if isinstance(train.get("imgsz"), dict):
        raise ConfigError("imgsz: one number, the largest; smaller ones are candidates")
    train = {key: value for key, value in compare.checked_train(train).items() if key != "epochs" or key in train}
    folder = Path(ours.pop("project"), ours.pop("name")).absolute()
    for key in ("bases", "backbones"):
        ours[key] = tuple(ours[key] or {"bases": BASES, "backbones": BACKBONES}[key])
    _check(ours)
    if ours["source"]:
        ours["source"] = str(_checked_source(ours["source"]))
    return Settings(**ours, folder=folder, train=train)


def _check(ours: Mapping[str, Any]) -> None:
    """Check that the packages, stock models, backbones, files and the runtime that are needed exist."""
    from yolo_lite.discovery import families

    for package in ("optuna", "scipy"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"choose needs {package}: pip install {package}")
    for base in ours["bases"]:
        if base not in stock_configs():
            raise ConfigError(f"bases={base}: Ultralytics has no such model{suggest(base, stock_configs())}")
        _check_base(base)
    for backbone in ours["backbones"]:
        if backbone not in families():
            raise ConfigError(f"backbones={backbone}: there is no such backbone{suggest(backbone, families())}")
    if ours["latency"] and not is_file(ours["latency"]):
        raise ConfigError(f"latency={ours['latency']}: there is no such file")
    if ours["latency"] is None:
        check_runtimes([ours["runtime"]], int8=ours["int8"])


def _check_base(base: str) -> None:
    """Check that a stock model is a detector whose scales include those of the candidates."""
    from ultralytics.nn.tasks import guess_model_task, yaml_model_load

    d = yaml_model_load(str(stock_configs()[base]))
    if (
        "-" in base
        or guess_model_task(d) != "detect"
        or d["head"][-1][2] != "Detect"
        or not {*SCALES} <= {*d.get("scales", ())}
    ):
        needed = f"needed a detector with scales {' and '.join(SCALES)}, such as {', '.join(BASES)}"
        raise ConfigError(f"bases={base}: {needed}")


def _checked_source(given: str) -> Path:
    """Return the path of the source, which has to be a trained detector.

    Raises:
        ConfigError: There is no such file, it cannot be read, or it is no detector that weights can be taken from.
    """
    from yolo_lite import models
    from yolo_lite.weights.transfer import check_head

    path = checkpoint(given, "source")
    found = models.load(path, 64).yolo
    if found.task != "detect":
        raise ConfigError(f"source={given}: its task is {found.task}; needed a detector")
    check_head(found.model, "source")
    return path
