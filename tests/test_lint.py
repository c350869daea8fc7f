"""Lint for operators that edge compilers handle badly, and `yolo-lite info` of models."""

import re

import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite import create_backbone, list_backbones
from yolo_lite.backbones.timm_backbone import TimmBackbone
from yolo_lite.commands import main
from yolo_lite.edge import CLAIMS, SWITCHES, lint


def model(name, **keys):
    return DetectionModel({**yaml_model_load(name), **keys}, verbose=False)


def operators(model):
    return {finding.claim.operator for finding in lint(model)}


def test_every_claim_has_a_page_and_a_switch():
    for claim in CLAIMS:
        assert re.match(r"https://[\w./#-]+$", claim.page) and claim.operator in SWITCHES
        assert claim.compiler in ("Edge TPU", "NNAPI", "RKNN")
    assert {claim.operator for claim in CLAIMS} == SWITCHES.keys()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mobilenetv2_100", set()),
        ("mobilenetv4_conv_small", set()),
        ("efficientnet_lite0", set()),
        ("mobilenetv3_large_100", {"h-swish", "squeeze-excite"}),
        ("efficientnet_b0", {"SiLU", "squeeze-excite"}),
        ("shufflenet_v1_g3", {"channel shuffle"}),
        ("shufflenet_v2_x1_0", {"channel shuffle"}),
        ("ghostnet_100", {"squeeze-excite"}),
        ("ghostnetv2_100", {"squeeze-excite", "nearest upsampling"}),
    ],
)
def test_backbones(name, found):
    assert operators(create_backbone(name)) == found


@pytest.mark.parametrize("name", list_backbones())
def test_the_switch_of_a_backbone_avoids_what_it_says(name):
    """Where the lint says `backbone_edge`, that is true, and nothing that it says goes away otherwise."""
    avoided = {f.claim.operator for f in lint(create_backbone(name)) if f.switch == "backbone_edge: true"}
    assert operators(create_backbone(name, edge=True)) == operators(create_backbone(name)) - avoided


def test_switches_of_a_config_avoid_what_they_say():
    before = lint(model("yolov8n-mnv3.yaml"))
    assert {finding.switch for finding in before if finding.claim.operator == "SiLU"} == {"activation: nn.ReLU6()"}
    assert {tuple(finding.rows) for finding in before if finding.claim.operator == "h-swish"} == {(0, 3, 4)}
    after = model("yolov8n-mnv3.yaml", backbone_edge=True, activation="nn.ReLU6()", reg_max=1)
    assert operators(after) == {"nearest upsampling"}


def test_counts_what_is_there():
    dilated = nn.Sequential(nn.Conv2d(3, 8, 3, dilation=16, padding=16), nn.Conv2d(8, 8, 3, dilation=15, padding=15))
    (finding,) = lint(dilated)
    assert (finding.claim.operator, finding.count, finding.rows) == ("padding over 15", 1, [])
    shared = nn.SiLU()
    assert lint(nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.Conv2d(8, 8, 1), shared))[0].count == 2


def test_stock_models_and_timm_are_linted_too():
    assert operators(model("yolov8n.yaml")) == {"SiLU", "nearest upsampling", "DFL"}
    assert operators(TimmBackbone(3, "ghostnetv2_100")) == {"squeeze-excite"}  # its upsampling is of another kind
    findings = lint(model("yolov8n-timm.yaml"))
    assert {finding.claim.operator for finding in findings} == {"SiLU", "nearest upsampling", "DFL"}


def test_info_of_a_config_and_a_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def info(name, status=0):
        assert main(["info", str(name)]) == status
        return "".join(capsys.readouterr())

    text = info("yolov8n-mnv3.yaml")
    assert "yolov8n-mnv3.yaml: detect, 80 classes" in text and "2.66 M parameters, 6.70 GFLOPs at 640 px" in text
    assert "\nh-swish: 19 times, rows 0, 3, 4; avoided by backbone_edge: true\n  Edge TPU  does not map it; " in text
    found = text[text.index("Operators known") :]
    assert all(len(line) <= 100 for line in found.splitlines() if "https://" not in line)
    assert "\n[1] https://github.com/google-coral/edgetpu/issues/353\n" in text
    from ultralytics import YOLO

    YOLO("yolov8n.yaml").save(tmp_path / "stock.pt")
    text = info(tmp_path / "stock.pt")
    assert "3.15 M parameters, 8.74 GFLOPs" in text and "h-swish" not in text
    text = info("mobilenetv2_100")
    assert "edge compilers: no operators known to be a problem" in text
    torch.save({}, tmp_path / "empty.pt")
    (tmp_path / "made.onnx").write_bytes(b"onnx")
    for name, message in (
        ("yolov8n-mnv33.yaml", "there is no model 'yolov8n-mnv33.yaml'; did you mean 'yolov8n-mnv3.yaml'?"),
        ("empty.pt", "empty.pt cannot be read as a model: "),
        ("none.pt", "there is no file none.pt"),
        ("made.onnx", "made.onnx is an exported file; info reads the .pt or .yaml that it was made from"),
    ):
        assert info(name, status=1).startswith(f"yolo-lite: {message}")
