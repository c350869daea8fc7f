"""Latency of the compared models, and the rival of equal latency."""

import json
from dataclasses import replace

import pytest

from yolo_lite import ConfigError
from yolo_lite.compare import baselines, latency
from yolo_lite.compare.plan import make_plan
from yolo_lite.files import write_json
from yolo_lite.models import Model

pytest.importorskip("onnxruntime")
HOW = {"runtimes": ["onnxruntime"], "threads": [1]}


def test_latency(tmp_path):
    models = [
        Model("yolov8n", "yolov8n.yaml", "yolov8n", "a", 0, 0.0, 0),
        Model(
            "narrow",
            str(baselines.write_yaml("yolov8n-w0.3", baselines.shrunk("yolov8n", 0.3), tmp_path)),
            "",
            "b",
            0,
            0.0,
            0,
        ),
    ]
    found = latency.latency(models, 3, 320, HOW, seconds=0.5)
    assert json.loads(json.dumps(found)) == found and found["models"] == {"yolov8n": "a", "narrow": "b"}
    host, narrow, control = found["measurements"]
    assert [(row["model"], row["control"]) for row in (host, narrow, control)] == [
        ("yolov8n", False), ("narrow", False), ("yolov8n", True),
    ]  # fmt: skip
    assert host["size"] > narrow["size"] > 10**6 and host["parameters"] == 3_006_233  # of 3 classes, not 80
    assert 0 < narrow["p50"] <= narrow["p90"] and narrow["ratio"] < 1
    write_json(tmp_path / "latency.json", found)
    assert latency.is_current(tmp_path / "latency.json", models, 320, HOW)
    assert not latency.is_current(tmp_path / "latency.json", models, 64, HOW)
    assert not latency.is_current(tmp_path / "latency.json", models[:1], 320, HOW)
    assert not latency.is_current(tmp_path / "latency.json", [models[0], replace(models[1], digest="c")], 320, HOW)
    assert not latency.is_current(tmp_path / "latency.json", models, 320, {**HOW, "threads": [1, 2]})
    assert not latency.is_current(tmp_path / "missing.json", models, 320, HOW)


def test_the_rival_is_the_nearest_in_fp32(monkeypatch):
    """Where OpenVINO would use bf16, each model has two rows; all widths near the best one are timed."""
    calls = []

    def latency(models, classes, imgsz, how, say=None, seconds=0):
        calls.append([model.label for model in models])
        rows = []
        for number, model in enumerate(models):
            ratio = float(model.label.rpartition("-w")[2]) / 0.62 if number else 1.0
            for precision, factor in (("fp32", 1.0), ("bf16", 0.5)):
                time = {"ratio": ratio * factor, "low": ratio * factor, "high": ratio * factor}
                row = {"model": model.label, "precision": precision, "runtime": "openvino", "threads": 1}
                rows.append({**row, "control": False, **time})
        return {"measurements": rows, "environment": {"CPU": "x"}}

    monkeypatch.setattr("yolo_lite.compare.latency.latency", latency)
    how = {"runtimes": ["onnxruntime"], "threads": [1]}
    model = Model("mine", "mine.yaml", "mine", "a", 0, 0.0, 0)
    width, d, cost = baselines.equal_latency("yolov8n", model, 3, 320, how)
    widths = [width for width, _ in baselines.candidates("yolov8n")]
    assert width == min(widths, key=lambda each: abs(each - 0.62)) and d == dict(baselines.candidates("yolov8n"))[width]
    assert cost["ratio"] == pytest.approx(width / 0.62) and cost["environment"] == {"CPU": "x"}
    assert len(calls) == 2 and len(calls[0]) == baselines.TIMED + 2
    monkeypatch.setattr(baselines, "_timed", lambda *_: [{"ratio": 0.9}])
    with pytest.raises(ConfigError, match="yolov8n takes 0.90 of the time of mine; it is the rival already"):
        baselines.equal_latency("yolov8n", model, 3, 320, how)


@pytest.mark.slow
def test_equal_latency(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "TIMED", 4)
    monkeypatch.setattr(baselines, "SECONDS", 1)
    narrow = baselines.write_yaml("yolov8n-narrow", baselines.shrunk("yolov8n", 0.45), tmp_path)
    plan = make_plan(
        {"data": str(tiny_data), "models": f"yolov8n,{narrow}", "match": "latency", "rivals": "yolov8n-narrow",
         "imgsz": 320, "runtimes": "onnxruntime", "latency": False}
    )  # fmt: skip
    (rival,) = [model for model in plan.models if model.rival_of]
    cost = plan.record["matched"][rival.label]["yolov8n-narrow"]
    assert cost["runtime"] == "onnxruntime" and cost["low"] <= cost["ratio"] <= cost["high"]
    assert rival.rival_of == ("yolov8n-narrow",) and rival.gflops < 0.8 * plan.models[0].gflops
