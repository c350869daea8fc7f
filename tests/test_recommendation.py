"""The model that a comparison recommends, and cases without a recommendation."""

import dataclasses
import json

import pytest
from made_up import METRICS, write_comparison

from yolo_lite.commands import main
from yolo_lite.compare import write_report
from yolo_lite.compare.latency import Row
from yolo_lite.compare.report import data_files
from yolo_lite.compare.report.recommendation import Candidate, recommend
from yolo_lite.compare.significance import NOT_SHOWN, TOO_FEW, Difference

pytestmark = pytest.mark.usefixtures("few_resamples", "few_plots")


def timed(p50, runtime="onnxruntime"):
    """Return a latency relative to that of a model which takes 10 ms."""
    noise = 0.0 if p50 == 10 else 0.01
    return Row("", runtime, 1, "fp32", p50, p50, p50 / 10, p50 / 10 - noise, p50 / 10 + noise, 1)


def to_best(mean, verdict):
    return Difference(mean, mean - 0.02, mean + 0.02, 0.5, 0.5, verdict, (0, 1, 2))


BEST = Candidate(0.5, 8.0, [timed(10)], None)
CASES = {  # case -> (models besides the best one, recommended model, sentence)
    "cheaper and not shown to be worse": (
        {"light": Candidate(0.49, 3.0, [timed(6)], to_best(-0.01, NOT_SHOWN))},
        "light",
        "Recommended: light, the cheapest of those not shown to be worse than best (6.0 ms in onnxruntime fp32 "
        "1 thread, 0.60 [0.59, 0.61] of best's time); its mAP50-95 differs from best's by -0.010 "
        "[-0.030, +0.010].",
    ),
    "cheaper and worse": (
        {"light": Candidate(0.4, 3.0, [timed(6)], to_best(-0.1, "worse"))},
        "best",
        "Recommended: best, the most accurate, and the cheapest of those not shown to be worse (10.0 ms in",
    ),
    "fewer FLOPs, and slower": (
        {"ghost": Candidate(0.49, 3.0, [timed(14)], to_best(-0.01, NOT_SHOWN))},
        "best",
        "Recommended: best",
    ),
    "not timed": (
        {"light": Candidate(0.49, 3.0, [], to_best(-0.01, NOT_SHOWN))},
        "light",
        "(3.00 GFLOPs; latency has not been measured)",
    ),
    "timed in another runtime": (
        {"light": Candidate(0.49, 9.0, [timed(6, "ncnn")], to_best(-0.01, NOT_SHOWN))},
        "best",
        "(8.00 GFLOPs; latency has not been measured)",
    ),
    "equals": (
        {name: Candidate(0.5, 8.0, [timed(time)], to_best(0.0, NOT_SHOWN)) for name, time in (("a", 9), ("b", 7))},
        "b",
        "Recommended: b",
    ),
    "one seed": (
        {"light": Candidate(0.49, 3.0, [timed(6)], to_best(-0.01, TOO_FEW))},
        None,
        "No recommendation from one seed: use seeds=0,1,2 or more to tell models apart.",
    ),
    "alone": ({}, None, "Only one model: nothing to compare it with."),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_recommended(case):
    others, model, sentence = CASES[case]
    found = recommend({"best": BEST, **others})
    assert found.model == model and sentence in found.sentence


def test_a_time_is_relative_to_the_first_model_unless_that_is_the_recommended_one():
    light = Candidate(0.49, 3.0, [timed(6)], to_best(-0.01, NOT_SHOWN))
    assert (
        "(6.0 ms in onnxruntime fp32 1 thread); its"
        in recommend({"light": light, "best": dataclasses.replace(BEST, latency=[timed(9)])}).sentence
    )
    first = dataclasses.replace(light, latency=[timed(10)])
    assert (
        "(10.0 ms in onnxruntime fp32 1 thread); its"
        in recommend({"light": first, "best": dataclasses.replace(BEST, latency=[timed(12)])}).sentence
    )


def test_a_report_recommends_and_says_what_part_of_the_images_was_trained_on(tmp_path, capsys):
    train = {"epochs": 6, "imgsz": 64, "batch": 8, "fraction": 0.2}
    folder = write_comparison(tmp_path / "made-up", {"heavy": 0.5, "light": 0.3, "twin": 0.5}, train=train)
    assert main(["compare", str(folder)]) == 0
    said = capsys.readouterr()
    assert "Recommended: heavy" in said.out and "latency has not been measured" in said.out
    assert "9 runs read; resampling the images of 3 models" in said.err and "drawing the plots" in said.err
    assert "30 train, 12 val images (fraction=0.2 of the training images)" in (folder / "summary.md").read_text()
    page = (folder / "report.html").read_text("utf-8")
    assert "a part of them (fraction=0.2)" in page and "Recommended: heavy" in page


def test_a_single_lucky_seed_is_not_the_best(tmp_path):
    folder = write_comparison(tmp_path / "made-up", {"lucky": 0.6, "good": 0.5, "fair": 0.3})
    plain = json.loads((folder / "comparison.json").read_text("utf-8"))
    plain["seeds"]["lucky"] = [0]
    (folder / "comparison.json").write_text(json.dumps(plain), "utf-8")
    found = write_report(folder)
    assert found.models["lucky"].metrics["mAP50-95"].mean > found.models["good"].metrics["mAP50-95"].mean
    assert found.recommendation.model == "good"


def test_where_nothing_was_learned_nothing_wins(tmp_path):
    folder = write_comparison(tmp_path / "short", {"a": 0.1, "b": 0.1}, seeds=(0, 1))
    for file in folder.rglob("run.json"):
        run = json.loads(file.read_text())
        run["metrics"] |= dict.fromkeys(METRICS, 0.002)
        file.write_text(json.dumps(run))
    sentence = (
        "No recommendation: every mAP50-95 is below 0.01. Train longer; with few images, set nbs to the batch size."
    )
    results = write_report(folder)
    assert results.recommendation.model is None
    assert data_files.headline(results) == results.recommendation.sentence == sentence
