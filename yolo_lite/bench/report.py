"""What `yolo-lite bench` writes: bench.csv, bench.md and bench.svg, each complete or absent."""

import csv
import io
from pathlib import Path

from yolo_lite.bench.measurement import CONTROL, Measurement
from yolo_lite.files import write

TITLES = ("model", "runtime", "threads", "p50 ms", "p90 ms", "time / first", "95 % interval")
COLOURS = {"fp32": "#4878a8", "bf16": "#8a6bb0", "int8": "#d98c40"}


def write_all(folder, measurements, environment, notes):
    """Write the three files; they can be written again with more measurements.

    Args:
        folder: Where to.
        measurements: What `measure` gave.
        environment: What it gave them on, by name.
        notes: Sentences that belong to it.
    """
    folder = Path(folder)
    write(folder / "bench.csv", table(measurements, environment))
    write(folder / "bench.md", markdown(measurements, environment, notes))
    write(folder / "bench.svg", plot(measurements))


def table(measurements, environment):
    """The measurements as CSV, each row with the machine and the versions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Measurement._fields, "environment"])
    versions = "; ".join(f"{name}: {value}" for name, value in environment.items())
    for row in measurements:
        writer.writerow([*("" if value is None else value for value in row), versions])
    return text.getvalue()


def markdown(measurements, environment, notes):
    """The measurements as Markdown, one table for each precision."""
    lines = ["# Latency", "", "; ".join(f"{name}: {value}" for name, value in environment.items()), ""]
    lines += [f"- {note}" for note in notes]
    for precision in dict.fromkeys(row.precision for row in measurements):
        extra = () if precision in ("fp32", "as exported") else ("time / own fp32",)
        titles = [*TITLES, *extra, "parameters", "GFLOPs", "file"]
        lines += ["", f"## {precision}", "", f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
        for row in measurements:
            if row.precision == precision:
                own = [f"{against_fp32(row, measurements):.2f}"] if extra else []
                lines.append(f"| {' | '.join([*_cells(row), *own, *_costs(row)])} |")
    return "\n".join([*lines, ""])


def _cells(row):
    interval = f"{row.low:.3f} to {row.high:.3f}"
    return (
        f"`{row.model}`",
        row.runtime,
        str(row.threads),
        f"{row.p50:.2f}",
        f"{row.p90:.2f}",
        f"{row.ratio:.3f}",
        interval,
    )


def _costs(row):
    parameters = "-" if row.parameters is None else f"{row.parameters / 1e6:.2f} M"
    return parameters, "-" if row.gflops is None else f"{row.gflops:.2f}", f"{row.size / 1e6:.1f} MB"


def against_fp32(row, measurements):
    """Return a model's time over that of its own fp32, from the ratios of both to the first model."""
    return row.ratio / next(each.ratio for each in measurements if each[:4] == (*row[:3], "fp32"))


def remarks(measurements, random, skipped=()):
    """Return what has to be said of measurements, as sentences.

    Args:
        measurements: What `measure` gave.
        random: The models that were built with random weights.
        skipped: Sentences on runtimes that were left out.
    """
    controls = [row.ratio for row in measurements if row.model.endswith(CONTROL)]
    notes = list(skipped)
    if random:
        notes.append(f"Random weights: {', '.join(random)}. The time does not depend on weights, the accuracy does.")
    if any(row.precision != "as exported" for row in measurements):
        notes.append("Ultralytics' default export: one fixed square image, no non-maximum suppression in it.")
    if controls:
        notes.append(
            f"The first model against itself: {min(controls):.3f} to {max(controls):.3f}. "
            "A ratio no farther from 1 than that shows no difference."
        )
    for row in measurements:
        if row.precision == "int8" and against_fp32(row, measurements) > 1:
            notes.append(
                f"WARNING: {row.model} in {row.runtime}, {row.threads} thread{'s' * (row.threads > 1)}: int8 takes "
                f"{against_fp32(row, measurements):.2f} times as long as fp32 on this CPU; keep fp32 here."
            )
    return notes


def plot(measurements):
    """Draw a panel for each runtime and number of threads, a bar for each model; return the SVG's bytes."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((row.runtime, row.threads) for row in measurements))
    rows = {panel: [row for row in measurements if (row.runtime, row.threads) == panel] for panel in panels}
    heights = [max(2, len(each)) for each in rows.values()]
    figure = Figure(figsize=(9, 0.32 * sum(heights) + 0.9 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        names = [f"{row.model}, {row.precision}" for row in rows[panel]]
        times = [row.p50 for row in rows[panel]]
        colours = [COLOURS.get(row.precision, "#888888") for row in rows[panel]]
        bars = axis.barh(names, times, color=colours, xerr=[[0] * len(times), [r.p90 - r.p50 for r in rows[panel]]])
        labels = [f"  {row.p50:.1f} ms, {row.ratio:.2f}" for row in rows[panel]]
        axis.bar_label(bars, labels, label_type="edge", fontsize=8, padding=12)
        axis.set(xlim=(0, 1.3 * max(row.p90 for row in rows[panel])), xlabel="milliseconds an image: median, 90 %")
        axis.set_title(f"{panel[0]}, {panel[1]} thread{'s' * (panel[1] > 1)}", loc="left", fontsize=10)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
