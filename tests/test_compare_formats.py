"""Comparisons started by an older release: the folder `format-1` was written by the last release with format 1."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import OF_THE_NEWEST

from yolo_lite import ConfigError
from yolo_lite.compare import comparison
from yolo_lite.compare.comparison import Comparison, Matched
from yolo_lite.compare.folder import check_same, read_folder
from yolo_lite.compare.record import Start, read_attempts, read_run
from yolo_lite.compare.report.results import gather, read_results

FORMAT_1 = Path(__file__).parent / "format-1"
LABEL, MODEL = "yolov8n-w0.625", "yolov8n-mnv3"


def without_notes(results):
    return {key: value for key, value in results.items() if key not in ("notes", "recommendation")}  # added later


def is_near(found, wanted):
    """Tell whether plain data is the same, its numbers up to rounding."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(is_near(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(is_near, found, wanted))
    return found == (pytest.approx(wanted, rel=1e-9, abs=1e-12) if isinstance(wanted, float) else wanted)


def test_a_comparison_of_format_1():
    found = comparison.read(FORMAT_1)
    timed = Matched(0.97, 0.96, 0.98, "onnxruntime", 1, {"CPU": "a processor"})
    one = found.models[LABEL].size_matched
    assert (one.base, one.width, one.match_for) == ("yolov8n", 0.625, {MODEL: timed})
    assert one.label == LABEL and one.yaml["nc"] == 80 and str(timed) == "0.97 of the time (onnxruntime, 1 thread)"
    assert found.size_matched == {MODEL: LABEL} and found.models["yolov8n"].size_matched is None
    plain = json.loads(json.dumps(found.to_plain()))
    assert plain["format"] == 2 and {"rivals", "matched"}.isdisjoint(plain)
    assert plain["models"][LABEL]["size_matched"] is True and plain["models"][MODEL]["size_matched"] is False
    assert Comparison.from_plain(plain) == found


def test_a_folder_of_format_1_goes_on(tmp_path):
    shutil.copytree(FORMAT_1, tmp_path / "folder")
    old = read_folder(tmp_path / "folder")
    check_same(old, Comparison.from_plain(old.to_plain()), tmp_path / "folder")
    (tmp_path / "folder" / "comparison.json").write_text(json.dumps(old.to_plain()))
    assert read_folder(tmp_path / "folder") == old


@OF_THE_NEWEST
def test_results_of_format_1_are_those_of_today(tmp_path):
    shutil.copytree(FORMAT_1, tmp_path / "format-1")
    old, today = read_results(FORMAT_1), gather(tmp_path / "format-1")
    assert json.loads((FORMAT_1 / "results.json").read_text())["rivals"] == old["size_matched"] == {MODEL: LABEL}
    assert is_near(without_notes(today.to_plain()), without_notes(old))
    assert today.recommendation.sentence and "recommendation" not in old
    assert old["models"][MODEL]["to_size_matched"]["mAP50-95"]["verdict"] == "worse"
    assert [each["control"] for each in old["latency"]["measurements"]] == [False, False, False, True]
    assert len(today.models["yolov8n"].latency) == 1
    (tmp_path / "format-1" / "results.json").write_text(json.dumps(today.to_plain()))
    assert read_results(tmp_path / "format-1") == today.to_plain() and read_results(tmp_path) is None


def test_starts_were_sentences_once(tmp_path):
    run = read_run(FORMAT_1 / "runs" / MODEL / "1", MODEL, 1)
    starts = [Start("fresh"), Start("fresh", reason="restart=True"), Start("resume", epoch=1)]
    assert [attempt.start for attempt in run.attempts] == starts
    sentences = ["start", "start, again: the checkpoint is incomplete (EOFError)", "epoch 12", "evaluation"]
    (tmp_path / "attempts.json").write_text(json.dumps([{"began": "now", "from": each} for each in sentences]))
    assert [attempt.start for attempt in read_attempts(tmp_path)] == [
        Start("fresh"),
        Start("fresh", reason="the checkpoint is incomplete (EOFError)"),
        Start("resume", epoch=12),
        Start("evaluate"),
    ]
    attempts = [attempt.to_plain() for attempt in read_attempts(tmp_path)]
    (tmp_path / "attempts.json").write_text(json.dumps(attempts))
    assert [attempt.to_plain() for attempt in read_attempts(tmp_path)] == attempts
    assert read_attempts(tmp_path / "missing") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 3}', r"comparison.json: is of format 3, needed 2; choose another name=$"),
        ("{}", "comparison.json: is of format None, needed 2"),
        ("[]", "comparison.json: cannot be read: .*; choose another name="),
        (
            '{"format": 2, "name": "x"}',
            r"comparison.json: cannot be read: 'baseline' \(KeyError\); choose another name=",
        ),
        ("{torn", "comparison.json: cannot be read"),
    ],
)
def test_what_is_no_comparison_is_refused_in_a_sentence(tmp_path, content, message):
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_folder(tmp_path)
