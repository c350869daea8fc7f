"""Content of a report's plots, without drawing them."""

import sys

import numpy as np
import pytest
from made_up import make_size_matched, write_comparison

from yolo_lite.compare.report import figures, labels
from yolo_lite.compare.report.figures import INK, plots_of
from yolo_lite.compare.report.labels import Box, place
from yolo_lite.compare.report.results import gather

LEVELS = {"yolov8n": 0.5, "worse": 0.4, "yolov8n-twin": 0.5, "matched": 0.45}


@pytest.fixture(scope="module")
def results(few_resamples, tmp_path_factory):
    folder = write_comparison(tmp_path_factory.mktemp("figures") / "made-up", LEVELS)
    make_size_matched(folder, "matched", "worse")
    return gather(folder)


def test_the_page_has_its_plots_in_order(results):
    plots = list(plots_of(results))
    assert [plot.name for plot in plots[:4]] == ["difference-mAP50-95", "difference-mAP50", "parameters", "gflops"]
    assert [plot.title for plot in plots if plot.part == "curve"] == ["mAP50-95", "mAP50", "F1", "P", "R"]
    losses = [plot.title for plot in plots if plot.part == "loss"]
    assert len(losses) == 6 and all("loss" in title for title in losses)
    assert [plot.part for plot in plots] == ["difference"] * 2 + ["cost"] * 2 + ["curve"] * 5 + ["loss"] * 6


def test_differences_begin_with_the_worst(results):
    shows = figures.forest(results, "mAP50-95")
    assert [effect.label for effect in shows.effects][:2] == ["worse", "matched"] and len(shows.effects) == 3
    by_label = {effect.label: effect for effect in shows.effects}
    worse = by_label["worse"]
    assert worse.shown and not by_label["yolov8n-twin"].shown
    assert worse.interval[0] < worse.mean < worse.interval[1] < 0 and worse.images[0] < worse.images[1]
    assert shows.axis == "mAP50-95 minus yolov8n's"


def test_accuracy_against_cost(results):
    shows = figures.scatter(results, {"yolov8n": 3.0, "worse": 2.0, "yolov8n-twin": 4.0, "matched": 1.0}, "cost")
    assert {point.label: point.role for point in shows.points} == {
        "yolov8n": "baseline", "worse": "model", "yolov8n-twin": "model", "matched": "size-matched",
    }  # fmt: skip
    assert [cost for cost, _ in shows.front][:2] == [1.0, 3.0]  # `worse` costs more than `matched` and is worse
    styles = figures.styles_of(results)
    assert styles["yolov8n"].colour == INK and [style.number for style in styles.values()].count(0) == 1
    assert len({style.colour for style in styles.values()}) == 4


def test_pareto_front():
    points = {"a": (1, 0.3), "b": (2, 0.2), "c": (2, 0.5), "d": (3, 0.5), "e": (1, 0.1)}
    assert figures.pareto_front(points) == ["a", "c"]


def test_curves_are_means_in_a_band(results):
    shows = figures.curves(results, "mAP50")
    assert len(shows.lines) == 4 and shows.limits is None
    line = next(line for line in shows.lines if line.is_baseline)
    runs = [run.curves["mAP50"] for run in results.runs if run.record.model == "yolov8n"]
    np.testing.assert_allclose(line.mean, np.mean(runs, 0))
    np.testing.assert_allclose(line.band, [np.min(runs, 0), np.max(runs, 0)])
    losses = figures.curves(results, "train/box_loss", is_loss=True)
    assert losses.limits[0] < min(min(line.mean) for line in losses.lines) < losses.limits[1]


def test_a_run_that_stopped_early_shortens_the_line(results):
    runs = [{"epoch": [1, 2, 3], "F1": [0.1, 0.2, 0.3]}, {"epoch": [1, 2], "F1": [0.3, 0.4]}]
    line = figures._line(runs, "F1", figures.styles_of(results)["worse"], False)
    assert line.epochs == [1, 2] and line.mean == pytest.approx([0.2, 0.3])
    assert figures._line(runs[1:], "F1", line.style, False).band is None


def test_first_peaks_of_losses_are_left_out():
    values = [1000.0, *np.linspace(2, 1, 99)]
    line = figures.Line(None, list(range(100)), values, None, False)
    low, high = figures._loss_limits([line])
    assert low < 1 and 2 < high < 30
    assert figures._loss_limits([line._replace(mean=[float("nan")])]) == (0, 1)


def test_names_cover_neither_points_nor_names():
    points = {f"model-{i}": (100 + 3 * i, 100 + 2 * (i % 3)) for i in range(6)}
    frame = Box(0, 0, 400, 300)
    places = place(points, frame)
    boxes = [each.box for each in places.values()]
    marks = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points.values()]
    assert places.keys() == points.keys()
    assert sum(a.overlap(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]) == 0
    assert sum(box.overlap(mark) for box in boxes for mark in marks) == 0
    assert all(box.outside(frame) == 0 for box in boxes)
    assert any(each.is_far for each in places.values())


def test_a_name_alone_stands_right_beside_its_point():
    found = place({"model": (100, 100)}, Box(0, 0, 400, 300))["model"]
    assert found.box == Box(109, 94, 109 + 5 * labels.LETTER, 106) and not found.is_far
    assert place({"model": (395, 100)}, Box(0, 0, 400, 300))["model"].box.right == 395 - 9  # no space at the right


def test_what_is_shown_is_known_without_matplotlib(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert list(plots_of(results))
