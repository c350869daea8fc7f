"""Hostile and careless model YAMLs: each kind of mistake is refused by its own sentence, and nothing else happens."""

import re

import pytest
from conftest import ROOT
from ultralytics import YOLO

from yolo_lite import ConfigError

pytestmark = pytest.mark.core
GOOD = (ROOT / "cfg" / "yolov8-mnv3.yaml").read_text("utf-8")
UPSAMPLE = "[-1, 1, nn.Upsample, [None, 2, nearest]]"


def refusal(folder, text):
    """Return the sentence that refuses a model YAML of ours."""
    path = folder / "yolov8n-bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        YOLO(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    return str(caught.value)


def changed(old, new, text=GOOD):
    """Return our example with something else in one place."""
    assert old in text
    return text.replace(old, new, 1)


# Names of modules -----------------------------------------------------------------------------------------------------

NO_MODULES = {  # a row's module and arguments -> what it is said to be
    "torch_safe_load, [evil.pt]": "'torch_safe_load' is a function",
    "torch_load, [evil.pt]": "'torch_load' is a function",
    "check_requirements, [evil]": "'check_requirements' is a function",
    "DetectionModel, [yolov8n.yaml]": "'DetectionModel' is a whole model",
    "YOLOEModel, [yoloe-11s.yaml]": "'YOLOEModel' is a whole model",
    "Ensemble, []": "'Ensemble' is a whole model",
    "Path, [x]": "'Path' is a class of another kind",
    "LOGGER, []": "'LOGGER' is a Logger",
    "torch, []": "'torch' is a Python module",
    "__builtins__, []": "'__builtins__' is a dict",
    "nn.functional, []": "'nn.functional' is a Python module",
    "nn.Parameter, []": "'nn.Parameter' is a class of another kind",
    "nn.factory_kwargs, []": "'nn.factory_kwargs' is a function",
    "torchvision.ops.nms, [1, 2]": "'torchvision.ops.nms' is a function",
    "torchvision.ops.misc, []": "'torchvision.ops.misc' is a Python module",
}
UNKNOWN = ["eval, [x]", "nn.modules.activation.ReLU, []", "torchvision.models.resnet18, []", "torchvision.ops.Nms, []",
           "nn., []", "torch.load, [evil.pt]", "os.system, [x]", "nn.Module.__init__, []"]  # fmt: skip


@pytest.mark.parametrize("row", NO_MODULES)
def test_only_modules_are_called(row, tmp_path):
    text = refusal(tmp_path, changed(UPSAMPLE, f"[-1, 1, {row}]"))
    assert f"head row 6 [-1, 1, {row}]: module has to be the name of an nn.Module class, {NO_MODULES[row]}" in text


@pytest.mark.parametrize("row", UNKNOWN)
def test_names_are_looked_for_where_modules_are(row, tmp_path):
    text = refusal(tmp_path, changed(UPSAMPLE, f"[-1, 1, {row}]"))
    assert f"head row 6 [-1, 1, {row}]: unknown module '{row.partition(',')[0]}'" in text


def test_no_name_of_ultralytics_is_called_unless_it_is_a_module():
    """All names that its parser would find, not those that somebody thought of."""
    from torch import nn
    from ultralytics.nn import tasks

    from yolo_lite.ultralytics_hooks.checks import module_class

    for name, value in vars(tasks).items():
        is_module = isinstance(value, type) and issubclass(value, nn.Module)
        if is_module and not issubclass(value, (tasks.BaseModel, tasks.Ensemble)):
            assert module_class(name, vars(tasks)) is value
        else:
            with pytest.raises(ConfigError, match=re.escape(repr(name))):
                module_class(name, vars(tasks))


@pytest.mark.parametrize("args", ["512, resnet18", "512, resnet18, DEFAULT", "512, resnet18, IMAGENET1K_V1, true, 2"])
def test_torchvision_downloads_nothing_in_the_dry_run(args, tmp_path, monkeypatch):
    from torchvision.models import ResNet18_Weights

    asked = []

    def get_state_dict(self, *args, **kwargs):
        asked.append(self)
        raise RuntimeError("no network")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", get_state_dict)
    text = (
        f"nc: 3\nbackbone_weights: null\nbackbone: [[-1, 1, TorchVision, [{args}]]]\nhead: [[[0], 1, Detect, [nc]]]\n"
    )
    assert "'Detetc'" in refusal(tmp_path, text.replace("Detect", "Detetc"))
    assert "cannot be built" in refusal(tmp_path, text.replace("[nc]", "[nc, 1, 2, 3, 4, 5]"))
    assert not asked
    (tmp_path / "yolov8n-good.yaml").write_text(text)
    with pytest.raises(RuntimeError, match="no network"):
        YOLO(tmp_path / "yolov8n-good.yaml")
    assert asked
