"""Shipped configs build, train a step, fuse completely and export; all but experiments are lighter than their base."""

import copy
import re

import pytest
import torch
import yaml
from conftest import OF_THE_NEWEST
from steps import train_step
from torch import nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite import ConfigError, models
from yolo_lite.bench import parity
from yolo_lite.compose.budget import figure_line
from yolo_lite.cost import cost
from yolo_lite.options import TASKS
from yolo_lite.ultralytics_hooks import configs, internals

CONFIGS = sorted(name for name in configs.configs() if name.startswith("yolo"))
LIGHT = [
    name for name in CONFIGS if "-timm" not in name and "-aspp" not in name
]  # documented to be lighter than their bases
# YOLOv5 configs differ from YOLOv8's in the base only, so two of them represent all
OF_ALL_KINDS = [c for c in CONFIGS if not c.startswith("yolov5") or c in ("yolov5-mnv3.yaml", "yolov5-mnv3-aspp.yaml")]
OF_EACH_BASE = ["yolov5-mnv3.yaml", "yolov8-mnv3.yaml", "yolo11-mnv4-extradw.yaml", "yolo26-lite.yaml"]
SCALES = [(c, letter) for c in CONFIGS for letter in yaml.safe_load(configs.configs()[c].read_text("utf-8"))["scales"]]


def task_of(config):
    return next((task for task, suffix in TASKS.items() if suffix and config.endswith(f"{suffix}.yaml")), "detect")


def named(config, letter):
    base = config.partition("-")[0]
    return config.replace(base, base + letter, 1)


def build(config, letter="n", **keys):
    torch.manual_seed(0)
    return internals.build_model({**yaml_model_load(named(config, letter)), **keys}, task_of(config))


@pytest.mark.parametrize(
    "config", [pytest.param(c, marks=[pytest.mark.core] if c in OF_ALL_KINDS else []) for c in CONFIGS]
)
def test_trains_a_step(config):
    model = build(config)
    before = copy.deepcopy(model.state_dict())
    loss = train_step(model, task_of(config))
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        likelihood = "flow_model" in name or "cv4_sigma" in name  # of keypoints, in YOLO26's pose models
        unused = likelihood and internals.version() == internals.TESTED[0]  # that release trains it end-to-end only
        if parameter.requires_grad and not unused:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    head = f"model.{len(model.model) - 1}."  # box branches have gradients only at levels with a target
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad and not n.startswith(head)]
    without = [name for name, parameter in trained if not parameter.grad.any()]
    assert not without, "no gradient reaches these"
    changed = [name for name, parameter in trained if not torch.equal(parameter, before[name])]
    assert len(changed) > len(trained) / 2  # the updates of the rest are below float precision


@pytest.mark.core
@pytest.mark.parametrize(
    "config", [pytest.param(c, marks=[] if c in OF_ALL_KINDS else [pytest.mark.slow]) for c in CONFIGS]
)
def test_fuse_leaves_no_batchnorm_and_changes_nothing(config):
    torch.manual_seed(0)
    model = build(config)
    with torch.no_grad():
        for name, parameter in model.model[-1].named_parameters():
            if "cv3" in name and parameter.dim() == 4:
                parameter *= 3  # otherwise all scores are equal, and rounding decides an end-to-end head's selection
        for _ in range(2):  # update the initial statistics
            model.train()(torch.rand(4, 3, 64, 64))
        image = torch.rand(1, 3, 128, 128)
        before = parity.tensors(model.eval()(image))[0]
        assert not model.is_fused()
        model.fuse(verbose=False)
        after = parity.tensors(model(image))[0]
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert model.is_fused()
    assert (before - after).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.core
def test_batchnorm_settings_survive_ultralytics_initialisation():
    model = build("yolov8-mnv3.yaml")
    ours = {(m.eps, m.momentum) for m in model.model[:5].modules() if isinstance(m, nn.BatchNorm2d)}
    theirs = {(m.eps, m.momentum) for m in model.model[5:].modules() if isinstance(m, nn.BatchNorm2d)}
    assert (ours, theirs) == ({(1e-5, 0.1)}, {(1e-3, 0.03)})


@pytest.mark.core
@pytest.mark.parametrize("channels", [1, 4])
def test_image_channels(channels):
    d = yaml_model_load("yolov8n-mnv3.yaml")
    model = DetectionModel(d, ch=channels, verbose=False)
    assert model.model[0][0].conv.in_channels == channels
    assert torch.isfinite(train_step(model, channels=channels))


@pytest.mark.parametrize("config", LIGHT)
def test_lighter_than_its_base(config):
    """By its header, which the next test counts again."""
    text = configs.configs()[config].read_text("utf-8")
    (line,) = re.findall(r"^#   n +([\d.]+) M \(([\d.]+)\) +([\d.]+) \(([\d.]+)\)", text, re.MULTILINE)
    parameters, of_base, gflops, gflops_of_base = map(float, line)
    assert parameters < of_base and gflops < gflops_of_base


@OF_THE_NEWEST
@pytest.mark.parametrize(
    "names", [OF_EACH_BASE, pytest.param(CONFIGS, marks=pytest.mark.slow)], ids=["one of each base", "all"]
)
def test_configs_are_what_make_writes_and_figures_as_measured(names, script, monkeypatch):
    configs = script("configs")
    shipped = configs.shipped()
    assert sorted(shipped) == CONFIGS
    monkeypatch.setattr(configs, "shipped", lambda: {name: shipped[name] for name in names})
    assert configs.check() == []


def test_cost_counts_what_is_there():
    """Against figures counted by hand: one fused 3x3 convolution, 3 to 8 channels, stride 2, and a squeeze-excite."""
    from yolo_lite.blocks import ConvNormAct, SqueezeExcite

    model = nn.Sequential(ConvNormAct(3, 8, 3, 2), SqueezeExcite(8, 4))
    parameters, gflops = cost(model, imgsz=64)
    assert parameters == (3 * 9 + 1) * 8 + (8 + 1) * 4 + (4 + 1) * 8
    macs = 3 * 9 * 8 * 32 * 32 + 8 * 4 * 2
    assert 2 * macs <= gflops * 1e9 <= 2.1 * macs  # thop also counts biases and the pooling


@pytest.mark.slow
@pytest.mark.parametrize(("config", "letter"), SCALES)
def test_every_scale_builds_and_costs_what_its_header_says(config, letter, script):
    written = script("configs")
    row = written.figures(config, written.shipped()[config], letter)
    assert config not in LIGHT or (row.parameters < row.base_parameters and row.gflops < row.base_gflops)
    assert figure_line(letter, row) in configs.configs()[config].read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    "config", [pytest.param(c, marks=[pytest.mark.slow] if c != "yolov8-mnv3.yaml" else []) for c in CONFIGS]
)
def test_onnx_agrees(config, tmp_path, monkeypatch):
    """With statistics at which the outputs depend on the image, and no more than some times what rounding does."""
    import onnxruntime
    from ultralytics import YOLO

    imgsz = 160
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yolo = YOLO(named(config, "n"))
    parity.settle(yolo.model, imgsz)
    if getattr(yolo.model, "end2end", False):
        yolo.model.end2end = False  # like Ultralytics' default export
    image, other = torch.rand(2, 1, 3, imgsz, imgsz)
    with torch.no_grad():
        expected, another, exact = (
            [each.float().numpy() for each in parity.tensors(model(x))[:1]]
            for model, x in (
                (yolo.model, image),
                (yolo.model, other),
                (copy.deepcopy(yolo.model).double(), image.double()),
            )
        )
    session = onnxruntime.InferenceSession(yolo.export(format="onnx", imgsz=imgsz))
    (actual, *_) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    limit = parity.TOLERANCE * parity.deviation(exact, expected, imgsz)
    assert parity.deviation([actual], expected, imgsz) <= limit < 0.05 * parity.deviation(another, expected, imgsz)


@pytest.mark.parametrize("name", ["...yaml", "..yaml", ".yaml", "....yml"])
def test_files_that_leave_a_model_without_a_name(name, tmp_path):
    """A label is a folder's name: `..` would be the folder above."""
    with pytest.raises(ConfigError, match="leaves a model without a name; rename it"):
        models.labels([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["a/x y.yaml", "b/x?y.yaml"], ["a-x_y", "b-x_y"]),
        (["a/X.yaml", "b/x.yaml"], ["a-X", "b-x"]),
        (["<b>.yaml", "../../etc.yaml"], ["_b_", "etc"]),
    ],
)
def test_labels_differ_as_folders(paths, found):
    assert models.labels(paths) == found
