"""Bad YAMLs are refused before anything is built, in one sentence that states the place, the mistake and the remedy."""

import re
from pathlib import Path

import pytest
import torch
import ultralytics
from conftest import ROOT, yolo
from ultralytics import YOLO
from ultralytics.data.utils import check_det_dataset
from ultralytics.nn.modules import Conv, Detect
from ultralytics.nn.tasks import DetectionModel

from yolo_lite import ConfigError

pytestmark = pytest.mark.core
GOOD = (ROOT / "cfg" / "yolov8-mnv3.yaml").read_text("utf-8")
STAGE3 = "[-1, 1, MobileNetV3Stage, [large, 3]]"

BAD = {  # mistake -> (old text, new text, pattern of the message)
    "unknown module": ("Concat", "Concatt", r"head row 7 \[\[-1, 3\], 1, Concatt, \[1\]\]: unknown module 'Concatt'; did you mean 'Concat'"),
    "misspelt module of ours": (STAGE3, STAGE3.replace("V3", "V33"), r"backbone row 2 .*: unknown module .*did you mean 'MobileNetV3Stage'"),
    "all modules of ours misspelt": ("MobileNetV3Stage", "MobilNetV3Stage", r"row 0 .*did you mean 'MobileNetV3Stage'"),
    "unknown torch module": ("nn.Upsample", "nn.Upsampel", r"row 6 .*unknown module 'nn.Upsampel'"),
    "unknown variant": (STAGE3, STAGE3.replace("large", "lrge"), r"backbone row 2 .*unknown variant 'lrge'; did you mean 'large'"),
    "level 0": (STAGE3, STAGE3.replace("3]]", "0]]"), r"backbone row 2 .*level has to be 1 to 5, found 0"),
    "level 6": (STAGE3, STAGE3.replace("3]]", "6]]"), r"level has to be 1 to 5, found 6"),
    "level left out": (STAGE3, STAGE3.replace("[large, 3]", "[large, 4]"), r"row 2 .*level 4 of mobilenetv3_large_100 expects the 24 channels of its level 3 .*has 16"),
    "too few arguments": (STAGE3, STAGE3.replace("[large, 3]", "[large]"), r"found 1 argument\(s\) \['large'\]; MobileNetV3Stage takes \[variant, level\]"),
    "too many arguments": (STAGE3, STAGE3.replace("[large, 3]", "[large, 3, 1]"), r"found 3 argument\(s\).*takes \[variant, level\]"),
    "wrong type": (STAGE3, STAGE3.replace("[large, 3]", "[large, three]"), r"level has to be int, found 'three'"),
    "wrong type, bool": (STAGE3, STAGE3.replace("[large, 3]", "[large, true]"), r"level has to be int, found True"),
    "arguments no list": (STAGE3, STAGE3.replace("[large, 3]", "large"), r"args has to be a list, found 'large'"),
    "row too short": (STAGE3, "[-1, 1, MobileNetV3Stage]", r"row 2 .*has to be \[from, repeats, module, args\]"),
    "from forward": ("[[-1, 3], 1, Concat", "[[-1, 9], 1, Concat", r"head row 7 .*from has to name an earlier row \(-7 to 6\), found 9"),
    "from itself": ("[[-1, 3], 1, Concat", "[[-1, 7], 1, Concat", r"earlier row \(-7 to 6\), found 7"),
    "from out of range": ("[[-1, 3], 1, Concat", "[[-1, -9], 1, Concat", r"earlier row .*found -9"),
    "from of the first row": ("[-1, 1, MobileNetV3Stage, [large, 1]]", "[-2, 1, MobileNetV3Stage, [large, 1]]", r"row 0 .*\(-1, the image\), found -2"),
    "from text": ("[[-1, 3], 1, Concat", "[[-1, p4], 1, Concat", r"from has to be a row's number"),
    "two inputs for one": (STAGE3, STAGE3.replace("[-1, 1", "[[-1, 0], 1"), r"MobileNetV3Stage takes one input, .*found \[-1, 0\]"),
    "repeats 0": (STAGE3, STAGE3.replace("-1, 1,", "-1, 0,"), r"repeats has to be a whole number from 1, found 0"),
    "repeats half": (STAGE3, STAGE3.replace("-1, 1,", "-1, 1.5,"), r"whole number from 1, found 1.5"),
    "a stage repeated": (STAGE3, STAGE3.replace("-1, 1,", "-1, 2,"), r"MobileNetV3Stage cannot be repeated, found repeats 2"),
    "width 0": ("n: [0.33, 0.25, 1024]", "n: [0.33, 0, 1024]", r"yaml: width has to be a finite number above 0, found 0"),
    "width negative": ("n: [0.33, 0.25, 1024]", "n: [0.33, -0.25, 1024]", r"width .*found -0.25"),
    "width text": ("n: [0.33, 0.25, 1024]", "n: [0.33, wide, 1024]", r"width .*found 'wide'"),
    "depth NaN": ("n: [0.33, 0.25, 1024]", "n: [.nan, 0.25, 1024]", r"depth .*found nan"),
    "max_channels infinite": ("n: [0.33, 0.25, 1024]", "n: [0.33, 0.25, .inf]", r"max_channels .*found inf"),
    "scale too short": ("n: [0.33, 0.25, 1024]", "n: [0.33, 0.25]", r"scales, n: needs \[depth, width, max_channels\], found \[0.33, 0.25\]"),
    "alpha 0": ("{n: 0.5,", "{n: 0,", r"backbone_width has to be a finite number above 0, found 0"),
    "alpha infinite": ("{n: 0.5,", "{n: .inf,", r"backbone_width .*found inf"),
    "alpha text": ("{n: 0.5,", "{n: half,", r"backbone_width .*found 'half'"),
    "alpha lacks the letter": ("{n: 0.5, s", "{s", r"backbone_width lacks the scale 'n', it has s, 1?"),
    "scale letter lacking": ("  n: [0.33, 0.25, 1024]\n", "", r"the name asks for scale 'n', scales has s, m, l, x"),
    "no head at the end": ("[[11, 14, 17], 1, Detect, [nc]]", "[17, 1, Conv, [64]]", r"head row 18 .*the last row has to be the model's head"),
    "a variant called meta": (STAGE3, STAGE3.replace("large", "meta"), r"row 2 .*unknown variant 'meta'"),
    "one input in brackets": (STAGE3, STAGE3.replace("[-1, 1", "[[-1], 1"), r"takes one input, its row's number without brackets, found \[-1\]"),
    "order of the head's inputs": ("[[11, 14, 17], 1, Detect", "[[17, 14, 11], 1, Detect", r"head row 18 .*in the order of their strides, found strides \[32, 16, 8\]"),
    "the same input of the head twice": ("[[11, 14, 17], 1, Detect", "[[11, 11, 17], 1, Detect", r"head row 18 .*in the order of their strides, found strides \[8, 8, 32\]"),
    "sizes that do not go together": ("[[-1, 3], 1, Concat", "[[-1, 2], 1, Concat", r"head row 7 .*cannot take inputs of the shapes"),
    "stock module with wrong arguments": ("SPPF, [1024, 5]", "SPPF, [1024, 5, 6, 7, 8, 9]", r"backbone row 5 .*cannot be built"),
    "no backbone": ("backbone:", "backbones:", r"key 'backbone' is missing; found nc, scales, backbone_width, .*backbones, head"),
    "no head": ("head:", "heads:", r"key 'head' is missing"),
    "no nc": ("nc: 80", "n_c: 80", r"key 'nc' is missing"),
    "nc text": ("nc: 80", "nc: many", r"nc has to be a whole number above 0, found 'many'"),
    "backbone empty": (GOOD[GOOD.index("\nbackbone:") : GOOD.index("\nhead:")], "\nbackbone: []\n", r"backbone has to be a list of rows, found \[\]"),
    "activation with a call": ("nc: 80", "activation: __import__('os').getcwd()\nnc: 80", r"activation has to be like nn.ReLU\(\), found"),
    "activation with a wrong argument": ("nc: 80", "activation: nn.ReLU(foo=1)\nnc: 80", r"activation 'nn.ReLU\(foo=1\)' cannot be used"),
    "activation along a dimension too many": ("nc: 80", "activation: nn.Softmax(dim=9)\nnc: 80", r"activation 'nn.Softmax\(dim=9\)' cannot be used: Dimension out of range"),
    "activation that halves the channels": ("nc: 80", "activation: nn.GLU(1)\nnc: 80", r"has to keep a map's shape, 'nn.GLU\(1\)' does not"),
    "head repeated": ("1, Detect, [nc]", "2, Detect, [nc]", r"head row 18 .*a head cannot be repeated, found repeats 2"),
    "weights as in a checkpoint": ("backbone_weights: null", "backbone_weights: {loaded: imagenet}", r"backbone_weights has to be null, imagenet, a path"),
    "activation no module": ("nc: 80", "activation: nn.functional()\nnc: 80", r"torch.nn has no 'functional'"),
    "activation that does nothing": ("nc: 80", "activation: nn.Module()\nnc: 80", r"activation 'nn.Module\(\)' cannot be used"),
    "mode of an upsampling": ("nearest]]", "neares]]", r"head row 6 .*cannot take inputs of the shapes"),
    "reg_max 0": ("nc: 80", "reg_max: 0\nnc: 80", r"reg_max has to be a whole number above 0, found 0"),
    "reg_max beyond any use": ("nc: 80", "reg_max: 10000\nnc: 80", r"reg_max has to be at most 256, found 10000"),
    "end2end no bool": ("nc: 80", "end2end: nope\nnc: 80", r"end2end has to be true or false, found 'nope'"),
    "light head without classes": ("Detect, [nc]", "LightDetect, [0]", r"nc has to be int, from 1 to 65536, found 0"),
    "light head with too much": ("Detect, [nc]", "LightDetect, [nc, 16]", r"LightDetect takes \[nc\]"),
    "keypoints lacking": ("Detect, [nc]", "Pose, [nc, kpt_shape]", r"head row 18 .*needs the key kpt_shape, .*found None"),
    "a date that is none": ("nc: 80", "nc: 80\nday: 2024-13-45", r"month must be in 1..12"),
    "a tag that does not fit": ("nc: 80", "nc: 80\nx: !!map foo", r"yolov8n-bad.yaml: .*expected a mapping"),
    "alpha beyond any use": ("{n: 0.5,", "{n: 50000,", r"backbone_width has to be at most 10, found 50000"),
    "activation unknown": ("nc: 80", "activation: nn.Relu()\nnc: 80", r"torch.nn has no 'Relu'; did you mean 'ReLU'"),
    "key twice": ("nc: 80", "nc: 80\nnc: 81", r"line \d+: the key 'nc' appears twice, first in line \d+"),
    "letter twice": ("{n: 0.5,", "{n: 0.5, n: 1.0,", r"the key 'n' appears twice"),
    "broken YAML": ("[[11, 14, 17], 1, Detect, [nc]]", "[[11, 14, 17], 1, Detect, [nc]", r"yolov8n-bad.yaml: .*line \d+"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name, tmp_path, monkeypatch):
    old, new, message = BAD[name]
    assert old in GOOD
    (tmp_path / "yolov8n-bad.yaml").write_text(GOOD.replace(old, new), "utf-8")
    monkeypatch.chdir(tmp_path)
    built = []
    monkeypatch.setattr(
        Conv, "__init__", lambda self, *a, **k: built.append(1) if not in_dry_run() else init(self, *a, **k)
    )
    activation = Conv.default_act
    with pytest.raises(ConfigError) as caught:
        YOLO("yolov8n-bad.yaml")
    text = str(caught.value)
    assert re.search(message, text), text
    assert text.startswith("yolov8n-bad.yaml") and "\n" not in text
    assert not built and Conv.default_act is activation


init = Conv.__init__


def in_dry_run():
    return torch.empty(0).is_meta  # torch.get_default_device() ignores `with torch.device` before torch 2.9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs a mapping with the keys nc, scales, backbone and head, found nothing"),
        (b"- MobileNetV3Stage\n", "needs a mapping .* found a list"),
        (b"just text", "needs a mapping .* found a str"),
        (b"# caf\xe9\n" + GOOD.encode(), "line 1: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_files_that_are_no_model(tmp_path, content, message):
    path = tmp_path / "yolov8n-bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        YOLO(path)


def test_stock_yamls_stay_as_they_are(tmp_path):
    """A key twice, a stray byte, an unknown module: as without us."""
    text = (Path(ultralytics.__file__).parent / "cfg/models/v8/yolov8.yaml").read_text("utf-8")
    path = tmp_path / "yolov8n.yaml"
    path.write_bytes(b"# caf\xe9, no MobileNetV3Stage, no backbone_width\nnc: 7\n" + text.encode())
    assert YOLO(path).model.yaml["nc"] == 80
    path.write_text(text.replace("SPPF", "Xyzzy"), "utf-8")
    with pytest.raises(KeyError, match="Xyzzy"):
        YOLO(path)


def test_missing_file_names_the_nearest_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/yolov8-mnv3.yaml").write_text("")
    for given, near in (
        ("yolov8s-mvn3.yaml", "yolov8s-mnv3.yaml"),
        ("yolov8-mvn3.yaml", "yolov8-mnv3.yaml"),
        ("other/yolov8m-mvn3.yaml", "yolov8m-mnv3.yaml"),
        ("mine/yolov8m-mvn3.yaml", "mine/yolov8m-mnv3.yaml"),
    ):
        with pytest.raises(FileNotFoundError, match=f"'{given}' does not exist; did you mean '{near}'"):
            YOLO(given)
    with pytest.raises(FileNotFoundError, match="'shape.yaml' does not exist; did you mean 'shapes.yaml'"):
        check_det_dataset("shape.yaml")
    with pytest.raises(FileNotFoundError, match="'coc8.yaml' does not exist$"):
        check_det_dataset("coc8.yaml")


def test_failed_build_leaves_no_trace(tmp_path):
    """After failures at each stage the next stock model is the same, bit for bit."""

    def stock():
        torch.manual_seed(0)
        return DetectionModel("yolo11n.yaml", verbose=False).state_dict(), Conv.default_act, Detect.legacy

    before, *attributes = stock()
    for name in ("unknown module", "order of the head's inputs", "stock module with wrong arguments", "level left out"):
        old, new, _ = BAD[name]
        path = tmp_path / "yolov8n-bad.yaml"
        path.write_text("activation: nn.ReLU()\n" + GOOD.replace(old, new), "utf-8")
        with pytest.raises(ConfigError):
            YOLO(path)
        assert [Conv.default_act, Detect.legacy] == attributes
    after, *_ = stock()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_activation_key_does_not_outlive_the_model(tmp_path):
    path = tmp_path / "yolov8n-relu.yaml"
    path.write_text("activation: nn.ReLU()\n" + GOOD, "utf-8")
    activation = Conv.default_act
    assert type(YOLO(path).model.model[5].cv2.act).__name__ == "ReLU"
    assert Conv.default_act is activation


def test_message_of_the_stock_command(tmp_path):
    """The last line is the sentence itself."""
    old, new, message = BAD["unknown variant"]
    (tmp_path / "yolov8n-bad.yaml").write_text(GOOD.replace(old, new), "utf-8")
    process = yolo("train", "model=yolov8n-bad.yaml", "data=coco8.yaml", cwd=tmp_path, check=False)
    assert process.returncode != 0
    last = process.stdout.strip().splitlines()[-1]
    assert last.startswith("yolo_lite") and "ConfigError: yolov8n-bad.yaml" in last and re.search(message, last)
    assert not (tmp_path / "runs").exists()
