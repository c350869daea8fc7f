"""Weights files that would load but be wrong are refused; files in all usual forms load."""

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from yolo_lite import ConfigError, create_backbone
from yolo_lite.weights import loading, published

pytestmark = pytest.mark.core
NAME = "mobilenetv3_small_100"


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    net = timm.create_model(NAME)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.state_dict()


SPOILT = {  # change of one tensor -> (tensor, function, message)
    "int8": ("blocks.0.0.conv_dw.weight", lambda t: t.to(torch.int8), "is int8; needed floating-point numbers"),
    "int64": ("bn1.bias", lambda t: t.long(), "is int64; needed floating-point numbers"),
    "bool": ("conv_stem.weight", lambda t: t > 0, "is bool; needed floating-point numbers"),
    "complex": ("conv_stem.weight", lambda t: t + 0j, "is complex64; needed floating-point numbers"),
    "quantized": ("bn1.bias", lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is qint8; needed"),
    "sparse": ("bn1.bias", lambda t: t.to_sparse(), "is float32, sparse_coo; needed"),
    "no data": ("bn1.bias", lambda t: t.to("meta"), "is without data; needed"),
    "NaN": ("blocks.3.0.conv_pw.weight", lambda t: t.flatten().index_fill(0, torch.tensor([3]), float("nan")).view_as(t), "holds values that are NaN or infinite"),
    "infinite": ("bn1.weight", lambda t: t / 0, "holds values that are NaN or infinite"),
    "minus infinite half": ("bn1.bias", lambda t: torch.full_like(t, -float("inf")).half(), "holds values that are NaN or infinite"),
    "variance": ("bn1.running_var", lambda t: -t, "is a variance and holds values below 0"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("names", ["their own", "foreign"])
def test_values_that_no_training_leaves(how, names, weights):
    tensor, change, said = SPOILT[how]
    spoilt = {**weights, tensor: change(weights[tensor])}
    if names == "foreign":
        spoilt = {f"net.{name}": value for name, value in spoilt.items()}
    with pytest.raises(ConfigError, match=f"the weights' .*{tensor} {said}"):
        create_backbone(NAME, weights=spoilt)


@pytest.mark.parametrize("how", ["int8", "NaN", "variance"])
def test_the_same_for_timms_networks(how, weights, tmp_path):
    tensor, change, said = SPOILT[how]
    save_file({**weights, tensor: change(weights[tensor]).contiguous()}, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=f"the weights' {tensor} {said}"):
        published.find_timm(NAME, str(tmp_path / "w.safetensors")).read()


@pytest.mark.parametrize(("one", "other"), [("running_mean", "running_var"), ("weight", "bias"), ("moving_mean", "moving_variance")])  # fmt: skip
def test_tensors_exchanged_under_foreign_names(one, other, weights):
    """By position only the shape is compared otherwise, and theirs are equal."""
    names = {"moving_mean": "running_mean", "moving_variance": "running_var"}
    a, b = (f"bn1.{names.get(each, each)}" for each in (one, other))
    order = [{a: b, b: a}.get(name, name) for name in weights]
    foreign = {
        f"net.{name.replace(names.get(one, one), one).replace(names.get(other, other), other)}": weights[name]
        for name in order
    }
    with pytest.raises(ConfigError, match=r"the weights do not fit: net.bn1.\w+ stands where the backbone has .*"):
        create_backbone(NAME, weights=foreign)


def test_foreign_names_that_say_nothing(weights):
    """Theirs is the reference's order, as ever."""
    ours = create_backbone(
        NAME, weights={f"p{i}": v for i, (k, v) in enumerate(weights.items()) if "num_batches" not in k}
    )
    by_name = create_backbone(NAME, weights=weights).state_dict()
    assert all(torch.equal(value, by_name[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("name", "other", "create"),
    [
        ("mobilenetv3_small_100", "mobilenet_v3_small", torchvision.models.mobilenet_v3_small),
        ("mobilenet_v3_small", "mobilenetv3_small_100", lambda: timm.create_model("mobilenetv3_small_100")),
        ("mnasnet_100", "mnasnet1_0", torchvision.models.mnasnet1_0),
    ],
)
def test_another_packages_file_with_other_settings(name, other, create):
    """The tensors fit, but BatchNorm's eps or the rounding is another's."""
    with pytest.raises(
        ConfigError, match=f"these are weights of {other}, which computes differently from {name}; use {other}"
    ):
        create_backbone(name, weights=create().state_dict())
    assert create_backbone(other, weights=create().state_dict())


def test_another_packages_file_with_the_same_settings():
    weights = torchvision.models.mobilenet_v2().state_dict()
    first, second = (
        create_backbone(name, weights=weights).state_dict() for name in ("mobilenetv2_100", "mobilenet_v2")
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())


FORMS = {
    "plain": lambda w: w,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3},
    "model": lambda w: {"model": w, "optimizer": {"state": {}, "param_groups": []}},
    "DDP": lambda w: {f"module.{k}": v for k, v in w.items()},
    "DDP in model": lambda w: {"model": {f"module.{k}": v for k, v in w.items()}, "args": {"lr": 0.1}},
    "DDP of a compiled one": lambda w: {"state_dict": {f"module._orig_mod.{k}": v for k, v in w.items()}},
    "Lightning": lambda w: {"state_dict": {f"model.{k}": v for k, v in w.items()}, "global_step": 1},
    "nested twice": lambda w: {"model": {"state_dict": w}},
    "its average first": lambda w: {"state_dict": {k: v * 0 for k, v in w.items()}, "state_dict_ema": w},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_checkpoints(form, weights, tmp_path):
    torch.save(FORMS[form](weights), tmp_path / "w.pth")
    read = published.read_weights(tmp_path / "w.pth")
    assert read.keys() == weights.keys() and all(torch.equal(read[k], v) for k, v in weights.items())
    timms = published.find_timm(NAME, str(tmp_path / "w.pth")).read()
    assert torch.equal(timms["blocks.0.0.conv_dw.weight"], weights["blocks.0.0.conv_dw.weight"])


@pytest.mark.parametrize(
    "value", [[1, 2], {"epoch": 1}, {"model": {"a": 1}}, {}, {1: torch.zeros(1)}, torch.zeros(3)], ids=str
)
def test_files_that_hold_no_state_dict(value, tmp_path):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="w.pth: needs a state dict, names with tensors, found"):
        published.read_weights(tmp_path / "w.pth")


def test_a_models_checkpoint_is_for_another_option(tmp_path):
    from ultralytics.nn.tasks import DetectionModel

    path = tmp_path / "best.pt"
    torch.save({"model": DetectionModel("yolov8n-mnv3-small.yaml", verbose=False), "ema": None}, path)
    with pytest.raises(
        ConfigError, match=rf"best.pt: is a checkpoint of a whole model, .* train with pretrained={path} and"
    ):
        published.find(NAME, 1.0, str(path)).read()


def test_roles_are_those_of_the_last_part():
    assert loading._role("a.running_mean") == loading._role("a/moving_mean") == "running_mean"
    assert loading._role("running_mean.a") is loading._role("param_3") is None
