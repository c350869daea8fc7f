"""timm networks as backbones with TimmBackbone and Level."""

import copy
import pickle
import sys

import pytest
import timm
import torch
from conftest import ROOT, python
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, initialize_weights

from yolo_lite import ConfigError
from yolo_lite.backbones.timm_backbone import Levels, TimmBackbone, _timm_rule, levels_of
from yolo_lite.ultralytics_hooks import configs

pytestmark = pytest.mark.core
NAMES = [  # a dozen different architectures; scripts/release/sweep_timm.py tries many more
    "convnext_atto", "edgenext_xx_small", "efficientvit_b0", "fasternet_t0", "hgnetv2_b0", "lcnet_050",
    "mobilenetv4_conv_small_050", "mobileone_s0", "mobilevit_xxs", "repghostnet_050", "repvit_m0_9", "starnet_s1",
]  # fmt: skip


def statistics(net, image):
    """Give BatchNorms statistics that are not the initial ones."""
    with torch.no_grad():
        for _ in range(3):
            net.train()(image)
    return net.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if number % 2 else []) for number, name in enumerate(NAMES)]
)
def test_levels_train_fold_and_pickle(name):
    torch.manual_seed(0)
    model = TimmBackbone(3, name)
    described = levels_of(name)
    image = torch.rand(2, 3, 64, 64)
    outputs = model.train()(image)
    assert outputs.keys() == {level for level in described.channels if level}
    for level, output in outputs.items():
        assert output.shape == (2, described.channels[level], 64 // 2**level, 64 // 2**level)
    sum(output.square().mean() for output in outputs.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    statistics(model, image)
    with torch.no_grad():
        before = model(image)
        model.fold()
        after = model(image)
        again = pickle.loads(pickle.dumps(model))(image)
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not [n for n, m in model.named_modules() if getattr(m, "reparameterize", None) and hasattr(m, "conv_kxk")]
    for level in before:
        assert (after[level] - before[level]).abs().max() <= 1e-5 * before[level].abs().max()
        assert torch.equal(again[level], after[level])


def test_the_widening_convolution_is_left_out():
    assert levels_of("mobilenetv4_conv_small").channels == {1: 32, 2: 32, 3: 64, 4: 96, 5: 128}
    assert levels_of("mobilenetv3_large_100").channels[5] == 160
    reference = timm.create_model("mobilenetv3_large_100").eval()
    model = TimmBackbone(3, "mobilenetv3_large_100").eval()
    model.net.load_state_dict(reference.state_dict(), strict=False)
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        x = reference.bn1(reference.conv_stem(image))
        for stage in reference.blocks[:-1]:
            x = stage(x)
        assert (model(image)[5] - x).abs().max() <= 1e-5 * x.abs().max()


def test_reading_levels_allocates_no_weights():
    levels_of.cache_clear()
    code = "import yolo_lite.backbones.timm_backbone as t, resource, torch\n"
    code += "r = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    code += "import timm; t.levels_of('resnet18'); a = r(); t.levels_of('convnext_large'); print(r() - a)"
    kilobytes = int(python(code, ROOT).stdout.strip().splitlines()[-1])
    assert kilobytes < 200_000  # its weights are 785 MB


def test_missing_levels_and_names_are_refused(tmp_path):
    text = configs.configs()["yolov8-timm.yaml"].read_text("utf-8")
    path = tmp_path / "yolov8n-x.yaml"
    for old, new, message in (
        ("mobilenetv4_conv_small]", "mobilenetv4_conv_smal]", "row 0 .*no network .*did you mean 'mobilenetv4_conv_small'"),
        ("mobilenetv4_conv_small]", "xcit_nano_12_p16_224]", "row 1 .*has no level 2; it has 4 \\(stride 16\\)"),
        ("mobilenetv4_conv_small]", "vit_tiny_patch16_224]", "row 0 .*takes images of 224 px only, but a detector's image size varies"),
        ("Level, [2]", "Level, [1]", ""),
        ("mobilenetv4_conv_small]] # 0\n  - [0, 1, Level, [2]", "repvit_m1]] # 0\n  - [0, 1, Level, [1]", "has no level 1; it has 2 "),
        ("[0, 1, Level, [3]]", "[-1, 1, Level, [3]]", "row 2 .*Level selects from a TimmBackbone, but the row before has 32 channels"),
        ("[-1, 1, SPPF", "[0, 1, SPPF", "row 5 .*put a Level row in between"),
        ("[-1, 1, nn.Upsample", "[0, 1, nn.Upsample", "row 7 .*put a Level row in between"),
    ):  # fmt: skip
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")
        if message:
            with pytest.raises(ConfigError, match=message):
                YOLO(path)
        else:
            YOLO(path)


def test_timms_settings_survive_ultralytics_initialisation():
    model = DetectionModel("yolov8n-timm.yaml", verbose=False)
    norms = [m for m in model.model[0].modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    acts = {name: m.inplace for name, m in model.model[0].named_modules() if hasattr(m, "inplace")}
    initialize_weights(model)
    assert acts == {name: m.inplace for name, m in model.model[0].named_modules() if hasattr(m, "inplace")}


def test_copies_keep_type_and_training_mode():
    model = TimmBackbone(1, "lcnet_050").half().eval()
    model.i, model.f, model.type, model.np = 0, -1, "t", 1
    twin = copy.deepcopy(model)
    assert {p.dtype for p in twin.parameters()} == {torch.float16} and not twin.training
    assert (twin.i, twin.f, twin.type, twin.np, twin.c1) == (0, -1, "t", 1, 1)
    state, other = model.state_dict(), twin.state_dict()
    assert state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)
    next(twin.parameters()).data.zero_()
    assert next(model.parameters()).abs().sum() > 0  # nothing is shared


def test_checkpoint_holds_none_of_timms_classes(tmp_path):
    import zipfile

    model = DetectionModel("yolov8n-timm.yaml", verbose=False)
    torch.save({"model": model}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
        assert b"timm.models" not in archive.read(name) and b"timm.layers" not in archive.read(name)
    if hasattr(sys.modules["ultralytics.nn.tasks"], "SAFE_LOAD"):
        code = "from ultralytics import YOLO; print(type(YOLO('model.pt').model.model[0]).__name__)"
        assert python(code, tmp_path, ULTRALYTICS_SAFE_LOAD="1").stdout.strip().endswith("TimmBackbone")


def test_checkpoint_of_another_timm_says_so():
    state = TimmBackbone(3, "lcnet_050").__getstate__()
    state["timm"], state["state"] = "0.9.0", {"conv_stem.weight": torch.zeros(3)}
    with pytest.raises(ConfigError, match=r"made with timm 0\.9\.0, .*pip install timm==0\.9\.0"):
        TimmBackbone.__new__(TimmBackbone).__setstate__(state)


def test_levels_travel_through_the_parser():
    model = DetectionModel("yolov8n-timm.yaml", verbose=False)
    assert isinstance(levels_of("mobilenetv4_conv_small"), Levels)
    assert model.save[0] == 0 and model.model[5].cv1.conv.in_channels == 128


def test_the_name_may_have_timm_before_it():
    module = TimmBackbone(3, "timm/test_efficientnet")
    assert module.name == "test_efficientnet" == _timm_rule(3, None, "timm/test_efficientnet")[0][1]
