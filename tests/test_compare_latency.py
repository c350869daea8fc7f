"""Latency of the compared models, and the size-matched baseline with equal latency."""

from dataclasses import replace

import pytest

from yolo_lite import ConfigError
from yolo_lite.compare import baselines, latency
from yolo_lite.compare.plan import make_plan
from yolo_lite.files import write_json
from yolo_lite.models import Model

pytest.importorskip("onnxruntime")
CONDITIONS = latency.Conditions(classes=3, imgsz=320, runtimes=("onnxruntime",), threads=(1,))


def test_latency(tmp_path):
    narrow = str(baselines.write_yaml(baselines.shrunk("yolov8n", 0.3), tmp_path))
    models = [
        Model("yolov8n", "yolov8n.yaml", "yolov8n", "a", 0, 0.0, 0),
        Model("narrow", narrow, "", "b", 0, 0.0, 0),
    ]
    found = latency.measure(models, CONDITIONS, seconds=0.5)
    assert found.models == {"yolov8n": "a", "narrow": "b"}
    base, narrow, control = found.measurements
    assert [row.model for row in found.measurements] == ["yolov8n", "narrow", "yolov8n"]
    assert [row.control for row in found.measurements] == [False, False, True] and found.of("yolov8n") == [base]
    assert base.size > narrow.size > 10**6 and base.parameters == 3_006_233  # with 3 classes, not 80
    assert 0 < narrow.p50 <= narrow.p90 and narrow.ratio < 1 and narrow.way == "onnxruntime fp32 1 thread"
    write_json(tmp_path / "latency.json", found.to_plain())
    read = latency.read(tmp_path)
    assert read == found and latency.read(tmp_path / "missing") is None
    assert latency.is_current(read, models, CONDITIONS)
    assert not latency.is_current(read, models, replace(CONDITIONS, imgsz=64))
    assert not latency.is_current(read, models[:1], CONDITIONS)
    assert not latency.is_current(read, [models[0], replace(models[1], digest="c")], CONDITIONS)
    assert not latency.is_current(read, models, replace(CONDITIONS, threads=(1, 2)))
    assert not latency.is_current(None, models, CONDITIONS)


def test_a_control_of_an_older_file_is_one():
    """Before format 2 the end of its name said so."""
    plain = {"model": "a (again)", "runtime": "ncnn", "threads": 2, "precision": "fp32"}
    row = latency.Row.from_plain(plain | dict.fromkeys(("p50", "p90", "ratio", "low", "high", "size"), 1))
    assert (row.model, row.control, row.way) == ("a", True, "ncnn fp32 2 threads")


def test_the_size_matched_baseline_is_the_nearest_in_fp32(monkeypatch):
    """Where OpenVINO would use bf16, each model has two rows; all widths near the best one are timed."""
    calls = []

    def measure(models, conditions, say=None, seconds=0):
        calls.append([model.label for model in models])
        rows = []
        for number, model in enumerate(models):
            ratio = float(model.label.rpartition("-w")[2]) / 0.62 if number else 1.0
            for precision, factor in (("fp32", 1.0), ("bf16", 0.5)):
                times = dict.fromkeys(("p50", "p90", "ratio", "low", "high"), ratio * factor)
                rows.append(latency.Row(model.label, "openvino", 1, precision, **times, size=1))
        return latency.Latency({}, 320, ["openvino"], [1], {"CPU": "x"}, rows)

    monkeypatch.setattr("yolo_lite.compare.latency.measure", measure)
    model = Model("mine", "mine.yaml", "mine", "a", 0, 0.0, 0)
    found = baselines.equal_latency("yolov8n", model, CONDITIONS)
    candidates = {one.width: one for one in baselines.candidates("yolov8n")}
    assert found.width == min(candidates, key=lambda each: abs(each - 0.62))
    assert found.yaml == candidates[found.width].yaml and found.base == "yolov8n"
    cost = found.match_for["mine"]
    assert cost.ratio == pytest.approx(found.width / 0.62) and cost.environment == {"CPU": "x"}
    assert len(calls) == 2 and len(calls[0]) == baselines.TIMED + 2
    monkeypatch.setattr(baselines, "_timed", lambda *_: [replace(cost, ratio=0.9)])
    with pytest.raises(ConfigError, match="yolov8n takes 0.90 of the time of mine; it is faster already"):
        baselines.equal_latency("yolov8n", model, CONDITIONS)


@pytest.mark.slow
def test_equal_latency(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "TIMED", 4)
    monkeypatch.setattr(baselines, "SECONDS", 1)
    narrow = baselines.write_yaml(baselines.shrunk("yolov8n", 0.45), tmp_path, "yolov8n-narrow")
    plan = make_plan(
        {"data": str(tiny_data), "models": f"yolov8n,{narrow}", "match": "latency", "match_for": "yolov8n-narrow",
         "imgsz": 320, "runtimes": "onnxruntime", "latency": False}
    )  # fmt: skip
    (found,) = [model for model in plan.comparison.models.values() if model.size_matched]
    ((label, cost),) = found.size_matched.match_for.items()
    assert label == "yolov8n-narrow" and found.gflops < 0.8 * plan.models[0].gflops
    assert cost.runtime == "onnxruntime" and cost.low <= cost.ratio <= cost.high
