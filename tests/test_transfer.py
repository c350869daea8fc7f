"""`pretrained=` with another backbone: neck and head by role; fine-tuning the same model as ever."""

import torch
import yaml
from conftest import yolo
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite import make
from yolo_lite.weights.by_role import rows_by_role


def stock(name="yolov8n.yaml"):
    torch.manual_seed(1)
    return DetectionModel(name, verbose=False)


def test_rows_are_paired_by_what_they_do():
    """Rows of neck and head in order; of the backbone none."""
    source, target = yaml_model_load("yolov8n.yaml"), yaml_model_load("yolov8n-mnv3.yaml")
    assert rows_by_role(source, target) == {i: i + 4 for i in range(5, 19)}
    other = {
        **target,
        **yaml.safe_load(make("yolov8", "mobilenetv3_large_100", "extradw", width=0.5, scale="n", count=False)),
    }
    pairs = rows_by_role(source, other)
    names = [row[2] for row in other["backbone"] + other["head"]]
    assert {names[i] for i in pairs} == {"SPPF", "nn.Upsample", "Conv", "Detect"}
    assert all(i + 4 == j for i, j in pairs.items())
    assert rows_by_role(target, target) == {i: i for i in range(19)}


def test_neck_and_head_come_over_and_the_rest_stays():
    source, target = stock(), DetectionModel("yolov8n-mnv3.yaml", verbose=False)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    target.load(source, verbose=False)
    theirs, carried = source.state_dict(), 0
    for name, value in target.state_dict().items():
        row, rest = int(name.split(".")[1]), name.split(".", 2)[2]
        same = theirs.get(f"model.{row + 4}.{rest}") if row >= 5 else None
        if same is not None and same.shape == value.shape:
            carried += 1
            assert torch.equal(value, same), name
        else:
            assert torch.equal(value, before[name]), name
    assert carried == 197


def test_the_same_model_is_loaded_as_ever():
    source, target = (DetectionModel("yolov8n-mnv3.yaml", verbose=False) for _ in range(2))
    target.load(source, verbose=False)
    assert all(
        torch.equal(a, b) for a, b in zip(target.state_dict().values(), source.state_dict().values(), strict=True)
    )


def test_other_classes_come_over_by_their_names():
    """Ultralytics' own matching of class names works on what is carried over too."""
    source, target = stock(), DetectionModel("yolov8n-mnv3.yaml", nc=3, verbose=False)
    source.names = {i: f"class {i}" for i in range(80)}
    target.names = {0: "class 7", 1: "another", 2: "class 5"}
    target.load(source, verbose=False)
    theirs, ours = source.model[-1].cv3[0], target.model[-1].cv3[0]
    assert torch.equal(ours[0].conv.weight, theirs[0].conv.weight)
    if hasattr(target, "_remap_cls_by_names"):
        assert torch.equal(ours[2].bias[[0, 2]], theirs[2].bias[[7, 5]])


def test_through_the_stock_command(tiny_data, tmp_path):
    model = YOLO("yolov8n.yaml")
    model.save(tmp_path / "stock.pt")
    output = yolo(
        "train", "model=yolov8n-mnv3.yaml", "pretrained=stock.pt", f"data={tiny_data}", "imgsz=64", "epochs=1",
        "batch=8", "workers=0", "plots=False", "project=runs", "name=run", cwd=tmp_path,
    ).stdout  # fmt: skip
    assert "Transferred" in output
    assert "tensors of neck and head, 0 of 302 of the backbone" in output
