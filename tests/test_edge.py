"""The key `backbone_edge`: ReLU6 instead of h-swish and SiLU, and no squeeze-excite."""

import copy

import pytest
import timm
import torch
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite import ConfigError, create_backbone, list_backbones, make
from yolo_lite.blocks import SqueezeExcite

DISLIKED = (SqueezeExcite, nn.Hardswish, nn.SiLU)


def has(model, *kinds):
    return any(isinstance(module, kinds) for module in model.modules())


@pytest.mark.parametrize("name", list_backbones())
def test_every_backbone(name):
    torch.manual_seed(0)
    normal, edge = create_backbone(name), create_backbone(name, edge=True)
    assert not has(edge, *DISLIKED) and edge.channels == normal.channels
    if not has(normal, *DISLIKED):  # nothing to change
        assert str(normal) == str(edge)
        return
    assert str(normal) != str(edge) and len(edge.state_dict()) <= len(normal.state_dict())
    assert has(edge, nn.ReLU6) == has(normal, nn.ReLU6, nn.Hardswish, nn.SiLU)
    outputs = edge(torch.rand(2, 3, 64, 64))
    sum(output.mean() for output in outputs).backward()
    assert all(parameter.grad is not None for parameter in edge.parameters())


def edge_config(**keys):
    return {**yaml_model_load("yolov8n-mnv3.yaml"), "backbone_edge": True, **keys}


def test_in_a_yaml():
    model = DetectionModel(edge_config(activation="nn.ReLU6()"), verbose=False)
    assert not has(model, *DISLIKED)
    normal = DetectionModel(yaml_model_load("yolov8n-mnv3.yaml"), verbose=False)
    assert has(normal, *DISLIKED) and sum(p.numel() for p in model.parameters()) < sum(
        p.numel() for p in normal.parameters()
    )
    assert str(DetectionModel(edge_config(backbone_edge=False), verbose=False)) == str(normal)


def test_the_stock_command_trains_it_and_checkpoints_keep_it(tiny_data, tmp_path, monkeypatch):
    from ultralytics.cfg import entrypoint
    from ultralytics.nn.tasks import yaml_model_load as load

    d = {key: value for key, value in load("yolov8-mnv3.yaml").items() if key not in ("scale", "yaml_file")}
    (tmp_path / "yolov8-edge.yaml").write_text(yaml.safe_dump({**d, "backbone_edge": True}))
    words = ["train", "model=yolov8n-edge.yaml", f"data={tiny_data}", "imgsz=32", "batch=8", "workers=0", "epochs=1"]
    monkeypatch.chdir(tmp_path)
    entrypoint(" ".join(["yolo", *words, "plots=False", f"project={tmp_path}", "name=a"]))
    model = YOLO(tmp_path / "a/weights/last.pt").model
    assert not has(model.model[:5], *DISLIKED) and model.yaml["backbone_edge"] is True
    again = DetectionModel(copy.deepcopy(model.yaml), nc=model.yaml["nc"], verbose=False)
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"backbone_edge": "yes"}, "backbone_edge has to be true or false, found 'yes'"),
        ({"backbone_edge": 1}, "backbone_edge has to be true or false, found 1"),
        (
            {"backbone_weights": "imagenet"},
            "backbone_edge: true removes what published weights were trained with; set backbone_weights: null",
        ),
    ],
)
def test_refused(keys, message):
    with pytest.raises(ConfigError, match=f"{message}$"):
        DetectionModel(edge_config(**keys), verbose=False)


@pytest.mark.parametrize(
    ("base", "backbone", "both"),
    [("yolov8", "mobilenetv3_large_100", True), ("yolo26", "mobilenetv4_conv_small", False)],
)
def test_one_switch_of_make(base, backbone, both):
    d = yaml.safe_load(make(base=base, backbone=backbone, head="light", edge=True, width=0.5, count=False))
    assert (d.get("backbone_edge"), d["activation"]) == (True if both else None, "nn.ReLU6()")
    model = DetectionModel({**d, "scale": "n"}, verbose=False)
    assert not has(model, *DISLIKED) and has(model.model[-1], nn.ReLU6)


def test_weights_stay_where_nothing_is_taken_away():
    weights = timm.create_model("mobilenetv4_conv_small").state_dict()
    plain, edge = (create_backbone("mobilenetv4_conv_small", weights, edge=each).eval() for each in (False, True))
    image = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(plain(image), edge(image), strict=True))


def test_make_refuses_weights_that_were_trained_without():
    for options, message in (
        ({"weights": "imagenet"}, "edge=True removes .*; leave out weights"),
        ({"backbone": "timm/lcnet_100"}, "edge=True changes yolo_lite's own backbones only, timm/lcnet_100 is timm's"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(edge=True, count=False, **options)


def test_refused_where_it_would_change_nothing():
    with pytest.raises(ConfigError, match="changes yolo_lite's native backbones, and this model has none"):
        DetectionModel({**yaml_model_load("yolov8n-timm.yaml"), "backbone_edge": True}, verbose=False)
    with pytest.raises(ConfigError, match=r"^edge=True removes .*; leave out weights$"):
        create_backbone("mobilenetv3_large_100", weights="imagenet", edge=True)
