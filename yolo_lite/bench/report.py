"""Output files of `yolo-lite bench`: bench.csv, bench.md and bench.svg, each written atomically."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from yolo_lite.bench.measurement import BUSY, Measurement, busy
from yolo_lite.bench.plot import draw, panels
from yolo_lite.files import rows_as_csv, write

TITLES = ("model", "runtime", "threads", "p50 ms", "p90 ms", "time / first", "95 % interval")
FIELDS = tuple(each.name for each in fields(Measurement))


def write_all(
    folder: Path, measurements: Sequence[Measurement], environment: Mapping[str, str], notes: Iterable[str]
) -> str:
    """Write the three files; existing ones are replaced, for example when there are more measurements.

    Args:
        folder: Folder to write to.
        measurements: Result of `measure`.
        environment: Settings, machine and versions of the measurement, by name.
        notes: Sentences to include in bench.md.

    Returns:
        (str): Contents of bench.md.
    """
    page = markdown(measurements, environment, notes)
    write(folder / "bench.csv", table(measurements, environment))
    write(folder / "bench.md", page)
    write(folder / "bench.svg", draw(panels(measurements)))
    return page


def in_words(environment: Mapping[str, str]) -> str:
    """Return the environment of a measurement as one line."""
    return "; ".join(f"{name}: {value}" for name, value in environment.items())


def table(measurements: Iterable[Measurement], environment: Mapping[str, str]) -> str:
    """Return the measurements as CSV, with the environment in each row."""
    versions = in_words(environment)
    return rows_as_csv((*FIELDS, "environment"), [{**asdict(row), "environment": versions} for row in measurements])


def markdown(measurements: Sequence[Measurement], environment: Mapping[str, str], notes: Iterable[str]) -> str:
    """Return the measurements as Markdown, one table for each precision."""
    lines = ["# Latency", "", in_words(environment), "", *(f"- {note}" for note in notes)]
    for precision in dict.fromkeys(row.precision for row in measurements):
        extra = () if precision in ("fp32", "as exported") else ("time / own fp32",)
        titles = [*TITLES, *extra, "parameters", "GFLOPs", "file"]
        lines += ["", f"## {precision}", "", f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
        for row in measurements:
            if row.precision == precision:
                own = [f"{against_fp32(row, measurements):.2f}"] if extra else []
                lines.append(f"| {' | '.join([*_times(row), *own, *_costs(row)])} |")
    return "\n".join([*lines, ""])


def _times(row: Measurement) -> tuple[str, ...]:
    return (
        f"`{row.name}`",
        row.runtime,
        str(row.threads),
        f"{row.p50:.2f}",
        f"{row.p90:.2f}",
        f"{row.ratio:.3f}",
        f"{row.low:.3f} to {row.high:.3f}",
    )


def _costs(row: Measurement) -> tuple[str, ...]:
    parameters = "-" if row.parameters is None else f"{row.parameters / 1e6:.2f} M"
    return parameters, "-" if row.gflops is None else f"{row.gflops:.2f}", f"{row.size / 1e6:.1f} MB"


def against_fp32(row: Measurement, measurements: Iterable[Measurement]) -> float:
    """Return the ratio of a model's latency to that of its own fp32, from the ratios of both to the first model."""
    own = (row.model, row.runtime, row.threads, row.control)
    return row.ratio / next(
        each.ratio
        for each in measurements
        if (each.model, each.runtime, each.threads, each.control) == own and each.precision == "fp32"
    )


def remarks(measurements: Sequence[Measurement], random: Sequence[str], skipped: Iterable[str] = ()) -> list[str]:
    """Return notes and warnings about measurements, as sentences.

    Args:
        measurements: Result of `measure`.
        random: Names of the models that were built with random weights.
        skipped: Sentences about runtimes or precisions that were skipped.
    """
    controls = [row for row in measurements if row.control]
    classes = {row.model: row.classes for row in measurements if row.classes is not None}
    notes = list(skipped)
    if random:
        notes.append(f"Random weights: {', '.join(random)}. Latency does not depend on the weights, accuracy does.")
    if len(set(classes.values())) > 1:
        counts = ", ".join(f"{model} {number}" for model, number in classes.items())
        notes.append(
            f"The models have different numbers of classes, so different heads: {counts}. "
            "To make them equal, set nc in copies of the YAMLs."
        )
    if any(row.precision != "as exported" for row in measurements):
        notes.append("Ultralytics' default export: one square image of fixed size, no non-maximum suppression.")
    if controls:
        low, high = min(row.low for row in controls), max(row.high for row in controls)
        notes.append(
            f"The first model against itself, with its 95 % intervals: {low:.3f} to {high:.3f}. "
            "A ratio no farther from 1 than that shows no difference."
        )
    if busy(measurements):
        notes.append(BUSY)
    for row in measurements:
        if row.precision == "int8" and against_fp32(row, measurements) > 1:
            notes.append(
                f"WARNING: {row.model} in {row.runtime}, {row.threads_in_words}: int8 takes "
                f"{against_fp32(row, measurements):.2f} times as long as fp32 on this CPU; use fp32 here."
            )
    return notes
