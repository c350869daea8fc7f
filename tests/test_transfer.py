"""`pretrained=` with another backbone: neck and head are loaded by role; fine-tuning the same model is unchanged."""

import re

import pytest
import torch
import yaml
from conftest import yolo
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import LOGGER

from yolo_lite import make, output
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
    if hasattr(target, "_remap_cls_by_names"):  # in releases without it, the branch is wider for more classes
        assert torch.equal(ours[0].conv.weight, theirs[0].conv.weight)
        assert torch.equal(ours[2].bias[[0, 2]], theirs[2].bias[[7, 5]])


def test_a_model_built_anew_counts_what_came_by_role(monkeypatch):
    said = []
    monkeypatch.setattr(LOGGER, "info", lambda text, *_: said.append(text))
    monkeypatch.setattr(output, "_said", set())
    first, anew = DetectionModel("yolov8n-mnv3.yaml", verbose=False), DetectionModel("yolov8n-mnv3.yaml", verbose=False)
    first.load(stock())
    anew.load(first)
    by_role = "by role: 197 of 205 tensors of neck and head, 0 of 302 of the backbone"
    assert said == ["Transferred 197/507 items from pretrained weights", by_role]
    DetectionModel("yolov8n-mnv3.yaml", nc=3, verbose=False).load(anew)
    (line,) = (each for each in said[2:] if not each.startswith("Overriding model.yaml nc="))
    fewer = re.fullmatch(r"by role: (\d+) of 205 tensors of neck and head, 0 of 302 of the backbone", line)
    assert fewer and 100 < int(fewer[1]) < 197  # with 3 classes; the fitting part of the head depends on the release
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), anew.state_dict().values(), strict=True))


@pytest.mark.slow  # its messages are tested above, and `pretrained=` of the command in test_transfer_training.py
def test_through_the_stock_command(tiny_data, tmp_path):
    model = YOLO("yolov8n.yaml")
    model.save(tmp_path / "stock.pt")
    process = yolo(
        "train", "model=yolov8n-mnv3.yaml", "pretrained=stock.pt", f"data={tiny_data}", "imgsz=64", "epochs=1",
        "batch=8", "workers=0", "plots=False", "project=runs", "name=run", cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout.count("Transferred ") == 1  # not a second time with the random backbone
    said = re.findall(r"by role: (\d+) of 205 tensors of neck and head, 0 of 302 of the backbone", process.stdout)
    # some releases first print the count for 80 classes, then the one for the dataset's classes
    assert 100 < int(said[-1]) < 197 and set(said) <= {"197", said[-1]}
