"""Bases that are only smoke-tested and bases that are refused, as listed in docs/matrix.md."""

import pytest
import torch
import yaml
from conftest import ROOT
from steps import train_step

from yolo_lite import ConfigError, make
from yolo_lite.ultralytics_hooks import internals

ORDINARY = ("yolov3-tiny", "yolov9t", "yolov10n", "yolo12")
SLOW = ("yolov3", "yolov3-spp", "yolov5-p6", "yolov6", "yolov8-p2", "yolov8-p6")
SLOW += ("yolov9s", "yolov9m", "yolov9c", "yolov10s", "yolov10m")
REFUSED = {
    "yolov8-world": "WorldDetect takes text besides the image",
    "yolov8-worldv2": "WorldDetect takes text besides the image",
    "yoloe-v8": "YOLOEDetect takes text besides the image",
    "yoloe-11": "YOLOEDetect takes text besides the image",
    "yoloe-26": "YOLOEDetect takes text besides the image",
    "yolov9e": "not a plain sequence of feature maps",
}


@pytest.mark.parametrize("base", [*ORDINARY, *(pytest.param(base, marks=pytest.mark.slow) for base in SLOW)])
def test_other_bases_train_a_step(base):
    text = make(base, "mobilenetv4_conv_small", width=0.5, count=False)
    d = yaml.safe_load(text)
    model = internals.build_model({**d, "scale": "n" if "n" in d.get("scales", ()) else "", "yaml_file": "made.yaml"})
    assert any("MobileNetV4" in type(layer).__name__ for layer in model.model)
    assert torch.isfinite(train_step(model, size=128))


@pytest.mark.parametrize("base", REFUSED)
def test_what_is_no_base_is_refused(base):
    with pytest.raises(ConfigError, match=REFUSED[base]):
        make(base, "mobilenetv4_conv_small", count=False)


def test_the_page_says_so(script):
    matrix = script("matrix")
    assert sorted(matrix.SMOKE_TESTED) == sorted((*ORDINARY, *SLOW)) and sorted(matrix.REFUSED) == sorted(REFUSED)
    shown = " ".join((ROOT / "docs/matrix.md").read_text("utf-8").split())
    assert matrix.OTHER_BASES in shown and " ".join(matrix.page({}).split()).endswith(matrix.OTHER_BASES)
