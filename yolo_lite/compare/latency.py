"""Latency of the compared models, by `yolo_lite.bench`, when no training runs."""

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

SECONDS = 10  # for each model, in each runtime
FILE = "latency.json"


@dataclass(frozen=True)
class Conditions:
    """What all models are measured with.

    Attributes:
        classes: How many they detect.
        imgsz: Height and width of the image, pixels.
        runtimes, threads: What latency is measured with; no runtimes are all that are installed.
        sizes: Of the images by label, where they differ.
    """

    classes: int
    imgsz: int
    runtimes: Sequence[str]
    threads: Sequence[int]
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One model in one runtime, with one number of threads and one precision; see `yolo_lite.bench.measurement`.

    Milliseconds `p50` and `p90`; `ratio` to the first model's time, with its 95 % interval; `size` in bytes.
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
    control: bool = False  # the first model once more

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Row":
        """Read a measurement; before format 2 a control was one by the end of its name."""
        known = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        name = known["model"].removesuffix(" (again)")
        return cls(**known | {"model": name, "control": plain.get("control", name != known["model"])})

    @property
    def way(self) -> str:
        """What this way of measuring is called, `onnxruntime fp32 1 thread`."""
        return f"{self.runtime} {self.precision} {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Latency:
    """What was measured, how and where.

    Attributes:
        models: The digests of the models, by label.
        classes, imgsz, seconds, runtimes, threads, sizes: What was measured with; seconds for each model in each
            runtime, sizes of the images by label where they differ.
        environment: The machine and versions.
        measurements: The models in order, for each runtime and number of threads, at last the first one again.
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
        """Read what `latency.json` holds."""
        known = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        return cls(**known | {"measurements": [Row.from_plain(each) for each in plain.get("measurements", ())]})

    def to_plain(self) -> dict[str, Any]:
        """Return it as it stands in `latency.json`."""
        return asdict(self)

    def of(self, label: str) -> list[Row]:
        """Return a model's measurements, without those of the control."""
        return [row for row in self.measurements if row.model == label and not row.control]


def read(folder: Path) -> Latency | None:
    """Return the latency that a comparison's folder holds, None where it was not measured."""
    plain = read_json(folder / FILE)
    return None if plain is None else Latency.from_plain(plain)


def runtimes_of(wanted: Sequence[str]) -> list[str]:
    """Return the runtimes that are measured: those asked for, else those installed.

    Raises:
        ConfigError: One is unknown, or lacks a package.
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
    """Time models against each other, interleaved.

    Args:
        models: The first one is measured twice, as a control.
        conditions: What to measure with.
        say: Called with lines of text on the way.
        seconds: For each model, in each runtime.
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
    """Write a model with random weights, which do not change the time, but with the dataset's classes, which do."""
    import torch

    built: Any
    with errors_only():
        built, _ = zoo.build(model.source, classes)
    path = folder / f"{model.label.removesuffix('.pt')}-{len(list(folder.iterdir()))}.pt"
    built.args = {}
    torch.save({"model": built, "train_args": {"task": "detect"}, "epoch": -1, "date": None}, path)
    return path


def is_current(old: Latency | None, models: Sequence[zoo.Model], conditions: Conditions) -> bool:
    """Tell whether a measured latency is that of these models under these conditions."""
    return (
        old is not None
        and old.models == _digests(models)
        and old.imgsz == conditions.imgsz
        and old.sizes == conditions.sizes
        and list(old.threads) == list(conditions.threads)
        and list(old.runtimes) == runtimes_of(conditions.runtimes)
    )
