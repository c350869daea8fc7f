"""Latency of the compared models, measured with `yolo_lite.bench` while no training runs."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from yolo_lite import models as zoo
from yolo_lite.bench import interleaved
from yolo_lite.bench import runtimes as bench
from yolo_lite.errors import ConfigError
from yolo_lite.files import read_json
from yolo_lite.output import errors_only

SECONDS = 10  # measuring time per model and runtime
FILE = "latency.json"


@dataclass(frozen=True)
class Conditions:
    """Measuring conditions of all models.

    Attributes:
        classes: Number of classes that the models detect.
        imgsz: Height and width of the image, in pixels.
        runtimes, threads: Runtimes and numbers of threads; empty `runtimes` stand for all default ones installed.
        sizes: Image size of each model in pixels, by label, if they differ; else empty.
    """

    classes: int
    imgsz: int
    runtimes: Sequence[str]
    threads: Sequence[int]
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Latency of one model in one runtime, number of threads and precision; see `yolo_lite.bench.measurement`.

    `p50` and `p90` are in milliseconds, `size` is in bytes; `ratio` is relative to the first model's latency, with the
    95 % interval from `low` to `high`.
    """

    model: str
    runtime: str
    threads: int
    precision: str
    p50: float
    p90: float
    ratio: float
    low: float
    high: float
    size: int
    parameters: int | None = None
    gflops: float | None = None
    control: bool = False  # the first model measured again

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Row":
        """Create a row from plain data; before format 2 only the end of the name marked a control."""
        known = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        name = known["model"].removesuffix(" (again)")
        return cls(**known | {"model": name, "control": plain.get("control", name != known["model"])})

    @property
    def way(self) -> str:
        """Runtime, precision and number of threads as text, like `onnxruntime fp32 1 thread`."""
        return f"{self.runtime} {self.precision} {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Latency:
    """Measured latencies, with their conditions.

    Attributes:
        models: Digests of the models, by label.
        classes, imgsz, runtimes, threads: Measuring conditions, as in `Conditions`.
        seconds: Measuring time per model and runtime.
        sizes: Image size of each model in pixels, by label, if they differ; else empty.
        environment: Machine and versions.
        measurements: For each runtime and number of threads the models in order, then the first one again as control.
    """

    models: Mapping[str, str]
    imgsz: int
    runtimes: Sequence[str]
    threads: Sequence[int]
    environment: Mapping[str, str]
    measurements: Sequence[Row]
    classes: int | None = None
    seconds: float | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Latency":
        """Create a latency from the content of `latency.json`."""
        known = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        return cls(**known | {"measurements": [Row.from_plain(each) for each in plain.get("measurements", ())]})

    def to_plain(self) -> dict[str, Any]:
        """Return the content of `latency.json`."""
        return asdict(self)

    def of(self, label: str) -> list[Row]:
        """Return the measurements of a model, without the control."""
        return [row for row in self.measurements if row.model == label and not row.control]


def read(folder: Path) -> Latency | None:
    """Read the latency in a comparison's folder; None if it was not measured."""
    plain = read_json(folder / FILE)
    return None if plain is None else Latency.from_plain(plain)


def runtimes_of(wanted: Sequence[str]) -> list[str]:
    """Return the runtimes to measure: those requested, else the default ones that are installed.

    Raises:
        ConfigError: A runtime is unknown or lacks a package, or none is installed.
    """
    if wanted:
        bench.check_runtimes(list(wanted))
        return list(wanted)
    found = [name for name in bench.DEFAULT if not bench.missing(name)]
    if not found:
        lacking = " ".join(bench.missing(bench.DEFAULT[0]))
        raise ConfigError(f"latency needs {lacking}: pip install {lacking}, or set latency=False")
    return found


def measure(
    models: Sequence[zoo.Model],
    conditions: Conditions,
    say: Callable[[str], None] = lambda text: None,
    seconds: float = SECONDS,
) -> Latency:
    """Measure the latency of models, interleaved.

    Args:
        models: The models; the first one is measured twice, as a control.
        conditions: Measuring conditions.
        say: Callback that is given progress messages.
        seconds: Measuring time per model and runtime.
    """
    runtimes, threads = runtimes_of(conditions.runtimes), list(conditions.threads)
    with tempfile.TemporaryDirectory(prefix="yolo_lite_") as folder:
        files = {model.label: str(_checkpoint(model, conditions.classes, Path(folder))) for model in models}
        exports = Path(folder) / "exports"
        size = conditions.sizes or conditions.imgsz
        found = interleaved.measure(files, runtimes, threads, size, seconds, folder=exports, say=say)
    return Latency(
        models=_digests(models),
        classes=conditions.classes,
        imgsz=conditions.imgsz,
        seconds=seconds,
        sizes=conditions.sizes,
        runtimes=runtimes,
        threads=threads,
        environment=bench.environment(runtimes),
        measurements=[Row.from_plain(asdict(measurement)) for measurement in found],
    )


def _digests(models: Iterable[zoo.Model]) -> dict[str, str]:
    return {model.label: model.digest for model in models}


def _checkpoint(model: zoo.Model, classes: int, folder: Path) -> Path:
    """Write a checkpoint with random weights, which do not affect latency, and the dataset's classes, which do."""
    import torch

    built: Any
    with errors_only():
        built, _ = zoo.build(model.source, classes)
    path = folder / f"{model.label.removesuffix('.pt')}-{len(list(folder.iterdir()))}.pt"
    built.args = {}
    torch.save({"model": built, "train_args": {"task": "detect"}, "epoch": -1, "date": None}, path)
    return path


def is_current(old: Latency | None, models: Sequence[zoo.Model], conditions: Conditions) -> bool:
    """Return whether a latency was measured with these models, image sizes, runtimes and numbers of threads."""
    return (
        old is not None
        and old.models == _digests(models)
        and old.imgsz == conditions.imgsz
        and old.sizes == conditions.sizes
        and list(old.threads) == list(conditions.threads)
        and list(old.runtimes) == runtimes_of(conditions.runtimes)
    )
