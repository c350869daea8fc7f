"""The plots: differences to the baseline, accuracy against cost with the Pareto front, and curves over the epochs.

Each is saved as PNG and SVG, and as an SVG for the page, whose ink is the page's text colour and whose models can be
picked out by their class.
"""

import io
import re

import numpy as np

INK, GREY = "#1f2328", "#8b949e"  # the page replaces the first by its own text colour
COLOURS = (
    "#3f7fd9", "#e0752d", "#2b9a66", "#c9487c", "#8b6bd0", "#ad8600", "#1f9bb3", "#d14b4b",
    "#6f8f2a", "#a8623a", "#5d82a6", "#cf6fc0", "#00a389", "#9b59a8", "#b5771c", "#7a7f87",
)  # fmt: skip
DASHES = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)))
RC = {
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
SIZE = (4.6, 3.3)  # inches, of the page's columns


def draw_all(results):
    """Draw every plot of a comparison.

    Returns:
        (dict): {name: (title, SVG for the page)}; and {file name: bytes} of the files.
    """
    import matplotlib

    inline, files = {}, {}
    with matplotlib.rc_context(RC):
        for name, title, figure in _figures(results):
            figure.axes[0].set_title(title)
            files[f"{name}.svg"] = _save(figure, name, "svg", facecolor="white")
            files[f"{name}.png"] = _save(figure, name, "png", facecolor="white", dpi=140)
            figure.axes[0].set_title("")  # on the page it is the caption
            inline[name] = (title, _for_page(_save(figure, name, "svg", transparent=True), results))
    return inline, files


def _save(figure, name, kind, **options):
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None, **options)
    return buffer.getvalue()


def _for_page(svg, results):
    """Fit an SVG into a page: its ink, its size, its fonts, names that do not collide with another plot's."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", text, flags=re.S)
    frame = re.search(r'viewBox="[^"]*"', text)[0]
    text = re.sub(r"^<svg [^>]*>", f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {frame} role="img">', text)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="model-(\d+)"', r' class="m m\1"', text)
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"font: [^;\"]*", lambda match: _font(match[0]), text)
    return text.replace(INK, "currentColor")


def _font(style):
    size = re.search(r"[\d.]+px", style)[0]
    weight = "bold " if re.search(r"\b(bold|700)\b", style) else ""
    return f"font: {weight}{size} var(--font)"


def _figures(results):
    models = results["models"]
    if any("mAP50-95" in model["difference"] for model in models.values()):
        for metric in ("mAP50-95", "mAP50"):
            yield f"difference-{metric}", f"{metric}: difference to the baseline", _differences(results, metric)
    from yolo_lite.compare.report.tables import runtime_name

    first = next((model["latency"] for model in models.values() if model["latency"]), [])
    for number, measurement in enumerate(first):
        name = runtime_name(measurement)
        values = {
            label: model["latency"][number]["p50"] for label, model in models.items() if number < len(model["latency"])
        }
        yield f"latency-{name.replace(' ', '-')}", f"Latency, {name}", _pareto(results, values, f"p50, ms ({name})")
    costs = {"parameters": ("Parameters", "million parameters", 1e6), "gflops": ("GFLOPs", "GFLOPs", 1)}
    for key, (title, axis, unit) in costs.items():
        values = {label: model[key] / unit for label, model in models.items()}
        yield key, title, _pareto(results, values, axis)
    names = dict.fromkeys(key for run in results["runs"] for key in run.get("curves", {}) if key != "epoch")
    order = ["mAP50-95", "mAP50", "F1", "P", "R"]
    for name in sorted(names, key=lambda name: (name not in order, order.index(name) if name in order else 0)):
        yield f"curve-{name.replace('/', '-')}", name, _curves(results, name)


def style(results, label):
    """Return a model's colour, dashes and number; the baseline is drawn in ink."""
    labels = [name for name in results["comparison"]["models"]]
    if label == results["comparison"]["baseline"]:
        return INK, "-", labels.index(label)
    number = [name for name in labels if name != results["comparison"]["baseline"]].index(label)
    return COLOURS[number % len(COLOURS)], DASHES[(number // 8) % len(DASHES)], labels.index(label)


def _axes(size=SIZE):
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_axisbelow(True)
    return figure, axes


def _differences(results, metric):
    """A forest plot: the t interval over seeds, and thin beside it what other test images would change."""
    models = {label: model for label, model in results["models"].items() if metric in model["difference"]}
    order = sorted(models, key=lambda label: models[label]["difference"][metric]["mean"])
    figure, axes = _axes((SIZE[0] * 1.35, 0.9 + 0.33 * len(order)))
    for row, label in enumerate(order):
        difference, (colour, _, number) = models[label]["difference"][metric], style(results, label)
        images = (models[label].get("images") or {}).get(metric, {}).get("difference")
        if images:
            axes.plot(images, [row - 0.22] * 2, color=colour, alpha=0.55, linewidth=1, gid=f"model-{number}")
        if difference["low"] is not None:
            ends = [difference["low"], difference["high"]]
            axes.plot(ends, [row] * 2, color=colour, linewidth=3, solid_capstyle="round", gid=f"model-{number}")
        shown = difference["verdict"] in ("better", "worse")
        face = colour if shown else "white"
        axes.plot(
            [difference["mean"]], [row], "o", color=colour, markerfacecolor=face, markersize=6, gid=f"model-{number}"
        )
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"{metric} minus {results['comparison']['baseline']}'s")
    return figure


def pareto_front(points):
    """Return the labels that nothing beats in both: {label: (cost, score)}, cheapest first."""
    front = []
    for label, (_, score) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not front or score > points[front[-1]][1]:
            front.append(label)
    return front


def _pareto(results, costs, name, metric="mAP50-95"):
    models = results["models"]
    points = {label: (cost, models[label]["metrics"][metric]["mean"]) for label, cost in costs.items()}
    figure, axes = _axes((SIZE[0] * 1.15, SIZE[1] * 1.15))
    front = [points[label] for label in pareto_front(points)]
    axes.step(*zip(*front, strict=True), where="post", color=GREY, linewidth=1.2, zorder=1)
    for label, (cost, score) in points.items():
        colour, _, number = style(results, label)
        spread = models[label]["metrics"][metric]["sd"]
        if spread:
            axes.errorbar(cost, score, yerr=spread, color=colour, alpha=0.5, linewidth=1.2, zorder=2)
        marker = "s" if models[label]["rival_of"] else "D" if colour == INK else "o"
        axes.plot([cost], [score], marker, color=colour, markersize=6.5, gid=f"model-{number}", zorder=3)
    axes.margins(0.12, 0.1)
    axes.set(xlabel=name, ylabel=metric)
    _label_points(figure, axes, points, {label: style(results, label)[2] for label in points})
    return figure


def _label_points(figure, axes, points, numbers):
    """Write names beside points, where they cover neither points nor other names."""
    figure.draw_without_rendering()  # the layout has to be known
    places = {label: axes.transData.transform(point) for label, point in points.items()}
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places.values()]
    frame = axes.get_window_extent()
    for label in sorted(points, key=lambda label: -places[label][1]):
        x, y = places[label]
        width, height = 6.2 * len(label), 12  # pixels
        choices = []
        for reach in (9, 17, 27, 39, 53):
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
                left = x + dx * reach - (width if dx < 0 else width / 2 if dx == 0 else 0)
                bottom = y + dy * reach - height / 2
                box = (left, bottom, left + width, bottom + height)
                crossings = sum(_overlap(box, other) for other in taken)
                outside = max(0, frame.x0 - box[0], box[2] - frame.x1 - 4, frame.y0 - box[1], box[3] - frame.y1 - 8)
                choices.append((crossings * 3 + outside * 40 + reach * 2, len(choices), reach, box))
        *_, reach, box = min(choices)
        taken.append(box)
        points_per_pixel = 72 / figure.dpi
        axes.annotate(
            label,
            points[label],
            (((box[0] + box[2]) / 2 - x) * points_per_pixel, ((box[1] + box[3]) / 2 - y) * points_per_pixel),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            gid=f"model-{numbers[label]}",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": 4} if reach > 17 else None,
        ).set_in_layout(False)


def _overlap(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _curves(results, name):
    """One line per model, the mean over its seeds, in a band from the lowest to the highest seed."""
    figure, axes = _axes()
    for label in results["models"]:
        colour, dashes, number = style(results, label)
        runs = [run["curves"] for run in results["runs"] if run["model"] == label and name in run.get("curves", {})]
        if not runs:
            continue
        epochs = min((run["epoch"] for run in runs), key=len)  # early stopping may end one before another
        values = np.array([run[name][: len(epochs)] for run in runs])
        if len(values) > 1:
            band = (values.min(0), values.max(0))
            axes.fill_between(epochs, *band, color=colour, alpha=0.13, linewidth=0, gid=f"model-{number}")
        last = colour == INK
        line = {"color": colour, "linestyle": dashes, "linewidth": 1.8 if last else 1.4, "zorder": 3 if last else 2}
        marker = "o" if len(epochs) == 1 else None  # a line through one point is not seen
        axes.plot(epochs, values.mean(0), marker=marker, gid=f"model-{number}", **line)
    axes.set(xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if "loss" in name:
        axes.set_ylim(*_loss_limits(axes))
    return figure


def _loss_limits(axes):
    """Leave out the first epochs' peaks, which would press the rest flat."""
    ends = np.concatenate([line.get_ydata() for line in axes.get_lines()])
    ends = ends[np.isfinite(ends)]
    if not len(ends):
        return 0, 1
    low, high = ends.min(), np.percentile(ends, 98)
    return low - 0.05 * (high - low or 1), high + 0.08 * (high - low or 1)
