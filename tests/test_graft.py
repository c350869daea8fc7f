"""`make`: any backbone, neck and head on any base; readable YAMLs, budgets, and refusals in one sentence."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import run, yolo
from steps import train_step
from ultralytics.nn.tasks import yaml_model_load

from yolo_lite import ConfigError, make
from yolo_lite.commands import main
from yolo_lite.compose.base import flow
from yolo_lite.compose.budget import alphas
from yolo_lite.compose.recipe import Recipe
from yolo_lite.cost import cost, row_gflops
from yolo_lite.options import COMMANDS, HEADS, NECKS, TASKS
from yolo_lite.ultralytics_hooks import configs, internals

COMMAND = Path(sys.executable).with_name("yolo-lite")
CONFIGS = sorted(name for name in configs.configs() if name.startswith("yolo"))
CLAIMED = [
    ("yolov5", "detect"),
    *[(base, task) for base in ("yolov8", "yolo11", "yolo26") for task in TASKS],
    ("rtdetr-l", "detect"),
]


def build(text, task="detect", letter=None):
    d = yaml.safe_load(text)
    torch.manual_seed(0)
    return internals.build_model({**d, "scale": letter or next(iter(d["scales"])), "yaml_file": "made.yaml"}, task)


def check_step(model, task, size=128):
    """One step, with a finite loss and a gradient at every parameter that has one coming."""
    loss = train_step(model, task, size=size)
    assert torch.isfinite(loss)
    head = f"model.{len(model.model) - 1}."
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith(head):
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any(), name


def all_but(*always, pairs=CLAIMED):
    """Return parameters of which only some are tested always, the others with the slow tests."""
    assert set(always) <= set(pairs)
    return [pytest.param(*pair, marks=[] if pair in always else [pytest.mark.slow]) for pair in pairs]


@pytest.mark.parametrize(
    ("base", "task"),
    all_but(
        *[("yolov5", "detect"), ("yolov8", "segment"), ("yolo11", "obb"), ("yolo26", "pose"), ("yolo26", "classify")],
        ("rtdetr-l", "detect"),
    ),
)
def test_every_base_and_task_trains_a_step(base, task):
    text = make(base, "shufflenet_v2_x0_5", task=task, width=1.0, scale="l" if base == "rtdetr-l" else "n", count=False)
    check_step(build(text, task), task, size=160 if base == "rtdetr-l" else 128)


@pytest.mark.parametrize(
    ("base", "task"),
    all_but(
        *[("yolov5", "detect"), ("yolov8", "segment"), ("yolo11", "pose"), ("yolo26", "detect"), ("yolo26", "obb")],
        pairs=[pair for pair in CLAIMED if pair[1] != "classify" and pair[0] != "rtdetr-l"],
    ),
)
def test_light_neck_and_head_on_every_base(base, task):
    text = make(base, "mobilenetv4_conv_small", "light", "light", task, width=0.5, scale="n", count=False)
    model = build(text, task)
    assert type(model.model[-1]).__name__.startswith("Light")
    check_step(model, task)
    plain = build(make(base, "mobilenetv4_conv_small", task=task, width=0.5, scale="n", count=False), task)
    assert all(ours < theirs for ours, theirs in zip(cost(model), cost(plain), strict=True))


@pytest.mark.parametrize("neck", ["aspp", "lraspp", "extradw"])
@pytest.mark.parametrize("base", ["yolov5", "yolo26"])
def test_necks_keep_every_other_row(base, neck):
    """Only the rows that a neck replaces differ from those of the plain swap, and none moves."""
    plain, other = (
        yaml.safe_load(make(base, "ghostnet_100", each, width=0.5, scale="n", count=False)) for each in ("base", neck)
    )
    replaced = {
        "aspp": {"SPPF": "ASPP"},
        "lraspp": {"SPPF": "LRASPP"},
        "extradw": {"Concat": "ExtraDWFusion", "C3": "C3k2ExtraDW", "C3k2": "C3k2ExtraDW"},
    }[neck]
    assert len(plain["backbone"] + plain["head"]) == len(other["backbone"] + other["head"])
    changed = [
        (a[2], b[2])
        for a, b in zip(plain["backbone"] + plain["head"], other["backbone"] + other["head"], strict=True)
        if a != b
    ]
    assert changed and all(replaced.get(a) == b for a, b in changed)
    assert not any(row[2] in replaced for row in other["backbone"] + other["head"])
    check_step(build(yaml.safe_dump(other)), "detect")


@pytest.mark.parametrize("word", [*({"neck": neck} for neck in NECKS), *({"head": head} for head in HEADS)], ids=str)
def test_every_word_for_a_neck_or_head_does_something(word):
    plain, other = (
        yaml.safe_load(make("yolov8", "ghostnet_100", width=0.5, count=False, **each)) for each in ({}, word)
    )
    rows = [(each["backbone"], each["head"]) for each in (plain, other)]
    assert (rows[0] == rows[1]) == ("base" in word.values())


def test_extradw_makes_the_neck_of_yolo11_lighter_by_15_percent():
    """C3k2ExtraDW alone, in place of C3k2 in the neck of stock YOLO11n; the head stays as it is."""
    base = yaml_model_load("yolo11n.yaml")
    swapped = {**base, "head": [[*r[:2], r[2].replace("C3k2", "C3k2ExtraDW"), r[3]] for r in base["head"]]}
    models = [internals.build_model(d) for d in (base, swapped)]
    heads = [[p.shape for p in model.model[-1].parameters()] for model in models]
    assert heads[0] == heads[1]
    rows = [row_gflops(model) for model in models]
    for each, model in zip(rows, models, strict=True):
        assert 0.98 * cost(model)[1] < sum(each) <= cost(model)[1]  # everything except the attention's matrix products
    stock, ours = (sum(each[len(base["backbone"]) : -1]) for each in rows)
    assert stock == pytest.approx(1.57, abs=0.01)
    assert ours <= 0.85 * stock


@pytest.mark.parametrize("config", CONFIGS)
def test_comments_number_their_rows(config):
    """A comment that begins with a number names its own row, and every row that others take is numbered or cited."""
    text = configs.configs()[config].read_text("utf-8")
    comments = re.findall(r"^  - \[.*?\](?: # (.*))?$", text, re.M)
    d = yaml.safe_load(text)
    assert len(comments) == len(d["backbone"] + d["head"])
    numbers = {i: int(match[1]) for i, comment in enumerate(comments) if (match := re.match(r"(\d+)\b", comment or ""))}
    assert numbers and all(i == number for i, number in numbers.items())
    taken = {
        f for row in d["backbone"] + d["head"] for f in (row[0] if isinstance(row[0], list) else [row[0]]) if f > 0
    }
    assert taken <= numbers.keys()


def test_budget_takes_the_largest_width_that_fits():
    options = {"base": "yolov8", "backbone": "mobilenetv3_large_100", "neck": "light", "head": "light", "scale": "n"}
    text = make(**options, max_gflops=3.0)
    alpha = yaml.safe_load(text)["backbone_width"]["n"]
    header = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    said = re.search(r"Alpha (\S+) is the largest with channels in multiples of (\d+) within 3 GFLOPs", header)
    assert float(said[1]) == pytest.approx(alpha, abs=1e-5)
    found = cost(build(text))
    assert found[1] <= 3.0 and f"{found[0] / 1e6:.2f} M" in text and f"{found[1]:.2f} (8.74)" in text
    wider = [a for a in alphas("mobilenetv3_large_100", int(said[2]), (3, 4, 5)) if a > alpha]
    assert cost(build(make(**options, width=min(wider), count=False)))[1] > 3.0
    fewer = yaml.safe_load(make(**options, max_gflops=3.0, max_params=0.9))["backbone_width"]["n"]
    assert fewer < alpha


def test_width_is_chosen_to_be_lighter_than_the_base():
    text = make("yolov8", "mnasnet1_0", scale="n")
    alpha = yaml.safe_load(text)["backbone_width"]["n"]
    assert "yes" in text.partition("ImageNet weights")[2].splitlines()[1]
    ours, theirs = cost(build(text)), cost(internals.build_model(yaml_model_load("yolov8n.yaml")))
    assert alpha < 1 and ours[0] < theirs[0] and ours[1] < theirs[1]


@pytest.mark.parametrize("task", ["semantic", "sem", "Semantic"])
def test_semantic_segmentation_is_none_of_the_tasks(task):
    with pytest.raises(ConfigError) as error:
        make("yolov8", task=task)
    assert str(error.value) == f"task has to be one of detect, segment, pose, obb, classify, found {task!r}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base": "yolov8n"}, "unknown base 'yolov8n'; use base=yolov8 scale=n"),
        ({"base": "yolov10"}, "Ultralytics has a YAML for each scale of it, yolov10b, yolov10l, yolov10m, yolov10n"),
        ({"base": "yolo8"}, "unknown base 'yolo8'; did you mean 'yolov8'?"),
        ({"base": "yolov11"}, "unknown base 'yolov11'; did you mean 'yolo11'?"),
        ({"base": "yolov11n"}, "unknown base 'yolov11n'; use base=yolo11 scale=n"),
        ({"base": "yolo10"}, "unknown base 'yolo10': Ultralytics has a YAML for each scale of it, yolov10b, yolov10l,"),
        ({"base": "yolov10z"}, "'yolov10z': Ultralytics has a YAML for each scale of it, yolov10b, yolov10l, yolov10m"),
        ({"base": "yolov9"}, "unknown base 'yolov9': Ultralytics has a YAML for each scale of it, yolov9c, yolov9e"),
        ({"backbone": "ghostnet_10"}, "unknown backbone 'ghostnet_10'; did you mean 'ghostnet_100'?"),
        ({"backbone": "efficientvit_m0"}, "takes level P3 of its backbone; efficientvit_m0 has P4, P5"),
        (
            {"neck": "asp"},
            "neck has to be one of base, aspp, lraspp, extradw, slim, light, found 'asp'; did you mean 'aspp'?",
        ),
        ({"head": "lite"}, "head has to be one of base, light, slim, found 'lite'; did you mean 'light'?"),
        ({"task": "segmentation"}, "classify, found 'segmentation'; did you mean 'segment'?"),
        ({"task": "seg"}, "classify, found 'seg'; did you mean 'segment'?"),
        ({"task": "keypoints"}, "classify, found 'keypoints'; did you mean 'pose'?"),
        ({"task": "cls"}, "classify, found 'cls'; did you mean 'classify'?"),
        ({"task": "rotated"}, "classify, found 'rotated'; did you mean 'obb'?"),
        ({"base": "yolov5", "task": "segment"}, "base yolov5 has no model for the task segment, only for detect"),
        ({"base": "rtdetr-l", "neck": "aspp"}, "base rtdetr-l has no SPPF that ASPP could replace"),
        ({"base": "rtdetr-l", "head": "light"}, "head=light does not support rtdetr-l's RTDETRDecoder"),
        ({"task": "classify", "head": "light"}, "a classifier has no neck"),
        ({"base": "yolov8-p6", "imgsz": 416}, "imgsz has to be a multiple of 64 for base yolov8-p6, found 416"),
        ({"scale": "q"}, "base yolov8 has the scales n, s, m, l, x, found scale=q"),
        ({"width": 0.0}, "width has to be a finite number above 0"),
        ({"width": {"n": 0.5}}, "width lacks the scale s"),
        ({"width": {"n": 0.5, "z": 1.0}, "scale": "n"}, "base yolov8 has the scales n, s, m, l, x, found width=z:1.0"),
        ({"width": 99.0}, "width has to be at most 10, found 99.0"),
        ({"imgsz": 100}, "imgsz has to be a multiple of 32, found 100; the nearest is 96"),
        ({"imgsz": 0}, "imgsz has to be a multiple of 32, found 0; the nearest is 32"),
        ({"max_gflops": 0, "scale": "n"}, "max_gflops has to be a finite number above 0, found 0"),
        ({"base": 5}, "base has to be a name, found 5; for example base=yolov8"),
        ({"host": "yolov8"}, "make has no host=; choose from base, backbone, neck"),
        ({"backbone": "ghostnet_10", "edge": True}, "unknown backbone 'ghostnet_10'; did you mean 'ghostnet_100'?"),
        (
            {"neck": "slim", "backbone": "efficientvit_m0"},
            "joins P3 to P5 for yolov8's Detect; efficientvit_m0 lacks P3",
        ),
        ({"weights": {"mean": [0, 0, 0]}, "width": 1.0}, "backbone_weights has to be null, imagenet, a path, or"),
        ({"base": "yolov8-seg"}, "base 'yolov8-seg' names a task; use base=yolov8 task=segment"),
        ({"base": "yolov8-world"}, "WorldDetect takes text besides the image"),
        ({"base": "yolov9e"}, "not a plain sequence of feature maps"),
        ({"base": "yolov9c", "scale": "n"}, "has one scale without a letter, found scale=n"),
        ({"weights": "imagenet", "width": 0.6}, "no published weights for mobilenetv3_large_100 at width 0.6"),
        ({"weights": "nofile.pth"}, "there is no file 'nofile.pth'"),
        ({"weights": "*.pth"}, "there is no file '*.pth'"),
        ({"out": "yolov8.yaml"}, "would hide Ultralytics' own yolov8.yaml"),
        ({"out": "yolov8mine.yaml"}, "use yolov8-mine.yaml"),
        ({"out": "yoloe-11-my.yaml"}, "takes 'yoloe' in a name for another kind of model"),
        ({"max_gflops": 3.0}, "a budget is for one model: give scale=n"),
        ({"max_gflops": -1.0, "scale": "n"}, "max_gflops has to be a finite number above 0, found -1.0"),
        ({"max_gflops": 3.0, "scale": "n", "width": 1.0}, "a budget chooses the width"),
        ({"max_params": 0.01, "scale": "n"}, "no width of mobilenetv3_large_100 fits 0.01 M parameters"),
        ({"backbone": "timm/repvit_m0_9", "width": 0.5}, "timm/repvit_m0_9 is timm's and has no width multiplier"),
        ({"out": "yolov8n-my.yaml"}, "would read the scale letter 'n' out of this name; use yolov8-my.yaml"),
        ({"out": "my.yml"}, "has to end in .yaml"),
        ({"out": "nowhere/my.yaml"}, "there is no folder nowhere"),
        ({"out": "rtdetr-my.yaml"}, "; use a name without rtdetr"),
        ({"out": "my.yaml", "base": "rtdetr-l"}, "; use a name with rtdetr, like rtdetr-l-my.yaml"),
        ({"out": "yolov8-my.yaml", "base": "yolov8-rtdetr"}, "; use a name with rtdetr, like yolov8-rtdetr-my.yaml"),
    ],
)
def test_refuses_what_does_not_go_together(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        make(**options)
    assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_keeps_a_file_that_exists(tmp_path):
    path = tmp_path / "yolov8-my.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        make(width=0.5, count=False, out=path)
    assert path.read_text() == "mine"
    make(width=0.5, count=False, out=path, exist_ok=True)
    assert yaml.safe_load(path.read_text())["backbone_width"]["n"] == 0.5
    assert list(tmp_path.iterdir()) == [path]


WORDS = ["base=yolov8", "backbone=ghostnet_100", "neck=aspp", "head=light", "width=n:0.5,s:1", "scale=n"]


def test_command_writes_a_config(tmp_path):
    made = run(COMMAND, "make", *WORDS, "out=yolov8-mine.yaml", cwd=tmp_path)
    assert made.stdout.strip().endswith("yolov8-mine.yaml")
    assert re.search(r"#   n +\d\.\d\d M \(3.15\)", (tmp_path / "yolov8-mine.yaml").read_text())
    wrong = run(COMMAND, "make", "nek=aspp", cwd=tmp_path, check=False)
    said = "yolo-lite: make has no nek=; did you mean 'neck'?; see yolo-lite make --help\n"
    assert (wrong.returncode, wrong.stdout) == (2, said)


@pytest.mark.slow  # test_shapes.py trains similar models with the stock command
def test_the_stock_command_trains_what_make_wrote(tiny_data, tmp_path):
    assert main(["make", *WORDS, "count=False", f"out={tmp_path / 'yolov8-mine.yaml'}"]) == 0
    trained = yolo(
        "train", "model=yolov8n-mine.yaml", f"data={tiny_data}", "imgsz=64", "epochs=1", "batch=8", "workers=0",
        "plots=False", "project=runs", "name=run", cwd=tmp_path,
    )  # fmt: skip
    assert "yolo_lite.heads.LightDetect" in trained.stdout and "yolo_lite.necks.ASPP" in trained.stdout


def test_command_line_file_and_python_make_the_same(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"backbone": "ghostnet_100", "width": {"n": 0.5}, "scale": "n", "keys": {"nc": 3, "reg_max": 8}}
    text = make(**options, count=False)
    d = yaml.safe_load(text)
    assert (d["nc"], d["reg_max"], list(d["scales"])) == (3, 8, ["n"])
    Path("recipe.yaml").write_text(yaml.safe_dump({**options, "scale": "s", "count": False}))
    words = ["backbone=ghostnet_100", "width=n:0.5", "scale=n", "keys={nc: 3, reg_max: 8}", "count=False"]
    for each in (words, ["recipe.yaml", "scale=n"]):  # the command line overrides the file
        assert main(["make", *each]) == 0
        assert capsys.readouterr().out == text.rstrip() + "\n"
    Path("recipe.yaml").write_text("bakbone: ghostnet_100")
    assert main(["make", "recipe.yaml"]) == 1
    assert capsys.readouterr().err == "yolo-lite: make has no bakbone=; did you mean 'backbone'?\n"


def test_recipe_has_every_option_and_its_default():
    recipe = Recipe()
    assert vars(recipe) == COMMANDS["make"].defaults and recipe == Recipe.of({})
    recipe.check()
    with pytest.raises(ConfigError, match="scale has to be a text, found 5"):
        Recipe(scale=5).check()


@pytest.mark.parametrize("text", ["plain", "5", "*.pth", "@w", "{file: w", "a\\b: c", "it's", 'say "x"', "null", ""])
def test_values_are_written_so_that_yaml_reads_them(text):
    assert yaml.safe_load(flow([text, None, 1.5])) == [text, None, 1.5]
