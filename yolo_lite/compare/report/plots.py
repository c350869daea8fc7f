"""Drawing of the plots: each as PNG and SVG files, and as an SVG for the page.

On the page `INK` becomes the text colour, and models can be selected by their CSS class. The content of the plots is
defined in `figures`.
"""

import io
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolo_lite.compare.report import labels
from yolo_lite.compare.report.figures import GREY, INK, Curves, Forest, Pair, Plot, Scatter

RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.dpi": 100,
}
SIZE = (4.6, 3.3)  # inches, fits the columns of the page
MARKERS = {"model": "o", "baseline": "D", "size-matched": "s"}


class Drawn(NamedTuple):
    """A plot with its SVG for the page."""

    plot: Plot
    svg: str


def draw_all(plots: Iterable[Plot]) -> tuple[list[Drawn], dict[str, bytes]]:
    """Draw plots.

    Returns:
        (list[Drawn], dict[str, bytes]): The plots for the page, and the content of the files by name.
    """
    drawn, files = [], {}
    with matplotlib.rc_context(RC):
        for plot in plots:
            figure = _draw(plot.shows)
            figure.axes[0].set_title(plot.title)
            files[f"{plot.name}.svg"] = _save(figure, plot.name, "svg", facecolor="white")
            files[f"{plot.name}.png"] = _save(figure, plot.name, "png", facecolor="white", dpi=140)
            figure.axes[0].set_title("")  # the page shows it as caption
            drawn.append(Drawn(plot, _for_page(_save(figure, plot.name, "svg", transparent=True))))
    return drawn, files


def _save(figure: Figure, name: str, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None, **options)
    return buffer.getvalue()


def _for_page(svg: bytes) -> str:
    """Adapt an SVG to the page: text colour, size, fonts, and no ids that collide with those of other plots."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", text, flags=re.S)
    frame = "".join(re.findall(r'viewBox="[^"]*"', text)[:1])
    text = re.sub(r"^<svg [^>]*>", f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {frame} role="img">', text)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="model-(\d+)"', r' class="m m\1"', text)
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"font: [^;\"]*", lambda match: _font(match[0]), text)
    return text.replace(INK, "currentColor")


def _font(style: str) -> str:
    size = "".join(re.findall(r"[\d.]+px", style)[:1])
    weight = "bold " if re.search(r"\b(bold|700)\b", style) else ""
    return f"font: {weight}{size} var(--font)"


def _axes(width: float = SIZE[0], height: float = SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_axisbelow(True)
    return figure, axes


def _draw(shows: Forest | Scatter | Curves) -> Figure:
    if isinstance(shows, Forest):
        return _draw_forest(shows)
    return _draw_scatter(shows) if isinstance(shows, Scatter) else _draw_curves(shows)


def _draw_forest(shows: Forest) -> Figure:
    """Draw the intervals over seeds, and beside them as thin lines the bootstrap intervals over test images."""
    effects = shows.effects
    figure, axes = _axes(SIZE[0] * 1.35, 0.9 + 0.33 * len(effects))
    for row, effect in enumerate(effects):
        colour, gid = effect.style.colour, f"model-{effect.style.number}"
        if effect.images:
            axes.plot(effect.images, [row - 0.22] * 2, color=colour, alpha=0.55, linewidth=1, gid=gid)
        if effect.interval:
            axes.plot(effect.interval, [row] * 2, color=colour, linewidth=3, solid_capstyle="round", gid=gid)
        face = colour if effect.shown else "white"
        axes.plot([effect.mean], [row], "o", color=colour, markerfacecolor=face, markersize=6, gid=gid)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(effects)), [effect.label for effect in effects])
    axes.set_ylim(-0.6, len(effects) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel(shows.axis)
    return figure


def _draw_scatter(shows: Scatter) -> Figure:
    figure, axes = _axes(SIZE[0] * 1.15, SIZE[1] * 1.15)
    axes.step(*zip(*shows.front, strict=True), where="post", color=GREY, linewidth=1.2, zorder=1)
    for point in shows.points:
        colour = point.style.colour
        if point.spread:
            axes.errorbar(point.cost, point.score, yerr=point.spread, color=colour, alpha=0.5, linewidth=1.2, zorder=2)
        marker, gid = MARKERS[point.role], f"model-{point.style.number}"
        axes.plot([point.cost], [point.score], marker, color=colour, markersize=6.5, gid=gid, zorder=3)
    axes.margins(0.12, 0.1)
    axes.set(xlabel=shows.axes[0], ylabel=shows.axes[1])
    _write_names(figure, axes, shows)
    return figure


def _write_names(figure: Figure, axes: Axes, shows: Scatter) -> None:
    """Write the names of the models beside their points."""
    figure.draw_without_rendering()  # computes the layout

    def at(cost: float, score: float) -> tuple[float, float]:
        x, y = axes.transData.transform((cost, score))
        return float(x), float(y)

    points = {point.label: point for point in shows.points if point.label}
    pixels = {label: at(each.cost, each.score) for label, each in points.items()}
    frame = axes.get_window_extent()
    lines = [labels.along(at(*start), at(*end)) for start, end in _lines(shows)]
    places = labels.place(pixels, labels.Box(frame.x0, frame.y0, frame.x1, frame.y1), lines)
    for label, place in places.items():
        point, (x, y) = points[label], place.box.centre
        offset = (72 / figure.dpi * (x - pixels[label][0]), 72 / figure.dpi * (y - pixels[label][1]))
        axes.annotate(
            label,
            (point.cost, point.score),
            offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            gid=f"model-{point.style.number}",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": 4} if place.is_far else None,
        ).set_in_layout(False)


def _lines(shows: Scatter) -> Iterator[tuple[Pair, Pair]]:
    """Yield the ends of the lines in a plot: the steps of the front, and the error bars."""
    for start, end in itertools.pairwise(shows.front):
        corner = (end[0], start[1])
        yield start, corner
        yield corner, end
    for point in shows.points:
        if point.spread:
            yield (point.cost, point.score - point.spread), (point.cost, point.score + point.spread)


def _draw_curves(shows: Curves) -> Figure:
    figure, axes = _axes()
    for line in shows.lines:
        colour, gid = line.style.colour, f"model-{line.style.number}"
        if line.band:
            axes.fill_between(line.epochs, *line.band, color=colour, alpha=0.13, linewidth=0, gid=gid)
        axes.plot(
            line.epochs,
            line.mean,
            color=colour,
            linestyle=line.style.dashes,
            linewidth=1.8 if line.is_baseline else 1.4,
            zorder=3 if line.is_baseline else 2,
            marker="o" if len(line.epochs) == 1 else None,  # a line of one point is invisible
            gid=gid,
        )
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    if shows.limits:
        axes.set_ylim(*shows.limits)
    return figure
