"""Checkpoints of a newer yolo_lite release, and checkpoints that name networks beyond the limits."""

import io
import pickle
import zipfile

import pytest
import torch
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite import ConfigError, __version__
from yolo_lite.backbones.timm_backbone import TimmBackbone
from yolo_lite.ultralytics_hooks import checkpoints

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the path of a checkpoint of this release."""
    path = tmp_path_factory.mktemp("saved") / "best.pt"
    torch.save({"model": DetectionModel("yolov8n-mnv3-small.yaml", verbose=False), "train_args": {}}, path)
    return path


def rewritten(path, folder, *changes):
    """Return a copy of a checkpoint with other bytes in what is pickled."""
    copy = folder / "other.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            for before, after in changes if entry.filename.endswith("data.pkl") else ():
                assert before in data
                data = data.replace(before, after)
            new.writestr(entry, data)
    return copy


def test_the_version_is_stored(saved):
    assert yaml_model_load("yolov8n-mnv3.yaml")[checkpoints.VERSION_KEY] == __version__
    assert checkpoints._version_of(checkpoints._pickled(saved)) == __version__
    model = tasks.torch_safe_load(saved)[0]["model"]
    assert model.yaml[checkpoints.VERSION_KEY] == __version__
    assert checkpoints.VERSION_KEY not in yaml_model_load("yolov8n.yaml")


NEW = (__version__.encode(), b"9.3.7"[: len(__version__)])
NEWER = {  # change in a newer release -> ((old bytes, new bytes), message)
    "a class": ((b"MobileNetV3Stage\n", b"MobileNetV5Stage\n"), "there is no yolo_lite.backbones.mobilenetv3.MobileNetV5Stage"),
    "a module": ((b"yolo_lite.backbones.mobilenetv3\n", b"yolo_lite.backbones.mobilenetv5\n"), "there is no yolo_lite.backbones.mobilenetv5.MobileNetV3Stage"),
    "something else": ((b"yolo_lite.blocks\nBatchNorm2d", b"yolo_lite.blocks\nround_channels"), "UnpicklingError"),
}  # fmt: skip


@pytest.mark.parametrize("what", NEWER)
def test_a_newer_release_is_named(what, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "check_requirements", lambda *a, **k: pytest.fail(f"would install {a}"))
    change, said = NEWER[what]
    path = rewritten(saved, tmp_path, NEW, change)
    with pytest.raises(ConfigError) as caught:
        tasks.torch_safe_load(path)
    assert f"{path}: made with yolo_lite 9.3.7, this is {__version__}; pip install -U yolo-lite-backbones (" in str(
        caught.value
    )
    assert said in str(caught.value)


def test_a_newer_release_that_changed_nothing_loads(saved, tmp_path):
    assert tasks.torch_safe_load(rewritten(saved, tmp_path, NEW))[0]["model"].yaml["nc"] == 80


def test_an_older_one_is_not_blamed_on_its_version(saved, tmp_path):
    path = rewritten(saved, tmp_path, (b"MobileNetV3Stage\n", b"MobileNetV5Stage\n"))
    with pytest.raises(AttributeError, match="MobileNetV5Stage"):
        tasks.torch_safe_load(path)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04"])
def test_damaged_files_are_ultralytics_to_judge(data, tmp_path):
    (tmp_path / "x.pt").write_bytes(data)
    assert checkpoints._pickled(tmp_path / "x.pt") == b"" and checkpoints._version_of(b"") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "vit_giant_patch14_reg4_dinov2"}, "parameters; needed at most 100,000,000"),
        ({"name": "convnext_xxlarge"}, "parameters; needed at most 100,000,000"),
        ({"name": "no_such_network"}, "has no network 'no_such_network'"),
        ({"c1": 10**9}, "takes 1000000000 channels; needed at most 256"),
        ({"c1": 0}, "takes 0 channels"),
        ({"c1": "3"}, "takes '3' channels"),
    ],
)
def test_timm_names_in_checkpoints_are_built_within_limits(changes, said):
    state = TimmBackbone(3, "lcnet_050").__getstate__()
    backbone = TimmBackbone.__new__(TimmBackbone)
    with pytest.raises(ConfigError, match=said):
        backbone.__setstate__({**state, **changes})
    assert pickle.load(io.BytesIO(pickle.dumps(TimmBackbone(3, "lcnet_050")))).name == "lcnet_050"
