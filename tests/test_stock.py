"""Stock models are bit-for-bit identical with and without the plugin."""

import json

import pytest
from conftest import python

pytestmark = pytest.mark.core

PROBE = """
import hashlib, json, torch
from ultralytics import RTDETR, YOLO
from ultralytics.nn.modules import Conv
if {ours}:  # the plugin has been at work before, with success and without
    YOLO("yolov8n-mnv3.yaml")
    try:
        YOLO("yolov8n-bad.yaml")
        raise SystemExit("was not refused")
    except ValueError:
        pass
def digest(tensors):
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(tensor.detach().contiguous().numpy().tobytes())
    return state.hexdigest()
def flat(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from flat(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from flat(each)
report = {{}}
for name in {names}:
    torch.manual_seed(0)
    model = (RTDETR if "rtdetr" in name else YOLO)(name).model.eval()
    with torch.no_grad():
        outputs = list(flat(model(torch.rand(1, 3, 192, 192))))
    norms = [(m.eps, m.momentum) for m in model.modules() if hasattr(m, "running_mean")]
    report[name] = [list(model.state_dict()), digest(model.state_dict().values()), len(outputs), digest(outputs),
                    repr(Conv.default_act), norms]
print("REPORT" + json.dumps(report))
"""
NAMES = ["yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml", "yolov8n-seg.yaml", "yolov8n-ghost.yaml", "rtdetr-l.yaml"]


def probe(folder, ours, **environment):
    output = python(PROBE.format(ours=ours, names=NAMES), folder, **environment).stdout
    return json.loads(output.rpartition("REPORT")[2])


def test_bit_for_bit(tmp_path):
    from yolo_lite.ultralytics_hooks import configs

    text = configs.configs()["yolov8-mnv3.yaml"].read_text("utf-8").replace("large, 3", "large, 4")
    (tmp_path / "yolov8n-bad.yaml").write_text("activation: nn.ReLU()\n" + text, "utf-8")
    without, with_us = probe(tmp_path, False, YOLO_LITE_HOOK="0"), probe(tmp_path, True)
    assert with_us.keys() == set(NAMES)
    for name in NAMES:
        assert with_us[name] == without[name], name
        assert without[name][2] > 0
