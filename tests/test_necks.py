"""Neck blocks against their references, shared blocks as YAML rows, and all variants of the light heads."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3, lraspp
from ultralytics.nn.modules.block import Bottleneck, C3k2
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel, OBBModel, PoseModel, SegmentationModel

from yolo_lite import ConfigError
from yolo_lite.blocks import WEIGHT_STD, Norm
from yolo_lite.heads import LightDetect
from yolo_lite.necks import ASPP, LRASPP, C3k2ExtraDW, ExtraDWFusion, extra_dw

pytestmark = pytest.mark.core
BASE = {"nc": 4, "scale": "n", "scales": {"n": [0.5, 0.25, 1024], "m": [0.5, 1.0, 512]}}
STEM = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [128, 3, 2]]]


def build(rows, head="Detect", args=("nc",), model=DetectionModel, **keys):
    last = len(STEM) + len(rows) - 1
    return model({**BASE, "backbone": STEM, "head": [*rows, [[last], 1, head, list(args)]], **keys}, verbose=False)


def randomise(module):
    """Give weights and statistics that make every activation of order one."""
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.running_mean.normal_(0, 0.3)
            each.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.normal_(each.bias, 0, 0.3)
        elif isinstance(each, nn.Conv2d):
            nn.init.kaiming_normal_(each.weight)
    return module.double().eval()


def copy_in_order(ours, theirs, skip=()):
    """Load the reference's tensors into ours by their order."""
    values = [v for k, v in theirs.state_dict().items() if not any(part in k for part in skip)]
    keys = list(ours.state_dict())
    assert len(keys) == len(values)
    ours.load_state_dict(dict(zip(keys, values, strict=True)))


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.fixture
def relu(monkeypatch):
    """Set Ultralytics' default activation to ReLU, which torchvision's and timm's blocks use."""
    monkeypatch.setattr(Conv, "default_act", nn.ReLU())


def test_aspp_equals_torchvisions(relu):
    theirs = randomise(deeplabv3.ASPP(24, [2, 4, 6], 16))
    theirs.convs[-1][2] = nn.Identity()  # ours pools without BatchNorm
    ours = ASPP(24, 16).double().eval()
    point, *dilated, mean = theirs.convs
    copy_in_order(ours.point, point)
    for a, b in zip(ours.dilated, dilated, strict=True):
        copy_in_order(a, b)
    ours.mean[1].weight.data.copy_(mean[1].weight.data)
    ours.mean[1].bias.data.zero_()  # torchvision's has no bias
    copy_in_order(ours.project, theirs.project)
    for a, b in zip(
        [m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)],
        [m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)],
        strict=True,
    ):
        a.eps = b.eps
    x = torch.randn(2, 24, 20, 17, dtype=torch.float64)
    assert difference(ours(x), theirs(x)) <= 1e-12


def test_aspp_trains_on_one_image_of_one_pixel():
    model = ASPP(8, 8, [1, 2], True).train()
    assert torch.isfinite(model(torch.randn(1, 8, 20, 20))).all()
    assert torch.isfinite(model.mean(torch.randn(1, 8, 1, 1))).all()


def test_lraspp_equals_torchvisions():
    theirs = randomise(lraspp.LRASPPHead(8, 24, 2, 16))
    ours = LRASPP(24, 16).double().eval()
    copy_in_order(ours.point, theirs.cbr)
    copy_in_order(ours.gate, theirs.scale)
    ours.point.bn.eps = theirs.cbr[1].eps
    x = torch.randn(2, 24, 20, 17, dtype=torch.float64)
    assert difference(ours(x), theirs.cbr(x) * theirs.scale(x)) <= 1e-12


@pytest.mark.parametrize("expansion", [2, 4])
@pytest.mark.parametrize("kernel", [3, 5])
def test_extra_dw_equals_timms(relu, expansion, kernel):
    theirs = timm.models._efficientnet_blocks.UniversalInvertedResidual(
        32,
        32,
        dw_kernel_size_start=kernel,
        dw_kernel_size_mid=kernel,
        exp_ratio=float(expansion),
        layer_scale_init_value=None,
    )
    randomise(theirs)
    ours = extra_dw(32, expansion, kernel).double().eval()
    copy_in_order(ours, theirs)
    for module in (*ours.modules(), *theirs.modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = Norm().eps
    x = torch.randn(2, 32, 20, 17, dtype=torch.float64)
    assert difference(ours(x), theirs(x)) <= 1e-12


@pytest.mark.parametrize(("c3k", "attn", "shortcut"), [(False, False, True), (True, False, True), (False, True, False)])
def test_c3k2_extra_dw_is_the_stock_c3k2_with_other_bottlenecks(c3k, attn, shortcut):
    """Ultralytics' own C3k2, its Bottlenecks replaced, holds the same tensors and computes the same."""
    theirs = C3k2(64, 128, 2, c3k, 0.5, attn, 1, shortcut)
    ours = C3k2ExtraDW(64, 128, 2, c3k, 0.5, attn, shortcut)
    for parent in list(theirs.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Bottleneck):
                setattr(parent, name, extra_dw(child.cv1.conv.in_channels, shortcut=shortcut))
    randomise(theirs)
    ours.double().eval().load_state_dict(theirs.state_dict())
    x = torch.randn(2, 64, 16, 12, dtype=torch.float64)
    assert difference(ours(x), theirs(x)) == 0


def test_c3k2_extra_dw_has_c3k2s_effects_on_the_model():
    """Repeats scaled by the depth, C3k inside at scale m, and the lighter class branch of YOLO11's heads."""
    ours, theirs = (build([[-1, 4, name, [256, False]]]) for name in ("C3k2ExtraDW", "C3k2"))
    assert len(ours.model[3].m) == len(theirs.model[3].m) == 2
    assert ours.model[3].cv2.conv.weight.shape == theirs.model[3].cv2.conv.weight.shape
    assert [p.shape for p in ours.model[-1].parameters()] == [p.shape for p in theirs.model[-1].parameters()]
    heavy = build([[-1, 4, "C2f", [256]]])
    assert sum(p.numel() for p in heavy.model[-1].parameters()) > sum(p.numel() for p in ours.model[-1].parameters())
    inner = [type(build([[-1, 2, name, [256, False]]], scale="m").model[3].m[0]) for name in ("C3k2ExtraDW", "C3k2")]
    assert inner[0] is inner[1]


def test_fusion_adds_the_second_map_to_the_first():
    same = ExtraDWFusion([16, 8], 16, 5, 2).eval()
    main, extra = torch.randn(1, 16, 8, 8), torch.randn(1, 8, 16, 16)
    depthwise, point = same.extra
    assert torch.equal(same([main, extra]), main + point(depthwise(extra)))
    assert (depthwise.conv.groups, depthwise.conv.kernel_size, point.conv.kernel_size) == (8, (5, 5), (1, 1))
    other = ExtraDWFusion([24, 8], 16).eval()
    main, extra = torch.randn(1, 24, 8, 8), torch.randn(1, 8, 8, 8)
    assert torch.equal(other([main, extra]), other.main(main) + other.extra(extra))


@pytest.mark.parametrize(
    ("row", "channels"),
    [
        (["ASPP", [256]], 64),
        (["LRASPP", [256]], 64),
        (["SqueezeExcite", [0.5]], 32),
        (["InvertedResidual", [256, 6, 5, 1, 0.25]], 64),
        (["UniversalInvertedBottleneck", [256, 4, 0, 5]], 64),
        (["GhostModule", [256]], 64),
        (["ShuffleUnitV2", [128]], 32),
        (["MobileMQA", [2, 16]], 32),
    ],
)
def test_blocks_as_rows(row, channels):
    """Channels follow the model's width; every parameter gets a gradient; no BatchNorm settings but Ultralytics'."""
    model = build([[-1, 1, *row]])
    layer = model.model[3].train()
    y = layer(torch.randn(2, 32, 16, 16))
    assert y.shape == (2, channels, 16, 16)
    y.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())
    norms = {(m.eps, m.momentum) for m in layer.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms <= {(1e-3, 0.03)}


def test_activation_reaches_the_blocks():
    model = build([[-1, 1, "ASPP", [64]], [-1, 2, "C3k2ExtraDW", [64]]], activation="nn.ReLU6()")
    kinds = {type(m) for layer in model.model[3:5] for m in layer.modules() if isinstance(m, nn.SiLU | nn.ReLU6)}
    assert kinds == {nn.ReLU6}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[-1, 1, "ASPP", [64, [0, 2]]]], "rates has to be one or more whole numbers from 1"),
        ([[-1, 1, "ASPP", [64, "wide"]]], "rates has to be list[int]"),
        ([[-1, 1, "GhostModule", [-8]]], "needs 1 to 65536 output channels, found -8"),
        ([[-1, 1, "InvertedResidual", [64, 0]]], "expansion has to be float, above 0 and at most 32, found 0"),
        ([[-1, 1, "InvertedResidual", [64, 4, 2]]], "k has to be int, an odd number from 1 to 31, found 2"),
        ([[-1, 1, "InvertedResidual", [64, 4, 3, 0]]], "s has to be int, from 1 to 8, found 0"),
        (
            [[-1, 1, "UniversalInvertedBottleneck", [64, 2, 2]]],
            "start has to be int, 0 for none or an odd number up to 31",
        ),
        ([[-1, 1, "SqueezeExcite", [1000000000.0]]], "ratio has to be float, above 0 and at most 32"),
        ([[-1, 1, "MobileMQA", [1000000, 1]]], "heads has to be int, from 1 to 64, found 1000000"),
        ([[-1, 1, "C3k2ExtraDW", [64, False, 50.0]]], "e has to be float, above 0 and at most 1, found 50.0"),
        ([[-1, 1, "ExtraDWFusion", [64]]], "ExtraDWFusion takes 2 inputs, found 1"),
        ([[[-1, 0], 1, "ExtraDWFusion", [64]]], "cannot take inputs of the shapes"),
        ([[-1, 1, "ShuffleUnitV2", [256]]], "as many output channels as input channels (32)"),
        ([[-1, 1, "UniversalInvertedBottleneck", [64, 2, 0, 0, 2]]], "a stride needs a depthwise convolution"),
        ([[-1, 1, "C3k2ExtraDW", [64, 0.5]]], "c3k has to be bool"),
    ],
)
def test_wrong_rows_are_refused(rows, said):
    with pytest.raises(ConfigError) as error:
        build(rows)
    assert said in str(error.value) and "head row 3" in str(error.value)


FORMS = [
    (DetectionModel, "Detect", ["nc"], {}),
    (DetectionModel, "Detect", ["nc"], {"end2end": True, "reg_max": 1}),
    (SegmentationModel, "Segment", ["nc", 32, 256], {}),
    (SegmentationModel, "Segment26", ["nc", 32, 256], {"end2end": True, "reg_max": 1}),
    (PoseModel, "Pose", ["nc", "kpt_shape"], {"kpt_shape": [5, 3]}),
    (PoseModel, "Pose26", ["nc", "kpt_shape"], {"kpt_shape": [5, 3], "end2end": True, "reg_max": 1}),
    (OBBModel, "OBB", ["nc", 1], {}),
    (OBBModel, "OBB26", ["nc", 1], {"end2end": True, "reg_max": 1}),
]


@pytest.mark.parametrize(("kind", "groups"), [("Light", 64), ("Slim", 1)])
@pytest.mark.parametrize(("model", "name", "args", "keys"), FORMS)
def test_light_heads_give_what_stock_heads_give(model, name, args, keys, kind, groups):
    """The same outputs in kind and shape, training, not, and fused; fewer parameters."""
    rows = [[-1, 1, "Conv", [256, 3, 1]]]
    light, stock = (build(rows, prefix + name, args, model, **keys) for prefix in (kind, ""))
    assert isinstance(light.model[-1], type(stock.model[-1])) and type(light.model[-1]).__name__ == kind + name
    image = torch.rand(2, 3, 64, 64)
    for fused in (False, True):
        for train in (True, False):
            if train and fused:
                continue
            ours, theirs = (each.train(train)(image) for each in (light, stock))
            assert shapes(ours) == shapes(theirs)
        light, stock = (each.eval().fuse(verbose=False) for each in (light, stock))
    head = light.model[-1]
    assert head.reg_max == keys.get("reg_max", 16)
    for branch in (head.cv2 or head.one2one_cv2, head.cv3 or head.one2one_cv3):
        assert all(level[0].conv.groups == groups for level in branch)
    assert sum(p.numel() for p in light.parameters()) < sum(p.numel() for p in stock.parameters())


@pytest.mark.parametrize(("exporter", "wrapper"), [("executorch", "executorch_wrapper"), ("tensorflow", "tf_wrapper")])
@pytest.mark.parametrize("name", ["Pose", "Pose26"])
def test_exporters_decode_keypoints_as_those_of_stock_heads(name, exporter, wrapper):
    """Ultralytics' exporters tell YOLO26's pose head by its exact type."""
    wrap = getattr(pytest.importorskip(f"ultralytics.utils.export.{exporter}"), wrapper)
    keypoints = torch.rand(1, 15, 64)
    decoded = []
    for prefix in ("", "Light", "Slim"):
        rows = [[-1, 1, "Conv", [256, 3, 1]]]
        model = build(rows, prefix + name, ["nc", "kpt_shape"], PoseModel, kpt_shape=[5, 3]).eval()
        model(torch.rand(1, 3, 64, 64))  # creates the anchors
        decoded.append(wrap(model).model[-1].kpts_decode(keypoints))
    assert torch.equal(decoded[0], decoded[1]) and torch.equal(decoded[0], decoded[2])


@pytest.mark.parametrize(
    "rows",
    [
        [[-1, 1, "ASPP", [256, [2, 4], True]]],
        [[[-1, 1], 1, "ExtraDWFusion", [256, 3, 2]]],
        [[-1, 1, "C3k2ExtraDW", [256]]],
        [[-1, 1, "Conv", [256, 3, 1]]],
    ],
    ids=lambda rows: rows[0][2],
)
def test_depthwise_convolutions_begin_like_dense_ones(rows):
    found = [m for m in build(rows, "LightDetect").modules() if isinstance(m, Conv) and m.conv.groups > 1]
    assert len(found) >= 2  # at least those of the head
    for each in found:
        assert each.conv.weight.std().item() == pytest.approx(WEIGHT_STD, rel=0.25)
        assert each.bn.running_var[0].item() == pytest.approx(each.conv.weight[0].numel() * WEIGHT_STD**2)


def shapes(value):
    if isinstance(value, dict):
        return {key: shapes(each) for key, each in value.items() if key != "feats"}
    if isinstance(value, list | tuple):
        return [shapes(each) for each in value]
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value


def test_light_heads_do_not_depend_on_the_model_built_before():
    """Ultralytics keeps the flavour of its heads in the class, as the last model left it."""
    rows = [[-1, 1, "Conv", [128, 3, 1]]]
    sizes = []
    for first in ("C2f", "C3k2"):
        build([[-1, 1, first, [128]]])
        sizes.append([p.shape for p in build(rows, "LightDetect").parameters()])
        assert LightDetect.legacy is False
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_dfl_computes_what_the_stock_one_computes(scale):
    from ultralytics.nn.modules.block import DFL as StockDFL

    from yolo_lite.heads import DFL

    torch.manual_seed(0)
    x = scale * torch.randn(2, 4 * 8, 21, dtype=torch.float64)
    ours, stock = DFL(8).double(), StockDFL(8).double()
    assert torch.allclose(ours(x), stock(x), rtol=1e-12, atol=1e-12)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    rows = [[-1, 1, "Conv", [64, 3, 1]]]
    assert isinstance(build(rows, "LightDetect", reg_max=8).model[-1].dfl, DFL)
