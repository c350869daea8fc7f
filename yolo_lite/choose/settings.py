"""What the user gave a search: our own settings and Ultralytics' training arguments, read and checked."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite import arguments, options
from yolo_lite.bench.runtimes import check_runtimes
from yolo_lite.choose.candidates import BACKBONES, BASES
from yolo_lite.compare import settings as compare
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.files import is_file

TAKEN = {  # training arguments that a search decides itself: what to use instead
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
    """What the user gave, checked.

    Attributes:
        data: The dataset's YAML file.
        budget: Milliseconds that a model may take.
        runtime, threads, int8: What they are measured with.
        max_params: Millions of parameters that it may have, None for any number.
        max_size: Megabytes of float32 weights, likewise.
        bases, backbones: What candidates are made of.
        source: The trained model that they begin from, None for random weights.
        latency: A table of times measured elsewhere, None to measure here.
        hours: That the search may take.
        split: The split that the finalists are compared on.
        parallel: Runs side by side on this machine.
        ray, cpus, gpus: As for `yolo-lite compare`.
        folder: The search's folder.
        train: Ultralytics' training arguments; `epochs`, where given, are the finalists'.
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
        """The largest image size, pixels."""
        return int(self.train["imgsz"])


def read(settings: str | Path | Mapping[str, Any] | None = None, more: Mapping[str, Any] | None = None) -> Settings:
    """Read and check settings.

    Args:
        settings: The path of a YAML file, or a dictionary; None for none.
        more: Settings that go before those.

    Raises:
        ConfigError: One is unknown, missing, or has a value that it cannot have; a package is missing.
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
        ours["source"] = str(Path(ours["source"]).absolute())
    return Settings(**ours, folder=folder, train=train)


def _check(ours: Mapping[str, Any]) -> None:
    """Check what no single setting says."""
    from yolo_lite.discovery import families
    from yolo_lite.ultralytics_hooks.configs import stock_configs

    for package in ("optuna", "scipy"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"choose needs {package}: pip install {package}")
    for base in ours["bases"]:
        if base not in stock_configs():
            raise ConfigError(f"bases={base}: Ultralytics has no such model{suggest(base, stock_configs())}")
    for backbone in ours["backbones"]:
        if backbone not in families():
            raise ConfigError(f"backbones={backbone}: there is no such backbone{suggest(backbone, families())}")
    for key in ("source", "latency"):
        if ours[key] and not is_file(ours[key]):
            raise ConfigError(f"{key}={ours[key]}: there is no such file")
    if ours["latency"] is None:
        check_runtimes([ours["runtime"]], int8=ours["int8"])
