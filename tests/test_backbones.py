"""Native backbones against their references: the same weights yield the same features at every level."""

import pytest
import timm
import torch
import torchvision
from timm.models.efficientnet import _gen_efficientnet
from torch import nn

from yolo_lite import ConfigError, create_backbone, list_backbones
from yolo_lite.blocks import ULTRALYTICS_NORM, WEIGHT_STD, ConvNormAct
from yolo_lite.weights.published import IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.core

SLOWEST = 0.01  # minimum BatchNorm momentum: after 500 steps, 0.7 % of the initial statistics are left


def timm_blocks(model):
    """The modules whose last output at each stride is a level, in timm's EfficientNet-like networks."""
    return [model.bn1, *(block for stage in model.blocks for block in stage)]


def timm_but_last(model):
    """The same, where the last stage only widens for the classifier."""
    return [model.bn1, *(block for stage in model.blocks[:-1] for block in stage)]


def torchvision_features(model):
    return list(model.features)[:-1]  # the last one widens for the classifier


def torchvision_mnasnet(model):
    return list(model.layers)[:-3]


def torchvision_shufflenet(model):
    return [model.conv1, model.maxpool, model.stage2, model.stage3, model.stage4]


def torchvision_v3(name, width):
    conf, last = torchvision.models.mobilenetv3._mobilenet_v3_conf(name, width_mult=width)
    return torchvision.models.mobilenetv3.MobileNetV3(conf, last)


def of_timm(name, levels, width=1.0, **options):
    """A case against timm: the reference at a width is the name with that width, or `options` of timm's."""
    reference = name.replace("_100", f"_{width * 100:03.0f}")
    return (name, width, lambda: timm.create_model(reference, **options), levels)


def of_torchvision(name, levels, width=1.0, reference=None):
    return (name, width, reference or (lambda: torchvision.models.get_model(name)), levels)


CASES = [  # name, width, function that creates the reference, function that returns its candidate modules for levels
    of_timm("mobilenetv1_100", timm_blocks),
    of_timm("mobilenetv1_100", timm_blocks, 1.25),
    of_timm("mobilenetv2_100", timm_blocks),
    of_timm("mobilenetv2_100", timm_blocks, 0.5),
    of_timm("mobilenetv2_100", timm_blocks, 1.4),
    of_torchvision("mobilenet_v2", torchvision_features),
    of_torchvision(
        "mobilenet_v2", torchvision_features, 0.35, lambda: torchvision.models.mobilenet_v2(width_mult=0.35)
    ),
    of_timm("mobilenetv3_large_100", timm_but_last),
    of_timm("mobilenetv3_large_100", timm_but_last, 0.75),
    of_timm("mobilenetv3_small_100", timm_but_last),
    of_timm("mobilenetv3_small_100", timm_but_last, 0.75),
    of_timm("mobilenetv3_small_100", timm_but_last, 0.5),
    of_torchvision("mobilenet_v3_large", torchvision_features),
    of_torchvision("mobilenet_v3_large", torchvision_features, 0.5, lambda: torchvision_v3("mobilenet_v3_large", 0.5)),
    of_torchvision("mobilenet_v3_small", torchvision_features),
    of_torchvision(
        "mobilenet_v3_small", torchvision_features, 0.35, lambda: torchvision_v3("mobilenet_v3_small", 0.35)
    ),
    of_timm("mobilenetv4_conv_small", timm_but_last),
    ("mobilenetv4_conv_small", 0.5, lambda: timm.create_model("mobilenetv4_conv_small_050"), timm_but_last),
    ("mobilenetv4_conv_small", 0.35, lambda: timm.create_model("mobilenetv4_conv_small_035"), timm_but_last),
    of_timm("mobilenetv4_conv_medium", timm_but_last),
    of_timm("mobilenetv4_conv_large", timm_but_last),
    of_timm("mobilenetv4_hybrid_medium", timm_but_last),
    of_timm("mnasnet_100", timm_blocks),
    of_timm("mnasnet_100", timm_blocks, 0.75),
    of_timm("semnasnet_100", timm_blocks),
    of_timm("semnasnet_100", timm_blocks, 0.75),
    of_torchvision("mnasnet1_0", torchvision_mnasnet),
    of_torchvision("mnasnet1_0", torchvision_mnasnet, 0.5, lambda: torchvision.models.mnasnet0_5()),
    of_timm("ghostnet_100", timm_but_last),
    of_timm("ghostnet_100", timm_but_last, 1.3),
    of_timm("ghostnet_100", timm_but_last, 0.5),
    of_timm("ghostnetv2_100", timm_but_last),
    of_timm("ghostnetv2_100", timm_but_last, 1.6),
    *(of_torchvision(f"shufflenet_v2_{factor}", torchvision_shufflenet) for factor in ("x0_5", "x1_0", "x1_5", "x2_0")),
    of_torchvision("shufflenet_v2_x1_0", torchvision_shufflenet, 0.5, lambda: torchvision.models.shufflenet_v2_x0_5()),
    of_timm("efficientnet_b0", timm_blocks),
    ("efficientnet_b0", 1.1, lambda: _gen_efficientnet("efficientnet_b0", channel_multiplier=1.1), timm_blocks),
    of_timm("efficientnet_lite0", timm_blocks),
]


def randomise(model):
    """Give every BatchNorm affine terms of its own and the statistics of some images, so that levels are of order 1."""
    torch.manual_seed(1)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = norms[0].momentum
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
        norm.momentum = 1.0
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):  # layer scales: their initial 1e-5 would hide the branch
            nn.init.uniform_(parameter, 0.5, 1.0)
    with torch.no_grad():
        model.train()(torch.rand(4, 3, 128, 128))
    for norm in norms:
        norm.momentum = momentum


def levels_of(reference, candidates, image):
    """Run the reference and return the last candidate's output of each size, the largest first."""
    found = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out: found.update({out.shape[-1]: out}))
        for module in candidates(reference)
    ]
    reference(image)
    for hook in hooks:
        hook.remove()
    return [found[size] for size in sorted(found, reverse=True)]


def closeness(a, b):
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


LARGE = ("mobilenetv4_conv_medium", "mobilenetv4_conv_large")  # same blocks as mobilenetv4_conv_small
WITH_THE_SLOW = {  # further widths and variants, whose rounding rule and blocks are tested by another case
    *(("mobilenetv2_100", 1.4), ("mobilenetv3_small_100", 0.5), ("mobilenetv4_conv_small", 0.35)),
    *(("mnasnet_100", 0.75), ("ghostnet_100", 1.3), ("ghostnetv2_100", 1.6)),
    *((name, 1.0) for name in ("shufflenet_v2_x1_5", "shufflenet_v2_x2_0", *LARGE)),
}


@pytest.mark.parametrize(
    ("name", "width", "make", "candidates"),
    [pytest.param(*c, marks=[pytest.mark.slow] if c[:2] in WITH_THE_SLOW else [], id=f"{c[0]}-{c[1]}") for c in CASES],
)
def test_equal_to_the_reference(name, width, make, candidates):
    """First as it is used, then as it is trained."""
    torch.manual_seed(0)
    reference = make()
    randomise(reference)
    ours = create_backbone(name, weights=reference.state_dict(), width=width, mean=(0, 0, 0), std=(1, 1, 1))
    for norm in reference.modules():
        if getattr(norm, "momentum", 1) < SLOWEST:  # torchvision's MnasNet, see mnasnet.py
            norm.momentum = ULTRALYTICS_NORM.momentum
    odd = 128 if "mobilenetv4_hybrid" in name else 104  # timm's attention needs even sizes at P4
    for training, size in ((False, 96), (False, odd), (True, 96)):
        reference, ours = reference.double().train(training), ours.double().train(training)
        image = torch.rand(2, 3, size, size, dtype=torch.float64)
        levels, theirs = ours(image), levels_of(reference, candidates, image)
        assert [level.shape[1] for level in levels] == ours.channels
        for level, (a, b) in enumerate(zip(levels, theirs, strict=True), 1):
            assert 0.1 < b.std() < 10, f"P{level} vanishes or explodes: agreement would show nothing"
            assert closeness(a, b) <= 1e-5, f"P{level}"
    ours_bn = [m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
    their_bn = [m for m in reference.modules() if isinstance(m, nn.BatchNorm2d)]
    for a, b in zip(ours_bn, their_bn, strict=False):
        assert (a.eps, a.momentum) == (b.eps, b.momentum)
        for key in ("running_mean", "running_var"):
            assert closeness(getattr(a, key), getattr(b, key)) <= 1e-5


@pytest.mark.parametrize("name", list_backbones())
def test_statistics_settle_in_a_short_training(name):
    """Running statistics that hardly move leave a detector, trained on few images, without a single box."""
    momenta = [m.momentum for m in create_backbone(name).modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta and min(momenta) >= SLOWEST


ONE_OF_EACH = {  # variants that cover all blocks; the others have the same blocks in another table
    *("mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "mnasnet_100"),
    *("mobilenetv4_hybrid_medium", "ghostnet_100", "ghostnetv2_100", "shufflenet_v1_g3", "shufflenet_v2_x1_0"),
    *("efficientnet_b0", "semnasnet_100"),
}
OF_OTHER_BLOCKS = {"csplite_100", *(name for name in list_backbones() if name.startswith("unireplknet"))}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ONE_OF_EACH else [pytest.mark.slow])
        for name in sorted({*list_backbones()} - OF_OTHER_BLOCKS)
    ],
)
def test_all_convolutions_begin_alike(name):
    """PyTorch's start, 0.19 for depthwise 3x3 filters, made depthwise networks learn slowly."""
    torch.manual_seed(0)
    backbone = create_backbone(name).eval()
    pairs = [m for m in backbone.modules() if isinstance(m, ConvNormAct)]
    assert len(pairs) > 20
    for pair in pairs:
        weight = pair.conv.weight
        spread = 5 * WEIGHT_STD / (2 * weight.numel()) ** 0.5  # five standard errors of the standard deviation
        assert weight.std(unbiased=False).item() == pytest.approx(WEIGHT_STD, abs=spread)
        assert weight.mean().item() == pytest.approx(0, abs=5 * WEIGHT_STD / weight.numel() ** 0.5)
        power = torch.nn.functional.conv2d(  # output variance for unit noise, the expected initial running variance
            torch.randn(1, pair.conv.in_channels, 64, 64), weight, groups=pair.conv.groups
        ).var()
        assert 0.5 < pair.bn.running_var[0].item() / power.item() < 2


def test_normalisation_is_folded_in():
    """With ImageNet's mean and std folded, a raw image gives what the reference gives for a normalised one."""
    reference = timm.create_model("mobilenetv3_large_100")
    randomise(reference)
    mean, std = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    ours = create_backbone("mobilenetv3_large_100", weights=reference.state_dict()).double().eval()
    reference = reference.double().eval()
    image = torch.rand(1, 3, 512, 512, dtype=torch.float64)
    (theirs, *_) = levels_of(reference, timm_but_last, (image - mean.double()) / std.double())
    (mine, *_) = ours(image)
    assert closeness(mine[..., 4:-4, 4:-4], theirs[..., 4:-4, 4:-4]) <= 1e-5  # P1 away from the padded border
    assert closeness(mine, theirs) > 1e-3  # zero padding at the border is black, not the mean


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(tmp_path, suffix):
    from safetensors.torch import save_file

    weights = timm.create_model("mobilenetv3_small_100").state_dict()
    path = tmp_path / f"weights{suffix}"
    torch.save(weights, path) if suffix == ".pth" else save_file(weights, path)
    ours = create_backbone("mobilenetv3_small_100", weights=path, mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(ours.stages[0][0].conv.weight, weights["conv_stem.weight"])


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    weights = timm.create_model("mobilenetv3_large_100").state_dict()
    with pytest.raises(ConfigError, match="weights of mobilenetv3_large_100, which computes differently"):
        create_backbone("mobilenetv3_small_100", weights=weights)
    weights = timm.create_model("mobilenetv2_100").state_dict()
    with pytest.raises(ConfigError, match=r"conv_stem\.\S+ has the shape .* the backbone's \S+ in its place has"):
        create_backbone("mobilenetv3_small_100", weights=weights)
    (tmp_path / "no.pth").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        create_backbone("mobilenetv3_small_100", weights=tmp_path / "no.pth")
    with pytest.raises(ConfigError, match="there is no file"):
        create_backbone("mobilenetv3_small_100", weights=tmp_path / "missing.safetensors")


def test_create_backbone_names():
    assert {"mobilenetv3_large_100", "mobilenet_v3_small"} <= set(list_backbones())
    backbone = create_backbone("mobilenetv3_large_100")
    assert (backbone.channels, backbone.strides) == ([16, 24, 40, 112, 160], [2, 4, 8, 16, 32])
    assert [x.shape[1] for x in backbone(torch.zeros(1, 3, 64, 64))] == backbone.channels
    with pytest.raises(ConfigError, match="did you mean 'mobilenetv3_large_100'"):
        create_backbone("mobilenetv3_larg_100")
    for name in ("convnext_atto", "timm/mobilenetv3_large_100"):
        with pytest.raises(ConfigError, match=f"{name} is a network of timm's: timm.create_model"):
            create_backbone(name)
    for width in (0, -1, float("nan"), float("inf"), "1", True):
        with pytest.raises(ConfigError, match="width has to be a finite number above 0"):
            create_backbone("mobilenetv3_large_100", width=width)


def test_memory_layout_changes_nothing_but_rounding(monkeypatch):
    from yolo_lite.backbones import _stage

    torch.manual_seed(0)
    backbone = create_backbone("mobilenetv3_large_100")
    randomise(backbone)
    backbone.double()
    image = torch.rand(2, 3, 96, 96, dtype=torch.float64)
    fast = backbone(image)
    assert fast[0].is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(_stage, "to_fast_layout", lambda x: x)
    plain = backbone(image)
    assert not plain[0].is_contiguous(memory_format=torch.channels_last)
    assert all(closeness(a, b) < 1e-9 for a, b in zip(fast, plain, strict=True))
    assert all(p.is_contiguous() for p in backbone.parameters())  # the layout of saved weights stays the same


def test_memory_layout_stays_out_of_traced_graphs():
    backbone = create_backbone("mobilenetv3_small_100").eval()
    graph = torch.jit.trace(backbone, torch.zeros(1, 3, 64, 64), check_trace=False).inlined_graph
    assert "contiguous" not in str(graph)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_csplite_is_yolov8s_own_backbone_with_another_table(training, monkeypatch):
    from ultralytics.nn.tasks import DetectionModel

    from yolo_lite.backbones.csplite import CSPLiteStage, Row

    table = [Row(64, 0), Row(128, 1), Row(256, 2), Row(512, 2), Row(1024, 1)]
    monkeypatch.setitem(CSPLiteStage.variants, "csplite_100", table)
    torch.manual_seed(0)
    reference = DetectionModel("yolov8n.yaml", verbose=False).model[:9]
    randomise(reference)
    ours = create_backbone("csplite_100", width=0.25)
    own, theirs = ours.state_dict(), reference.state_dict()
    ours.load_state_dict(dict(zip(own, theirs.values(), strict=True)))
    reference, ours = reference.double().train(training), ours.double().train(training)
    image = torch.rand(2, 3, 96, 96, dtype=torch.float64)
    levels = levels_of(reference, lambda model: model, image)
    for a, b in zip(ours(image), levels, strict=True):
        assert 0.1 < b.std() < 10 and closeness(a, b) <= 1e-5
    norms = [[m for m in each.modules() if isinstance(m, nn.BatchNorm2d)] for each in (ours, reference)]
    for a, b in zip(*norms, strict=True):
        assert (a.eps, a.momentum) == (b.eps, b.momentum) == (1e-3, 0.03)
        assert closeness(a.running_mean, b.running_mean) <= 1e-5 and closeness(a.running_var, b.running_var) <= 1e-5


class TestShuffleNetV1AgainstThePaper:
    """No package has it: channels, sizes and multiply-adds are the paper's (table 1, column g = 3)."""

    def test_channels_and_sizes(self):
        backbone = create_backbone("shufflenet_v1_g3").eval()
        with torch.no_grad():
            shapes = [tuple(level.shape[1:]) for level in backbone(torch.zeros(1, 3, 224, 224))]
        # conv1 and max pooling (24 channels), then stages 2, 3 and 4 with 240, 480 and 960
        assert shapes == [(24, 112, 112), (24, 56, 56), (240, 28, 28), (480, 14, 14), (960, 7, 7)]

    def test_repeats(self):
        backbone = create_backbone("shufflenet_v1_g3")
        assert [len(stage) for stage in backbone.stages[2:]] == [4, 8, 4]  # 1 + 3, 1 + 7, 1 + 3

    def test_multiply_adds(self):
        """137 million at 224 px, the classifier included (table 1, bottom row, g = 3)."""
        from yolo_lite.cost import cost

        _, gflops = cost(create_backbone("shufflenet_v1_g3"), imgsz=224)
        classifier = 960 * 1000
        # thop also counts biases and the pooling's additions, about 1 % of the whole
        assert (gflops * 1e9 / 2 + classifier) / 1e6 == pytest.approx(137, rel=0.02)

    def test_parameters(self):
        """1.9 million with the classifier, as the authors' own release of it (ShuffleNetV1 1.0x, group 3) states."""
        backbone = create_backbone("shufflenet_v1_g3")
        parameters = sum(p.numel() for p in backbone.parameters()) + 960 * 1000 + 1000
        assert round(parameters / 1e6, 1) == 1.9

    def test_shuffle_interleaves_the_groups(self):
        from yolo_lite.blocks import channel_shuffle

        x = torch.arange(12.0).view(1, 12, 1, 1)
        assert channel_shuffle(x, 3).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]

    def test_unit_is_what_the_figure_shows(self):
        """Figure 2 (b, c), written out with torch's own functions."""
        from torch.nn import functional as F

        from yolo_lite.blocks import ShuffleUnitV1

        torch.manual_seed(0)
        for s, c1, c2, first in ((1, 240, 240, False), (2, 240, 480, False), (2, 24, 240, True)):
            unit = ShuffleUnitV1(c1, c2, s, 3, first).double().eval()
            for module in unit.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
            x = torch.rand(1, c1, 16, 16, dtype=torch.float64)
            norm = 1 / (1 + 1e-5) ** 0.5  # a BatchNorm of mean 0 and variance 1 in eval mode
            y = F.relu(F.conv2d(x, unit.reduce.conv.weight, groups=1 if first else 3) * norm)
            b, c, h, w = y.shape
            y = torch.stack(y.chunk(3, 1), 2).reshape(b, c, h, w)
            y = F.conv2d(y, unit.depthwise.conv.weight, stride=s, padding=1, groups=c) * norm
            y = F.conv2d(y, unit.expand.conv.weight, groups=3) * norm
            y = F.relu(x + y) if s == 1 else F.relu(torch.cat((F.avg_pool2d(x, 3, 2, 1), y), 1))
            assert closeness(unit(x), y) <= 1e-12


def test_a_family_is_one_file_and_a_yaml(tmp_path):
    """The worked example of docs/contributing.md, run as it stands there."""
    import re

    from conftest import ROOT, python

    text = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    family, config = re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.S)[:2]
    (tmp_path / "toynet.py").write_text(family)
    (tmp_path / "yolov8-toynet.yaml").write_text(config)
    code = (
        "import toynet, yolo_lite, torch; from ultralytics import YOLO\n"
        "model = YOLO('yolov8n-toynet.yaml').model\n"
        "print(yolo_lite.create_backbone('toynet_100', width=0.5).channels, [m.type for m in model.model[:5]])"
    )
    output = python(code, tmp_path, PYTHONPATH=str(tmp_path)).stdout.strip().splitlines()[-1]
    assert output == str([8, 16, 32, 64, 128]) + " " + str(["toynet.ToyNetStage"] * 5)


def test_what_fx_and_script_cannot_and_trace_can():
    """As docs/deploy.md says; should they learn it, the page has to."""
    backbone = create_backbone("mobilenetv1_100", width=0.25).eval()
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(torch.fx.proxy.TraceError):
        torch.fx.symbolic_trace(backbone)
    with pytest.raises(RuntimeError):
        torch.jit.script(backbone)
    traced = torch.jit.trace(backbone, image)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(traced(image), backbone(image), strict=True))
