"""Bases with heads of two to four levels, such as P3 and P5, P2 to P5 or P3 to P6: nothing assumes three levels."""

import re

import pytest
import torch
import yaml
from conftest import yolo
from steps import train_step
from ultralytics.nn.tasks import DetectionModel

from yolo_lite import ConfigError, make
from yolo_lite.commands.info import show_info
from yolo_lite.cost import cost
from yolo_lite.ultralytics_hooks import configs, internals
from yolo_lite.ultralytics_hooks.dry_run import levels
from yolo_lite.weights.by_role import rows_by_role

BASES = {  # base -> input levels of its head
    "yolo99": [3, 5],
    "yolov3-tiny": [4, 5],
    "yolov8-p2": [2, 3, 4, 5],
    "yolov8-p6": [3, 4, 5, 6],
}
TWO_LEVELS = """  # yolo99: YOLOv8's backbone, and a head of two levels
head:
  - [-1, 1, nn.Upsample, [None, 4, "nearest"]]
  - [[-1, 4], 1, Concat, [1]] # cat backbone P3
  - [-1, 3, C2f, [256]] # 12 (P3/8-small)

  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [[-1, 9], 1, Concat, [1]] # cat head P5
  - [-1, 3, C2f, [1024]] # 16 (P5/32-large)

  - [[12, 16], 1, Detect, [nc]] # Detect(P3, P5)
"""


@pytest.fixture(autouse=True)
def two_levels(tmp_path_factory, monkeypatch):
    """Add `yolo99` to Ultralytics' model YAMLs."""
    stock = configs.stock_configs()
    path = tmp_path_factory.mktemp("bases") / "yolo99.yaml"
    path.write_text(stock["yolov8"].read_text("utf-8").partition("# YOLOv8.0n head")[0] + TWO_LEVELS, "utf-8")
    monkeypatch.setattr(configs, "stock_configs", lambda: {**stock, "yolo99": path})
    return path


def build(text, letter="n"):
    d = yaml.safe_load(text)
    torch.manual_seed(0)
    return internals.build_model({**d, "scale": letter if d.get("scales") else "", "yaml_file": "made.yaml"})


def made(base, neck="base", head="base", backbone="mobilenetv4_conv_small", **more):
    scale = {} if base == "yolov3-tiny" else {"scale": "n"}
    return make(base, backbone, neck, head, **{"width": 0.5, "count": False, **scale, **more})


def head_levels(d):
    found = levels(d)
    return [found[each] for each in d["head"][-1][0]]


def check_comments(text):
    """A comment that begins with a number names its own row, and says that row's level if it says one."""
    rows = re.findall(r"^  - \[.*?\](?: # (.*))?$", text, re.M)
    given = levels({**yaml.safe_load(text), "scale": "n"})
    for i, comment in enumerate(rows):
        if match := re.match(r"(\d+)\b", comment):
            assert int(match[1]) == i
        if match := re.match(r"\d+ \(P(\d)/(\d+)|\d+-P(\d)/(\d+)", comment):
            level, stride = (int(each) for each in match.groups() if each)
            assert stride == 2**level and given[i] == level


ALWAYS = [("yolo99", "light"), ("yolov3-tiny", "slim"), ("yolov8-p2", "light"), ("yolov8-p6", "base")]
ALWAYS += [("yolov8-p6", "slim")]


@pytest.mark.parametrize(
    ("base", "neck", "head"),
    [
        pytest.param(base, word, word, marks=[] if (base, word) in ALWAYS else [pytest.mark.slow])
        for base in BASES
        for word in ("base", "slim", "light")
    ],
)
def test_two_to_four_levels_train_a_step(base, neck, head):
    text = made(base, neck, head)
    model = build(text)
    assert head_levels(model.yaml) == BASES[base]
    assert sorted(model.stride.tolist()) == [2**level for level in sorted(BASES[base])]
    assert len(model.model[-1].cv2) == len(BASES[base])
    check_comments(text)
    assert torch.isfinite(train_step(model, "detect", size=128))


def test_a_pan_joins_what_the_head_takes():
    """Two levels apart: the level between is joined, but not given to the head; P6 is made by the base's own rows."""
    two = yaml.safe_load(made("yolo99", "light", "light"))
    assert [row[2] for row in two["head"]].count("ExtraDWFusion") == 4 and len(two["head"][-1][0]) == 2
    four = yaml.safe_load(made("yolov8-p6", "light", "light"))
    stock = yaml.safe_load(configs.stock_configs()["yolov8-p6"].read_text("utf-8"))
    assert four["backbone"][5:7] == stock["backbone"][9:11]


@pytest.mark.slow  # budgets are tested in test_graft.py, costs of four levels below
def test_budget_and_costs_of_four_levels():
    text = made("yolov8-p2", "light", "light", width=None, max_gflops=12.0, count=True)
    assert cost(build(text))[1] <= 12.0 and "within 12 GFLOPs" in text.replace("\n# ", " ")


def test_info_of_a_model_with_p6(tmp_path, capsys):
    """Image sizes that its stride does not divide are left out."""
    made("yolov8-p6", out=str(tmp_path / "yolov8-mine.yaml"))
    show_info(str(tmp_path / "yolov8n-mine.yaml"))
    assert re.search(r"alpha +params +GFLOPs@640 +GFLOPs@512 +GFLOPs@320\n", capsys.readouterr().out)


@pytest.mark.parametrize("base", ["yolo99", "yolov8-p2", "yolov8-p6"])
def test_weights_of_a_stock_model_go_where_their_level_is(base):
    torch.manual_seed(1)
    source = DetectionModel("yolov8n.yaml", verbose=False)
    target = build(made(base))
    ours, theirs = head_levels(target.yaml), [3, 4, 5]
    before = {name: value.clone() for name, value in target.state_dict().items()}
    target.load(source, verbose=False)
    of_ours, of_theirs = target.model[-1], source.model[-1]
    for index, level in enumerate(ours):
        mine, was = of_ours.cv2[index][1].conv.weight, before[f"model.{of_ours.i}.cv2.{index}.1.conv.weight"]
        stock = of_theirs.cv2[theirs.index(level)][1].conv.weight if level in theirs else was
        assert torch.equal(mine, stock), f"P{level}"
    given = levels(target.yaml), levels(source.yaml)
    pairs = rows_by_role(source.yaml, target.yaml, given[::-1])
    rows = target.yaml["backbone"] + target.yaml["head"]
    same = [i for i, j in pairs.items() if i < len(rows) - 1 and i]
    assert same and all(given[0][i] == given[1][pairs[i]] for i in same)


@pytest.mark.slow  # a training step is tested above, and the stock command with other models of `make` elsewhere
def test_trained_by_the_stock_command(tiny_data, tmp_path):
    made("yolov8-p6", "slim", "slim", out=str(tmp_path / "yolov8-mine.yaml"))
    yolo(
        "train", "model=yolov8n-mine.yaml", f"data={tiny_data}", "imgsz=64", "epochs=1", "batch=8", "workers=0",
        "plots=False", f"project={tmp_path}", "name=run", cwd=tmp_path,
    )  # fmt: skip
    assert list(tmp_path.rglob("weights/best.pt"))


def test_what_a_backbone_lacks_is_said():
    with pytest.raises(ConfigError, match="base yolov8-p2 takes level P3 of its backbone; efficientvit_m0 has P4, P5"):
        made("yolov8-p2", backbone="efficientvit_m0", width=None)
    with pytest.raises(ConfigError, match="neck=slim joins P2 to P5 for yolov8-p2's Detect; efficientvit_m0 lacks P2"):
        made("yolov8-p2", "slim", backbone="efficientvit_m0", width=None)
