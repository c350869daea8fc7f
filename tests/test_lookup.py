"""Lookup of configs by bare name, by path, as a copy, and in folders that Ultralytics' scale rule would mangle."""

import shutil
from pathlib import Path

import pytest
import ultralytics
from conftest import ROOT
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

from yolo_lite.ultralytics_hooks import configs

pytestmark = pytest.mark.core


def alpha_of(model):
    return model.model[4][0].expand.conv.in_channels  # P4's channels: 56 at alpha 0.5, 112 at 1.0


@pytest.mark.parametrize(
    ("name", "scale", "channels"),
    [
        ("yolov8n-mnv3.yaml", "n", 56),
        ("yolov8s-mnv3.yaml", "s", 112),
        ("yolov8-mnv3.yaml", "", 56),  # no letter: the first scale
        ("yolov5n-mnv3.yaml", "n", 56),
    ],
)
def test_bare_name_from_any_folder(name, scale, channels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = YOLO(name).model
    assert model.yaml["scale"] == scale and alpha_of(model) == channels


@pytest.mark.parametrize(
    "task", ["", "-pose", *(pytest.param(each, marks=pytest.mark.slow) for each in ("-seg", "-obb"))]
)
def test_the_preset_without_a_letter_is_s(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count = lambda name: sum(each.numel() for each in YOLO(name).model.parameters())  # noqa: E731
    assert count(f"yolo26-lite{task}.yaml") == count(f"yolo26s-lite{task}.yaml") > count(f"yolo26n-lite{task}.yaml")


def test_missing_letter_is_warned_of_once(tmp_path, monkeypatch):
    from ultralytics.nn import tasks

    warnings = []
    monkeypatch.setattr(tasks.LOGGER, "warning", warnings.append)
    YOLO("yolov8-mnv3.yaml")
    assert warnings == ["no model scale passed. Assuming scale='n'."]


ALWAYS = [("2nd_try", "yolov8s-mnv3.yaml"), ("exp1new/v2s", "yolov8s-mnv3.yaml"), ("cfg", "yolov8-mnv3.yaml")]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        pytest.param(folder, name, marks=[] if (folder, name) in ALWAYS else [pytest.mark.slow])
        for folder in ("cfg", "2nd_try", "exp1new/v2s", "plain")
        for name in ("yolov8s-mnv3.yaml", "yolov8-mnv3.yaml")
    ],
)
def test_copies_in_folders_with_any_name(folder, name, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "cfg" / "yolov8-mnv3.yaml", tmp_path / folder / "yolov8-mnv3.yaml")
    monkeypatch.chdir(tmp_path)
    for path in (f"{folder}/{name}", tmp_path / folder / name):
        d = yaml_model_load(path)
        assert d["scale"] == ("s" if "8s" in name else "") and d["yaml_file"] == str(path)
        assert alpha_of(YOLO(path).model) == (112 if "8s" in name else 56)


def test_own_file_comes_before_the_shipped_one(tmp_path, monkeypatch):
    text = (ROOT / "cfg" / "yolov8-mnv3.yaml").read_text("utf-8").replace("nc: 80", "nc: 7")
    (tmp_path / "yolov8-mnv3.yaml").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert yaml_model_load("yolov8n-mnv3.yaml")["nc"] == 7


def test_no_shipped_name_is_one_of_ultralytics():
    theirs = {path.name for path in Path(ultralytics.__file__).parent.rglob("*.yaml")}
    assert not theirs & configs.configs().keys()


def test_datasets_by_bare_name(tmp_path, monkeypatch):
    from ultralytics.utils.checks import check_file

    monkeypatch.chdir(tmp_path)
    assert check_file("shapes.yaml") == str(configs.config_folder() / "datasets" / "shapes.yaml")
    with pytest.raises(FileNotFoundError):
        check_file("no_such_shapes.yaml")
    assert check_file("no_such_shapes.yaml", hard=False) == []
