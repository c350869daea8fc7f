"""Networks that cannot be built on the meta device, depending on the torch and timm releases; folding that fails."""

import pytest
import timm
import torch
from ultralytics import YOLO

from yolo_lite import ConfigError
from yolo_lite.backbones.timm_backbone import TimmBackbone, levels_of

pytestmark = pytest.mark.core
ABOUT_META = [  # errors of torch 2.3 to 2.15
    RuntimeError("Tensor.item() cannot be called on meta tensors"),
    NotImplementedError("aten::_unique2: attempted to run this operator with Meta tensors, but there was no fake impl"),
    NotImplementedError("Could not run 'aten::_unique2' with arguments from the 'Meta' backend."),
    RuntimeError("no meta kernel for _unique2"),
    NotImplementedError("Cannot copy out of meta tensor; no data!"),
]
CONFIG = """
nc: 80
scales: {n: [0.33, 0.25, 1024]}
backbone:
  - [-1, 1, TimmBackbone, [lcnet_050]]
  - [0, 1, Level, [3]]
  - [0, 1, Level, [4]]
head:
  - [1, 1, Conv, [64, 1]]
  - [[3, 2], 1, Detect, [nc]]
"""


@pytest.fixture(params=ABOUT_META, ids=str)
def no_meta(request, monkeypatch):
    """Make timm raise an error when it builds a network on the meta device."""
    create = timm.create_model

    def create_model(*args, **kwargs):
        if torch.empty(0).is_meta:
            raise request.param
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", create_model)
    levels_of.cache_clear()
    yield
    levels_of.cache_clear()


def test_levels_are_read_on_the_cpu(no_meta):
    state = torch.random.get_rng_state()
    assert levels_of("lcnet_050").channels == {1: 16, 2: 32, 3: 64, 4: 128, 5: 256}
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_model_is_built_and_its_mistakes_are_found_all_the_same(no_meta, tmp_path):
    path = tmp_path / "yolov8n-small.yaml"
    path.write_text(CONFIG)
    assert YOLO(path).model.model[2].level == 4
    path.write_text(CONFIG.replace("[1, 1, Conv, [64, 1]]", "[[1, 2], 1, Concat, [1]]"))
    with pytest.raises(
        ConfigError, match=r"row 3 .*cannot take inputs of the shapes \(2, 64, 32, 32\), \(2, 128, 16, 16\)"
    ):
        YOLO(path)
    path.write_text(CONFIG.replace("[[3, 2], 1", "[[2, 3], 1"))
    with pytest.raises(ConfigError, match=r"in the order of their strides, found strides \[16, 8\]"):
        YOLO(path)


def test_what_fails_on_the_cpu_too_is_refused_with_its_reason(monkeypatch):
    def create_model(*args, **kwargs):
        raise RuntimeError("no meta kernel, says one that never works")

    monkeypatch.setattr(timm, "create_model", create_model)
    levels_of.cache_clear()
    with pytest.raises(ConfigError, match="lcnet_050 yields no feature maps .*never works"):
        levels_of("lcnet_050")


def test_a_fold_that_changes_the_outputs_is_not_taken():
    """Here no two runs of the network agree, so that no way of folding can be told to be right."""
    model = TimmBackbone(3, "lcnet_050").eval()
    model.net.register_forward_hook(lambda net, inputs, outputs: [y + torch.rand_like(y) for y in outputs])
    net, names = model.net, list(model.state_dict())
    model.fold()
    assert model.net is net and not model.folded and list(model.state_dict()) == names
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_an_unfolded_network_is_not_said_to_be_fused(monkeypatch):
    model = YOLO("yolov8n-timm.yaml").model
    monkeypatch.setattr("yolo_lite.backbones.timm_backbone._fold", lambda net, c1: None)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.eval()(image)[0]
        assert not model.fuse(verbose=False).is_fused()
        assert (model(image)[0] - before).abs().max() <= 1e-4 * before.abs().max()
    monkeypatch.undo()
    assert model.fuse(verbose=False).is_fused()
