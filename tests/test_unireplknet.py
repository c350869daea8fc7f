"""UniRepLKNet against an independent implementation after the paper and the authors' names; no package provides it."""

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite import ConfigError, create_backbone
from yolo_lite.backbones.unireplknet import WEIGHT_STD, DilatedReparam, UniRepLKNetStage
from yolo_lite.blocks import SqueezeExcite
from yolo_lite.cost import cost
from yolo_lite.weights.published import IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.core

BLOCKS = (2, 2, 6, 2)
BRANCHES = {5: [1], 7: [2], 3: [3, 4, 5]}  # kernel size -> dilations

TRACED = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}  # torch 2.5 or later


def norm(tensors, name, x, train):
    keys = (f"{name}.running_mean", f"{name}.running_var", f"{name}.weight", f"{name}.bias")
    return F.batch_norm(x, *(tensors[key] for key in keys), training=train, momentum=0.1, eps=1e-5)


def layer_norm(tensors, name, x):
    centred = x - x.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return scaled * tensors[f"{name}.weight"].view(1, -1, 1, 1) + tensors[f"{name}.bias"].view(1, -1, 1, 1)


def down(tensors, name, number, x):
    x = F.conv2d(x, tensors[f"{name}.{number}.weight"], tensors[f"{name}.{number}.bias"], 2, 1)
    return layer_norm(tensors, f"{name}.{number + 1}", x)


def block(tensors, name, x, large, train):
    c, depthwise = x.shape[1], f"{name}.dwconv"
    if large:
        y = norm(
            tensors,
            f"{depthwise}.origin_bn",
            F.conv2d(x, tensors[f"{depthwise}.lk_origin.weight"], None, 1, 6, 1, c),
            train,
        )
        for k, dilations in BRANCHES.items():
            for d in dilations:
                branch = F.conv2d(x, tensors[f"{depthwise}.dil_conv_k{k}_{d}.weight"], None, 1, d * (k - 1) // 2, d, c)
                y = y + norm(tensors, f"{depthwise}.dil_bn_k{k}_{d}", branch, train)
    else:
        y = F.conv2d(x, tensors[f"{depthwise}.weight"], None, 1, 1, 1, c)
    y = norm(tensors, f"{name}.norm", y, train)
    gate = y.mean((2, 3), keepdim=True)
    gate = F.conv2d(gate, tensors[f"{name}.se.down.weight"], tensors[f"{name}.se.down.bias"]).relu()
    y = y * F.conv2d(gate, tensors[f"{name}.se.up.weight"], tensors[f"{name}.se.up.bias"]).sigmoid()
    y = F.gelu(
        torch.einsum("bchw,oc->bhwo", y, tensors[f"{name}.pwconv1.1.weight"]) + tensors[f"{name}.pwconv1.1.bias"]
    )
    response = y.square().sum((1, 2), keepdim=True).sqrt()
    response = response / (response.mean(3, keepdim=True) + 1e-6)
    y = (tensors[f"{name}.act.1.gamma"] * response + 1) * y + tensors[f"{name}.act.1.beta"]
    y = torch.einsum("bhwc,oc->bohw", y, tensors[f"{name}.pwconv2.0.weight"])
    return x + tensors[f"{name}.gamma"].view(1, -1, 1, 1) * norm(tensors, f"{name}.pwconv2.2", y, train)


def reference(tensors, x, train):
    """Return the levels that the paper's network has, from tensors under the names of the authors' code."""
    x = F.gelu(down(tensors, "downsample_layers.0", 0, x))
    levels = [x]
    for stage, blocks in enumerate(BLOCKS):
        x = down(tensors, f"downsample_layers.{stage}", 3 if stage == 0 else 0, x)
        for index in range(blocks):
            x = block(tensors, f"stages.{stage}.{index}", x, stage > 0, train)
        levels.append(x)
    return levels


def randomised(name, width=1.0, **more):
    """A backbone in float64 whose levels are of order one and whose branches all matter."""
    return randomise(create_backbone(name, width=width, **more).double())


def randomise(module):
    torch.manual_seed(0)
    for key, tensor in module.state_dict().items():
        if key.endswith(("running_var", "gamma")) or ("norm" in key and key.endswith("weight")):
            tensor.uniform_(0.5, 1.0)
        elif key.endswith(("bias", "beta", "running_mean")):
            tensor.normal_(0, 0.2)
        elif tensor.ndim > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5)
    return module


def under_their_names(backbone):
    state = backbone.stages.state_dict()
    return {UniRepLKNetStage.reference_name(key): value.clone() for key, value in state.items()}


def difference(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name, width", [("unireplknet_a", 1.0), ("unireplknet_f", 0.5), ("unireplknet_p", 0.25)])
def test_equal_to_the_derivation(name, width, train):
    backbone = randomised(name, width).train(train)
    tensors, image = under_their_names(backbone), torch.rand(2, 3, 64, 64, dtype=torch.float64)
    assert len(tensors) == len(backbone.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(backbone(image), reference(tensors, image, train), strict=True):
            assert 0.05 < theirs.std() < 50
            assert difference(ours, theirs) < 1e-10
    for key, value in under_their_names(backbone).items():  # the running statistics, updated in train mode
        if "num_batches" not in key:
            torch.testing.assert_close(value, tensors[key])


def test_merged_equals_unmerged():
    backbone = randomised("unireplknet_a", 0.5).eval()
    merged = copy.deepcopy(backbone)
    for module in list(merged.modules()):
        if hasattr(type(module), "fold"):
            module.fold()
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        assert all(difference(*pair) < 1e-10 for pair in zip(merged(image), backbone(image), strict=True))
    kinds = {type(module) for module in merged.modules()}
    assert not kinds & {torch.nn.BatchNorm2d, torch.nn.Linear, DilatedReparam}
    assert all(module.folded for module in merged.modules() if hasattr(type(module), "fold"))


@pytest.mark.parametrize(
    "name, millions, multiply_adds",  # from the ImageNet-1K table of the authors' README: 224 px, merged, classifier
    [("unireplknet_a", 4.4, 0.6), ("unireplknet_f", 6.2, 0.9), ("unireplknet_p", 10.7, 1.6)],
)
def test_published_costs(name, millions, multiply_adds):
    backbone = create_backbone(name)
    parameters, gflops = cost(backbone, 224)
    c = backbone.channels[-1]
    classifier = 2 * c + 1000 * c + 1000  # its norm and its linear layer
    assert round((parameters + classifier) / 1e6, 1) == millions
    assert round(gflops / 2, 1) == multiply_adds


def stages_of(model):
    return torch.nn.ModuleList(module for module in model.model if isinstance(module, UniRepLKNetStage))


@pytest.mark.parametrize("edge", [False, True], ids=["as it is", "edge"])
def test_fused_by_ultralytics_and_exported(edge, tmp_path):
    """`fuse` merges all branches and BatchNorms, with and without squeeze-excite, and ONNX computes the same."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    d = {**yaml_model_load("yolov8n-unireplknet.yaml"), "backbone_edge": edge, "nc": 3}
    model = DetectionModel(d, verbose=False).eval()
    randomise(stages_of(model))
    assert any(isinstance(module, SqueezeExcite) for module in stages_of(model).modules()) != edge
    image = torch.rand(1, 3, 96, 96)
    backbone = torch.nn.Sequential(*stages_of(model))
    plain, parameters = copy.deepcopy(backbone).double(), sum(p.numel() for p in model.parameters())
    assert not model.is_fused()
    model.fuse(verbose=False)
    assert model.is_fused() and sum(p.numel() for p in model.parameters()) < parameters
    kinds = {type(module) for module in backbone.modules()}
    assert not any(issubclass(kind, torch.nn.BatchNorm2d | torch.nn.Linear | DilatedReparam) for kind in kinds)
    torch.onnx.export(backbone, image, str(tmp_path / "backbone.onnx"), opset_version=17, **TRACED)
    session = onnxruntime.InferenceSession(str(tmp_path / "backbone.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        expected = plain(image.double())
        assert difference(backbone.double()(image.double()), expected) < 1e-5
    assert difference(torch.from_numpy(found).double(), expected) < 1e-4


def checkpoint(folder, width=0.25):
    """Write a file like the authors': all tensors under their names, norm and classifier too, under "model"."""
    backbone = randomised("unireplknet_a", width).float()
    tensors = under_their_names(backbone)
    c = backbone.channels[-1]
    tensors |= {"norm.weight": torch.ones(c), "norm.bias": torch.zeros(c)}
    tensors |= {"head.weight": torch.zeros(1000, c), "head.bias": torch.zeros(1000)}
    order = sorted(tensors, key=lambda name: not name.startswith("downsample_layers"))  # in the authors' order
    torch.save({"model": {name: tensors[name] for name in order}}, folder / "unireplknet_a.pth")
    return backbone, folder / "unireplknet_a.pth"


def test_weights_by_the_authors_names(tmp_path):
    source, file = checkpoint(tmp_path)
    ours = create_backbone("unireplknet_a", file, width=0.25, mean=(0, 0, 0), std=(1, 1, 1))
    for key, value in source.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key]) or key.endswith("num_batches_tracked"), key
    again = create_backbone("unireplknet_a", source.state_dict(), width=0.25, mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(again.stages[3][2].gamma, source.stages[3][2].gamma)


def test_the_images_normalisation_is_folded_into_the_stem(tmp_path):
    source, file = checkpoint(tmp_path)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    ours, image = create_backbone("unireplknet_a", file, width=0.25).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        a, b = ours(image)[0], source.eval()((image - mean) / std)[0]
    assert difference(a[..., 1:, 1:], b[..., 1:, 1:]) < 1e-5


def test_weights_in_a_yaml(tmp_path):
    source, file = checkpoint(tmp_path)
    d = {**yaml_model_load("yolov8n-unireplknet.yaml"), "backbone_width": 0.25, "backbone_weights": str(file)}
    stages = stages_of(DetectionModel(d, verbose=False))
    assert torch.equal(stages[2][1].depthwise.large[0].weight, source.stages[2][1].depthwise.large[0].weight)


def test_weights_that_lack_something_are_refused(tmp_path):
    _, file = checkpoint(tmp_path)
    weights = torch.load(file)["model"]
    del weights["stages.1.0.dwconv.dil_conv_k7_2.weight"]
    with pytest.raises(ConfigError, match="the weights lack 1 of the .* tensors, stages.1.0.dwconv.dil_conv_k7_2.weig"):
        create_backbone("unireplknet_a", weights, width=0.25)
    with pytest.raises(ConfigError, match="downsample_layers.0.0.weight has the shape"):
        create_backbone("unireplknet_a", file, width=0.5)


def test_onnx_agrees(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    backbone = randomised("unireplknet_a", 0.25).float().eval()
    for module in list(backbone.modules()):
        if hasattr(type(module), "fold"):
            module.fold()
    image, file = torch.rand(1, 3, 96, 96), tmp_path / "backbone.onnx"
    torch.onnx.export(backbone, image, str(file), opset_version=17, **TRACED)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        for ours, theirs in zip(found, backbone(image), strict=True):
            assert np.abs(ours - theirs.numpy()).max() < 1e-3 * theirs.abs().max()


def test_weights_begin_alike():
    """As in the authors' code: 0.02, near the 0.025 of the other families."""
    torch.manual_seed(0)
    backbone = create_backbone("unireplknet_a")
    gates = {each for gate in backbone.modules() if isinstance(gate, SqueezeExcite) for each in gate.modules()}
    layers = [m for m in backbone.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m not in gates]
    assert len(layers) > 40
    for layer in layers:
        spread = 5 * WEIGHT_STD / (2 * layer.weight.numel()) ** 0.5
        assert layer.weight.std(unbiased=False).item() == pytest.approx(WEIGHT_STD, abs=spread)
        assert layer.bias is None or not layer.bias.any()
