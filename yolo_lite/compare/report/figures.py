"""Content of the plots, separate from the drawing: numbers, labels and styles, without matplotlib."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from yolo_lite.compare.record import METRICS
from yolo_lite.compare.report.results import MAIN, ModelResult, Results
from yolo_lite.compare.report.search import Search

INK, GREY = "#1f2328", "#8b949e"  # the page replaces INK by its own text colour
COLOURS = (
    "#3f7fd9", "#e0752d", "#2b9a66", "#c9487c", "#8b6bd0", "#ad8600", "#1f9bb3", "#d14b4b",
    "#6f8f2a", "#a8623a", "#5d82a6", "#cf6fc0", "#00a389", "#9b59a8", "#b5771c", "#7a7f87",
)  # fmt: skip
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)))
Pair = tuple[float, float]


class Style(NamedTuple):
    """Style of a model in all plots; `number` identifies the model on the page."""

    colour: str
    dashes: Any
    number: int


class Effect(NamedTuple):
    """Difference of a model to the baseline: mean, interval over seeds, and bootstrap interval over test images."""

    label: str
    style: Style
    mean: float
    interval: Pair | None
    images: Pair | None
    shown: bool


class Forest(NamedTuple):
    """Differences to the baseline, worst first."""

    axis: str
    effects: Sequence[Effect]


class Point(NamedTuple):
    """Cost and accuracy of a model; `spread` is the standard deviation over seeds, an empty `label` is not drawn."""

    label: str
    style: Style
    cost: float
    score: float
    spread: float | None
    role: Literal["model", "baseline", "size-matched"]


class Scatter(NamedTuple):
    """Accuracy versus cost; `front` is the Pareto front, cheapest first."""

    axes: tuple[str, str]
    points: Sequence[Point]
    front: Sequence[Pair]


class Line(NamedTuple):
    """Curve of a model over the epochs: mean over its seeds, and band from lowest to highest; no band with one seed."""

    style: Style
    epochs: Sequence[float]
    mean: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None
    is_baseline: bool


class Curves(NamedTuple):
    """Curves of all models over the epochs; `limits` are those of the vertical axis, None for automatic ones."""

    lines: Sequence[Line]
    limits: Pair | None


class Plot(NamedTuple):
    """One plot: stem of its file names, caption, part of the page that it belongs to, and content."""

    name: str
    title: str
    part: Literal["difference", "cost", "curve", "loss", "search"]
    shows: Forest | Scatter | Curves


def plots_of(results: Results) -> Iterator[Plot]:
    """Yield all plots of a comparison, in the order of the page."""
    if any(model.difference for model in results.models.values()):
        for metric in ("mAP50-95", "mAP50"):
            yield Plot(
                f"difference-{metric}", f"{metric}: difference to the baseline", "difference", forest(results, metric)
            )
    yield from _cost_plots(results)
    names = dict.fromkeys(key for run in results.runs for key in run.curves or () if key != "epoch")
    for name in sorted(names, key=lambda name: METRICS.index(name) if name in METRICS else len(METRICS)):
        is_loss = name not in METRICS
        yield Plot(
            f"curve-{name.replace('/', '-')}", name, "loss" if is_loss else "curve", curves(results, name, is_loss)
        )


def _cost_plots(results: Results) -> Iterator[Plot]:
    models = results.models
    for way in results.ways:
        times = {label: row.p50 for label, model in models.items() for row in model.latency if row.way == way}
        shows = scatter(results, times, f"p50, ms ({way})")
        yield Plot(f"latency-{way.replace(' ', '-')}", f"Latency, {way}", "cost", shows)
    parameters = {label: model.record.parameters / 1e6 for label, model in models.items()}
    yield Plot("parameters", "Parameters", "cost", scatter(results, parameters, "million parameters"))
    gflops = {label: model.record.gflops for label, model in models.items()}
    yield Plot("gflops", "GFLOPs", "cost", scatter(results, gflops, "GFLOPs"))


def styles_of(results: Results) -> dict[str, Style]:
    """Return the style of each model of the comparison; the baseline has the colour of the text."""
    labels, baseline = list(results.comparison.models), results.comparison.baseline
    others = [label for label in labels if label != baseline]
    found = {
        label: Style(COLOURS[i % len(COLOURS)], DASHES[i // 8 % len(DASHES)], labels.index(label))
        for i, label in enumerate(others)
    }
    return found | {baseline: Style(INK, "-", labels.index(baseline))}


def forest(results: Results, metric: str) -> Forest:
    """Return the differences of a metric to the baseline."""
    models = {label: model for label, model in results.models.items() if metric in model.difference}
    styles = styles_of(results)
    order = sorted(models, key=lambda label: models[label].difference[metric].mean)
    return Forest(
        f"{metric} minus {results.comparison.baseline}'s",
        [_effect(label, models[label], styles[label], metric) for label in order],
    )


def _effect(label: str, model: ModelResult, style: Style, metric: str) -> Effect:
    difference, images = model.difference[metric], model.images.get(metric)
    interval = None if difference.low is None or difference.high is None else (difference.low, difference.high)
    shown = difference.verdict in ("better", "worse")
    return Effect(label, style, difference.mean, interval, images.difference if images else None, shown)


def scatter(results: Results, costs: Mapping[str, float], axis: str) -> Scatter:
    """Return accuracy versus a cost."""
    styles = styles_of(results)
    points = [_point(results, label, styles[label], cost) for label, cost in costs.items()]
    places = {point.label: (point.cost, point.score) for point in points}
    return Scatter((axis, MAIN), points, [places[label] for label in pareto_front(places)])


def tried(search: Search, results: Results) -> Plot | None:
    """Return a plot of a search's trained candidates, with names for finalists and Pareto front; None without any."""
    times = {row.label: (row.time, row.score) for row in search.rows if row.time is not None and row.score is not None}
    styles, other = styles_of(results), Style(GREY, "-", len(results.models))
    front = pareto_front(times)
    points = [
        Point(label if label in (*front, *styles) else "", styles.get(label, other), time, score, None, "model")
        for label, (time, score) in times.items()
    ]
    axes = (f"p50, ms ({search.way})", f"{MAIN}, held out, after its last run")
    shows = Scatter(axes, points, [times[label] for label in front])
    return Plot("search-time", "The candidates that were trained", "search", shows) if times else None


def _point(results: Results, label: str, style: Style, cost: float) -> Point:
    model = results.models[label]
    figure = model.metrics[MAIN]
    is_baseline = label == results.comparison.baseline
    role: Literal["model", "baseline", "size-matched"] = "baseline" if is_baseline else "model"
    return Point(label, style, cost, figure.mean, figure.sd, "size-matched" if model.record.size_matched else role)


def pareto_front(points: Mapping[str, Pair]) -> list[str]:
    """Return the labels on the Pareto front of {label: (cost, score)}, cheapest first."""
    front: list[str] = []
    for label, (_, score) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not front or score > points[front[-1]][1]:
            front.append(label)
    return front


def curves(results: Results, name: str, is_loss: bool = False) -> Curves:
    """Return a column of Ultralytics' table over the epochs; the axis of a loss excludes its initial peaks."""
    styles = styles_of(results)
    lines = []
    for label in results.models:
        runs = [run.curves for run in results.runs if run.record.model == label and run.curves and name in run.curves]
        if runs:
            lines.append(_line(runs, name, styles[label], label == results.comparison.baseline))
    return Curves(lines, _loss_limits(lines) if is_loss else None)


def _line(runs: Sequence[Mapping[str, Sequence[float]]], name: str, style: Style, is_baseline: bool) -> Line:
    epochs = min((run["epoch"] for run in runs), key=len)  # early stopping may end runs at different epochs
    values = np.array([run[name][: len(epochs)] for run in runs])
    band = (values.min(0).tolist(), values.max(0).tolist()) if len(values) > 1 else None
    return Line(style, epochs, values.mean(0).tolist(), band, is_baseline)


def _loss_limits(lines: Sequence[Line]) -> Pair:
    """Return axis limits that exclude the peaks of the first epochs, which would flatten the rest."""
    ends = np.concatenate([line.mean for line in lines])
    ends = ends[np.isfinite(ends)]
    if not len(ends):
        return 0, 1
    low, high = float(ends.min()), float(np.percentile(ends, 98))
    return low - 0.05 * (high - low or 1), high + 0.08 * (high - low or 1)
