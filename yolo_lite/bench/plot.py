"""Contents and drawing of the plot of `yolo-lite bench`."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yolo_lite.bench.measurement import Measurement

COLOURS = {"fp32": "#4878a8", "bf16": "#8a6bb0", "int8": "#d98c40", "as exported": "#888888"}


@dataclass(frozen=True)
class Bar:
    """Bar of a model: name, median and 90th percentile in milliseconds, colour, and the label at its end."""

    name: str
    p50: float
    p90: float
    colour: str
    label: str


@dataclass(frozen=True)
class Panel:
    """Panel of a runtime with a number of threads."""

    title: str
    bars: tuple[Bar, ...]


def panels(measurements: Iterable[Measurement]) -> list[Panel]:
    """Return a panel for each runtime and number of threads, with a bar for each model."""
    found: dict[str, list[Bar]] = {}
    for row in measurements:
        label = f"{row.p50:.1f} ms, {row.ratio:.2f}"
        bar = Bar(f"{row.name}, {row.precision}", row.p50, row.p90, COLOURS[row.precision], label)
        found.setdefault(f"{row.runtime}, {row.threads_in_words}", []).append(bar)
    return [Panel(title, tuple(bars)) for title, bars in found.items()]


def draw(found: Sequence[Panel]) -> bytes:
    """Draw panels below each other; return the SVG."""
    from matplotlib.figure import Figure

    heights = [max(2, len(panel.bars)) for panel in found]
    figure = Figure(figsize=(9, 0.32 * sum(heights) + 0.9 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(axes, found, strict=True):
        bars = axis.barh(
            [bar.name for bar in panel.bars],
            [bar.p50 for bar in panel.bars],
            color=[bar.colour for bar in panel.bars],
            xerr=[[0.0] * len(panel.bars), [bar.p90 - bar.p50 for bar in panel.bars]],
        )
        axis.bar_label(bars, [f"  {bar.label}" for bar in panel.bars], label_type="edge", fontsize=8, padding=12)
        axis.set(xlim=(0, 1.3 * max(bar.p90 for bar in panel.bars)), xlabel="ms per image; line: 90th percentile")
        axis.set_title(panel.title, loc="left", fontsize=10)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
