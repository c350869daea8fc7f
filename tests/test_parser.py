"""Rows of ours in Ultralytics' own parser: channels, repeats, scaling, several inputs, registration by users."""

import textwrap

import pytest
import torch
from conftest import python
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

import yolo_lite
from yolo_lite import ConfigError, discovery, registry

pytestmark = pytest.mark.core


class ToyConv(nn.Module):
    """Takes (c1, c2, ...) like most modules."""

    def __init__(self, c1, c2, k: int = 3):
        super().__init__()
        self.c1, self.c2, self.k = c1, c2, k
        self.conv = Conv(c1, c2, k)

    def forward(self, x):
        return self.conv(x)


class ToySame(nn.Module):
    """Keeps the channels."""

    def __init__(self, c1, text: str = "n"):
        super().__init__()
        self.c1, self.text = c1, text

    def forward(self, x):
        return x


class ToyRepeated(nn.Module):
    """Takes the number of repeats, as C2f does."""

    def __init__(self, c1, c2, n=1, shortcut: bool = False):
        super().__init__()
        self.n, self.shortcut = n, shortcut
        self.conv = Conv(c1, c2)

    def forward(self, x):
        return self.conv(x)


class ToySum(nn.Module):
    """Takes two inputs."""

    def __init__(self, c1, c2):
        super().__init__()
        self.c1 = c1
        self.convs = nn.ModuleList(Conv(c, c2) for c in c1)

    def forward(self, xs):
        return sum(conv(x) for conv, x in zip(self.convs, xs, strict=True))


@pytest.fixture(autouse=True)
def toys():
    """Register the toys for one test."""
    discovery.specs()
    before = dict(registry._specs)
    yolo_lite.register(ToyConv)
    yolo_lite.register(ToySame, rule=registry.same)
    yolo_lite.register(ToyRepeated, repeats="argument")
    yolo_lite.register(ToySum, inputs=2)
    yield
    registry._specs.clear()
    registry._specs.update(before)


def config(rows, **keys):
    """A model whose rows after a stride-8 stem are given, with its head on the last one."""
    stem = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]]]
    return {
        "nc": 4,
        "scale": "n",
        "scales": {"n": [0.33, 0.25, 1024], "l": [1.0, 1.0, 512]},
        "backbone": stem,
        "head": [*rows, [[len(stem) + len(rows) - 1], 1, "Detect", ["nc"]]],
        **keys,
    }


def build(rows, **keys):
    return DetectionModel(config(rows, **keys), verbose=False)


def test_channels_are_scaled_and_inferred():
    layer = build([[-1, 1, "ToyConv", [128, 5]]]).model[3]
    assert (layer.c1, layer.c2, layer.k) == (16, 32, 5)
    wide = build([[-1, 1, "ToyConv", [2048]]], scale="l").model[3]
    assert (wide.c1, wide.c2) == (64, 512)  # max_channels


def test_repeats_stack_and_chain_the_channels():
    layer = build([[-1, 6, "ToyConv", [128]]]).model[3]
    assert [(each.c1, each.c2) for each in layer] == [(16, 32), (32, 32)]  # 6 x 0.33, rounded


def test_repeats_as_an_argument():
    layer = build([[-1, 6, "ToyRepeated", [128, True]]]).model[3]
    assert (layer.n, layer.shortcut) == (2, True)


def test_several_inputs():
    model = build([[-1, 1, "ToyConv", [128]], [[-1, 2], 1, "ToySum", [64]]])
    assert model.model[4].c1 == [32, 16]
    assert model.save == [2, 4]  # row 2 is kept for the sum, row 4 for the head


def test_strings_reach_the_class_as_written():
    """The host would replace `n` and `width` by its local variables, and fail to parse `2x` and `hf-hub:a/b`."""
    for text in ("n", "width", "2x", "hf-hub:a/b", "None"):
        assert build([[-1, 1, "ToySame", [text]]]).model[3].text == text


def test_logging_table_names_the_class_and_its_arguments(monkeypatch):
    import logging

    from ultralytics.utils import LOGGER

    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    LOGGER.addHandler(handler)
    try:
        DetectionModel(config([[-1, 1, "ToyConv", [128]]]), verbose=True)
    finally:
        LOGGER.removeHandler(handler)
    row = [line for line in lines if "ToyConv" in line]
    assert len(row) == 1 and "[16, 32]" in row[0] and row[0].split()[:3] == ["3", "-1", "1"]


def test_layer_attributes_are_the_hosts():
    layer = build([[-1, 1, "ToyConv", [128]]]).model[3]
    assert (layer.i, layer.f, layer.np) == (3, -1, sum(p.numel() for p in layer.parameters()))
    assert layer.type.endswith("ToyConv")


def test_freezing_by_row(tiny_data, tmp_path):
    from ultralytics import YOLO

    model = YOLO("yolov8n-mnv3.yaml")
    model.train(
        data=str(tiny_data), imgsz=32, epochs=1, batch=8, freeze=5, workers=0, plots=False, val=False, save=True,
        project=str(tmp_path), name="frozen",
    )  # fmt: skip
    frozen = {n: p.requires_grad for n, p in model.trainer.model.named_parameters()}
    assert not any(frozen[n] for n in frozen if int(n.split(".")[1]) < 5)
    assert all(frozen[n] for n in frozen if int(n.split(".")[1]) >= 5 and ".dfl" not in n)


def test_names_taken_are_refused():
    with pytest.raises(ConfigError, match="name of Ultralytics' own"):
        yolo_lite.register(type("C2f", (nn.Module,), {}))
    with pytest.raises(ConfigError, match="registered already, by test_parser.ToyConv"):
        yolo_lite.register(type("Other", (nn.Module,), {}), name="ToyConv")
    assert yolo_lite.register(ToyConv) is ToyConv  # the same class again does no harm
    with pytest.raises(ConfigError, match='"stack", "argument" or "once", found \'often\''):
        yolo_lite.register(ToyConv, repeats="often")


def test_entry_point_makes_a_module_known_to_the_stock_command(tmp_path):
    (tmp_path / "toy_plugin.py").write_text(
        textwrap.dedent("""
        import yolo_lite
        from ultralytics.nn.modules.conv import Conv

        @yolo_lite.register
        class PluginConv(Conv):
            pass
        """)
    )
    info = tmp_path / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[yolo_lite.modules]\ntoy = toy_plugin\n")
    text = yaml_text(config([[-1, 1, "PluginConv", [128, 3]]]))
    (tmp_path / "yolov8n-toy.yaml").write_text(text)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from ultralytics import YOLO;"
        "print(type(YOLO('yolov8n-toy.yaml').model.model[3]).__name__)"
    )
    assert python(code, tmp_path).stdout.strip().splitlines()[-1] == "PluginConv"
    (info / "entry_points.txt").write_text("[yolo_lite.modules]\ntoy = toy_plugin_gone\n")
    process = python(code, tmp_path, check=False)
    assert process.returncode and "the entry point toy = toy_plugin_gone of the package toy-plugin failed" in (
        process.stdout
    )


def yaml_text(d):
    import yaml

    return yaml.safe_dump({k: v for k, v in d.items() if k != "scale"})


@pytest.mark.parametrize("channels", [1, 4])
def test_image_channels(channels):
    model = DetectionModel("yolov8n-mnv3.yaml", ch=channels, verbose=False)
    assert model.model[0][0].conv.in_channels == channels
    assert model(torch.zeros(1, channels, 64, 64))["feats"] if model.training else True


def test_traceback_shows_the_taught_parser(monkeypatch):
    """The compiled parser has a name and its source in linecache, so a traceback points at a readable line."""
    import linecache

    from ultralytics.nn import tasks

    from yolo_lite.ultralytics_hooks import parser

    parser.teach(tasks.parse_model.__wrapped__)
    source = "".join(linecache.getlines(parser.TAUGHT))
    assert "args.resolve(ch, f, n, legacy)" in source and "def parse_model(d, ch, verbose=True):" in source


def test_dry_run_uses_no_random_numbers():
    d = yaml_model_load("yolov8n-mnv3.yaml")
    torch.manual_seed(0)
    first = DetectionModel({**d, "nc": 3}, verbose=False).state_dict()  # a new dictionary: with a dry run
    torch.manual_seed(0)
    again = DetectionModel({**d, "nc": 3}, verbose=False).state_dict()  # a known one: without
    assert all(torch.equal(first[k], again[k]) for k in first)
