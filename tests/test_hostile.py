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


# Keys -----------------------------------------------------------------------------------------------------------------

MISSPELT = {  # key -> the one that is meant
    "backbone_widht": "backbone_width",
    "backbone-width": "backbone_width",
    "Backbone_Width": "backbone_width",
    "bakcbone_width": "backbone_width",
    "backbonewidth": "backbone_width",
    "backbone_multiplier": "backbone_width",
    "alpha": "backbone_width",
    "width": "backbone_width",
    "backbone_weight": "backbone_weights",
    "backbone_pretrained": "backbone_weights",
    "weights": "backbone_weights",
    "pretrained": "backbone_weights",
    "backbone_edges": "backbone_edge",
    "edge": "backbone_edge",
    "backbones": "backbone",
    "heads": "head",
    "Scales": "scales",
    "scalse": "scales",
    "activaton": "activation",
    "reg_maxx": "reg_max",
    "end2nd": "end2end",
    "kpt_shpae": "kpt_shape",
}
STOCK = (
    "nc: 3\nscales: {n: [0.33, 0.25, 1024]}\nbackbone: [[-1, 1, Conv, [64, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]\n"
)


@pytest.mark.parametrize("key", MISSPELT)
def test_misspelt_keys(key, tmp_path):
    text = refusal(tmp_path, f"{key}: 1\n{GOOD}")
    assert text.endswith(f"unknown key {key!r}; did you mean {MISSPELT[key]!r}?")


@pytest.mark.parametrize("key", ["backbone_activation", "backbone_frozen_rows", "backbone_act", "backbone_"])
def test_every_key_that_begins_like_ours(key, tmp_path):
    for text in (GOOD, STOCK):
        said = rf"unknown key '{key}'; (did you mean 'backbone_\w+'\?|there are backbone_edge, backbone_weights, .*)$"
        assert re.search(said, refusal(tmp_path, f"{key}: 1\n{text}"))


@pytest.mark.parametrize("key", ["backbone_widht", "bakcbone_weights", "backboneedge"])
def test_a_misspelt_key_of_ours_in_a_model_of_stock_modules(key, tmp_path):
    assert f"unknown key {key!r}" in refusal(tmp_path, f"{key}: 1\n{STOCK}")


@pytest.mark.parametrize("key", ["alpha", "heads", "pretrained", "width", "activaton"])
def test_keys_of_stock_models_are_not_ours_to_judge(key, tmp_path):
    path = tmp_path / "yolov8n-stock.yaml"
    path.write_text(f"{key}: 1\n{STOCK}")
    assert YOLO(path).model.yaml[key] == 1


@pytest.mark.parametrize(
    "key", ["author", "version", "license", "notes", "description", "date", "task", "names", "1", "null", "x"]
)
def test_keys_that_mean_something_else(key, tmp_path):
    path = tmp_path / "yolov8n-good.yaml"
    path.write_text(f"{key}: 1\n{GOOD}")
    assert YOLO(path).model.yaml["nc"] == 80


def test_all_keys_that_ultralytics_reads_are_known():
    """None of its YAMLs has a key that would be taken for another one."""
    from yolo_lite.ultralytics_hooks import configs, reading

    for path in [*configs.stock_configs().values(), *configs.configs().values()]:
        assert not [key for key in YAML_KEYS.findall(path.read_text("utf-8")) if reading.meant(key)], path


YAML_KEYS = re.compile(r"^(\w+):", re.M)
