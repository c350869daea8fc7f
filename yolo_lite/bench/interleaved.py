"""Interleaved latency measurement of several models.

The speed of a machine drifts: the same model may take a fifth longer a minute later. Therefore the models of one
runtime run interleaved, one image per model and round, in an order that is shuffled each round, and the ratios within
a round are compared. The first model is measured twice, as two models: its ratio to itself (the control) shows which
differences are not significant.
"""

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from yolo_lite import kinds
from yolo_lite import models as zoo
from yolo_lite.bench.export import Exported, Subject, export, load, size_of
from yolo_lite.bench.measurement import Measurement, Precision, median_interval, threads_in_words
from yolo_lite.bench.process import Conditions, Entry, Say, time_in_process
from yolo_lite.bench.runtimes import RUNTIMES, check_runtimes, is_exported
from yolo_lite.errors import ConfigError

Names = Sequence[str | Path] | Mapping[str, str | Path]
Size = int | Mapping[str, int]  # height and width of the images, pixels, for all models or by label
Keep = Callable[[list[Measurement]], None]


def measure(
    models: Names,
    runtimes: Iterable[str] = ("onnxruntime",),
    threads: Iterable[int] = (1,),
    imgsz: Size = 640,
    seconds: float = 10,
    folder: str | Path | None = None,
    data: str | Path | None = None,
    say: Say = lambda text: None,
    keep: Keep = lambda measurements: None,
) -> list[Measurement]:
    """Measure the latency of models, interleaved, in one process per runtime and number of threads.

    Args:
        models: List of names, or names by label: YAMLs (random weights, which do not change the latency), .pt or
            exported files. All are compared with the first.
        runtimes: Names in `RUNTIMES`.
        threads: Numbers of threads.
        imgsz: Height and width of the image, pixels, for all models or by label.
        seconds: Duration of the measurement per model in each process; at least 20 rounds are run.
        folder: Folder that caches the exports; None for a temporary one.
        data: Dataset YAML to measure int8 too, calibrated with its training images; None for no int8.
        say: Function that is called with status lines; progress lines end in `\\r`.
        keep: Function that is called after each process with all measurements so far.

    Returns:
        (list[Measurement]): Models in order for each runtime and number of threads, followed by the first model again
            as the control.

    Raises:
        ConfigError: Before any export: a runtime is unknown, a package is missing, or a model cannot be read. Later: an
            export fails, or the runtime cannot run a model.
    """
    runtimes, threads = list(runtimes), list(threads)
    named = _named(models)
    sizes = dict(imgsz) if isinstance(imgsz, Mapping) else dict.fromkeys(named, imgsz)
    _check(named, runtimes, threads, sizes, seconds, data)
    subjects = [load(label, name, sizes[label]) for label, name in named.items()]
    for runtime in runtimes:
        _check_exported(subjects, runtime, sizes)
    measured: list[Measurement] = []
    with contextlib.ExitStack() as stack:
        folder = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="yolo_lite_")))
        entries = {runtime: exported(subjects, runtime, folder, sizes, data, say) for runtime in runtimes}
        for how in (Conditions(runtime, number) for runtime in runtimes for number in threads):
            mine = entries[how.runtime]
            say(f"{how.runtime}, {threads_in_words(how.threads)}: {len(mine)} models, interleaved")
            rounds = time_in_process(how, mine, seconds * len(mine), say)
            measured += summarised(how, mine, rounds)
            keep(measured)
    return measured


def exported(
    subjects: Iterable[Subject],
    runtime: str,
    folder: Path,
    sizes: Mapping[str, int],
    data: str | Path | None,
    say: Say,
) -> list[Entry]:
    """Export each model at its image size and precisions; return the entries to run, with the control at the end."""
    entries = []
    for subject in subjects:
        imgsz = sizes[subject.label]
        precisions: dict[Precision, str | Path | None] = {"fp32": None}
        if isinstance(subject, Exported):
            precisions = {"as exported": None}
        elif data and RUNTIMES[runtime].int8:
            precisions["int8"] = data
        for precision, calibration in precisions.items():
            if not isinstance(subject, Exported):
                say(f"{subject.label}: export for {runtime}, {precision}")
            path = export(subject, runtime, folder, imgsz, calibration)
            entries.append(Entry(subject, precision, path, imgsz))
            if precision == "fp32" and RUNTIMES[runtime].chooses_bf16():
                entries.append(Entry(subject, "bf16", path, imgsz))
    return [*entries, replace(entries[0], control=True)]


def summarised(how: Conditions, entries: Sequence[Entry], rounds: Sequence[Sequence[float]]) -> list[Measurement]:
    """Return the measurements for the latencies of all entries, milliseconds, given per round."""
    columns = list(zip(*rounds, strict=True))
    result = []
    for entry, times in zip(entries, columns, strict=True):
        ratios = [time / first for time, first in zip(times, columns[0], strict=True)]
        low, high = median_interval(ratios)
        result.append(
            Measurement(
                model=entry.subject.label,
                runtime=how.runtime,
                threads=how.threads,
                precision=entry.precision,
                p50=statistics.median(times),
                p90=statistics.quantiles(times, n=10)[-1],
                ratio=statistics.median(ratios),
                low=low,
                high=high,
                parameters=entry.subject.parameters,
                gflops=entry.subject.gflops,
                size=size_of(entry.path),
                control=entry.control,
                classes=entry.subject.classes,
                imgsz=entry.imgsz,
            )
        )
    return result


def _named(models: Names) -> dict[str, str | Path]:
    if isinstance(models, Mapping):
        return dict(models)
    sources = [str(Path(name).absolute()) if is_exported(name) else zoo.find(name) for name in models]
    return dict(zip(zoo.labels(sources, models), models, strict=True))


def _check(
    named: Mapping[str, str | Path],
    runtimes: Sequence[str],
    threads: Sequence[int],
    sizes: Mapping[str, int],
    seconds: float,
    data: str | Path | None,
) -> None:
    if not named or not runtimes:
        raise ConfigError(f"there are no {'runtimes' if named else 'models'} to measure")
    for number in threads or [0]:
        kinds.whole().check("threads", number)
    for label in named:
        kinds.IMGSZ.check("imgsz", sizes.get(label))
    kinds.number().check("seconds", seconds)
    check_runtimes(runtimes, int8=data is not None)
    if data is not None:
        from yolo_lite.datasets.images import training_files

        training_files(data)


def _check_exported(subjects: Iterable[Subject], runtime: str, sizes: Mapping[str, int]) -> None:
    """Refuse exported files that a runtime cannot open, before anything else is exported."""
    files = [subject for subject in subjects if isinstance(subject, Exported)]
    for file in files:
        if not file.path.name.endswith(RUNTIMES[runtime].suffixes):
            fitting = [name for name, each in RUNTIMES.items() if file.path.name.endswith(each.suffixes)]
            raise ConfigError(f"{file.path} does not run in {runtime}, but in {', '.join(fitting)}")
    if files:
        opened = [Entry(file, "as exported", file.path, sizes[file.label]) for file in files]
        time_in_process(Conditions(runtime, 1), opened, 0, lambda text: None)
