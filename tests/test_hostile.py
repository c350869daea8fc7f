"""Hostile and careless model YAMLs: each kind of mistake is refused with its own sentence, without side effects."""

import re

import pytest
from conftest import ROOT
from ultralytics import YOLO

from yolo_lite import ConfigError

pytestmark = pytest.mark.core
GOOD = (ROOT / "cfg" / "yolov8-mnv3.yaml").read_text("utf-8")
UPSAMPLE = "[-1, 1, nn.Upsample, [None, 2, nearest]]"


def refusal(folder, text):
    """Return the sentence that refuses a model YAML of ours."""
    path = folder / "yolov8n-bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        YOLO(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    return str(caught.value)


def changed(old, new, text=GOOD):
    """Return our example with something else in one place."""
    assert old in text
    return text.replace(old, new, 1)


# Names of modules -----------------------------------------------------------------------------------------------------

NO_MODULES = {  # module and arguments of a row -> description in the message
    "torch_safe_load, [evil.pt]": "'torch_safe_load' is a function",
    "torch_load, [evil.pt]": "'torch_load' is a function",
    "check_requirements, [evil]": "'check_requirements' is a function",
    "DetectionModel, [yolov8n.yaml]": "'DetectionModel' is a whole model",
    "YOLOEModel, [yoloe-11s.yaml]": "'YOLOEModel' is a whole model",
    "Ensemble, []": "'Ensemble' is a whole model",
    "Path, [x]": "'Path' is a class of another kind",
    "LOGGER, []": "'LOGGER' is a Logger",
    "torch, []": "'torch' is a Python module",
    "__builtins__, []": "'__builtins__' is a dict",
    "nn.functional, []": "'nn.functional' is a Python module",
    "nn.Parameter, []": "'nn.Parameter' is a class of another kind",
    "nn.factory_kwargs, []": "'nn.factory_kwargs' is a function",
    "torchvision.ops.nms, [1, 2]": "'torchvision.ops.nms' is a function",
    "torchvision.ops.misc, []": "'torchvision.ops.misc' is a Python module",
}
UNKNOWN = ["eval, [x]", "nn.modules.activation.ReLU, []", "torchvision.models.resnet18, []", "torchvision.ops.Nms, []",
           "nn., []", "torch.load, [evil.pt]", "os.system, [x]", "nn.Module.__init__, []"]  # fmt: skip


@pytest.mark.parametrize("row", NO_MODULES)
def test_only_modules_are_called(row, tmp_path):
    text = refusal(tmp_path, changed(UPSAMPLE, f"[-1, 1, {row}]"))
    assert f"head row 6 [-1, 1, {row}]: module has to be the name of an nn.Module class, {NO_MODULES[row]}" in text


@pytest.mark.parametrize("row", UNKNOWN)
def test_names_are_looked_for_where_modules_are(row, tmp_path):
    text = refusal(tmp_path, changed(UPSAMPLE, f"[-1, 1, {row}]"))
    assert f"head row 6 [-1, 1, {row}]: unknown module '{row.partition(',')[0]}'" in text


def test_no_name_of_ultralytics_is_called_unless_it_is_a_module():
    """All names that its parser would find, not those that somebody thought of."""
    from torch import nn
    from ultralytics.nn import tasks

    from yolo_lite.ultralytics_hooks.checks import module_class

    for name, value in vars(tasks).items():
        is_module = isinstance(value, type) and issubclass(value, nn.Module)
        if is_module and not issubclass(value, (tasks.BaseModel, tasks.Ensemble)):
            assert module_class(name, vars(tasks)) is value
        else:
            with pytest.raises(ConfigError, match=re.escape(repr(name))):
                module_class(name, vars(tasks))


@pytest.mark.parametrize("args", ["512, resnet18", "512, resnet18, DEFAULT", "512, resnet18, IMAGENET1K_V1, true, 2"])
def test_torchvision_downloads_nothing_in_the_dry_run(args, tmp_path, monkeypatch):
    from torchvision.models import ResNet18_Weights

    asked = []

    def get_state_dict(self, *args, **kwargs):
        asked.append(self)
        raise RuntimeError("no network")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", get_state_dict)
    text = (
        f"nc: 3\nbackbone_weights: null\nbackbone: [[-1, 1, TorchVision, [{args}]]]\nhead: [[[0], 1, Detect, [nc]]]\n"
    )
    assert "'Detetc'" in refusal(tmp_path, text.replace("Detect", "Detetc"))
    assert "cannot be built" in refusal(tmp_path, text.replace("[nc]", "[nc, 1, 2, 3, 4, 5]"))
    assert not asked
    (tmp_path / "yolov8n-good.yaml").write_text(text)
    with pytest.raises(RuntimeError, match="no network"):
        YOLO(tmp_path / "yolov8n-good.yaml")
    assert asked


# Keys -----------------------------------------------------------------------------------------------------------------

MISSPELT = {  # misspelt key -> intended key
    "backbone_widht": "backbone_width",
    "backbone-width": "backbone_width",
    "Backbone_Width": "backbone_width",
    "bakcbone_width": "backbone_width",
    "backbonewidth": "backbone_width",
    "backbone_multiplier": "backbone_width",
    "alpha": "backbone_width",
    "width": "backbone_width",
    "backbone_weight": "backbone_weights",
    "backbone_pretrained": "backbone_weights",
    "weights": "backbone_weights",
    "pretrained": "backbone_weights",
    "backbone_edges": "backbone_edge",
    "edge": "backbone_edge",
    "backbones": "backbone",
    "heads": "head",
    "Scales": "scales",
    "scalse": "scales",
    "activaton": "activation",
    "reg_maxx": "reg_max",
    "end2nd": "end2end",
    "kpt_shpae": "kpt_shape",
}
STOCK = (
    "nc: 3\nscales: {n: [0.33, 0.25, 1024]}\nbackbone: [[-1, 1, Conv, [64, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]\n"
)


@pytest.mark.parametrize("key", MISSPELT)
def test_misspelt_keys(key, tmp_path):
    text = refusal(tmp_path, f"{key}: 1\n{GOOD}")
    assert text.endswith(f"unknown key {key!r}; did you mean {MISSPELT[key]!r}?")


@pytest.mark.parametrize("key", ["backbone_activation", "backbone_frozen_rows", "backbone_act", "backbone_"])
def test_every_key_that_begins_like_ours(key, tmp_path):
    for text in (GOOD, STOCK):
        said = rf"unknown key '{key}'; (did you mean 'backbone_\w+'\?|choose from backbone_edge, backbone_weights, .*)$"
        assert re.search(said, refusal(tmp_path, f"{key}: 1\n{text}"))


@pytest.mark.parametrize("key", ["backbone_widht", "bakcbone_weights", "backboneedge"])
def test_a_misspelt_key_of_ours_in_a_model_of_stock_modules(key, tmp_path):
    assert f"unknown key {key!r}" in refusal(tmp_path, f"{key}: 1\n{STOCK}")


@pytest.mark.parametrize("key", ["alpha", "heads", "pretrained", "width", "activaton"])
def test_keys_of_stock_models_are_not_ours_to_judge(key, tmp_path):
    path = tmp_path / "yolov8n-stock.yaml"
    path.write_text(f"{key}: 1\n{STOCK}")
    assert YOLO(path).model.yaml[key] == 1


@pytest.mark.parametrize(
    "key", ["author", "version", "license", "notes", "description", "date", "task", "names", "1", "null", "x"]
)
def test_keys_that_mean_something_else(key, tmp_path):
    path = tmp_path / "yolov8n-good.yaml"
    path.write_text(f"{key}: 1\n{GOOD}")
    assert YOLO(path).model.yaml["nc"] == 80


def test_all_keys_that_ultralytics_reads_are_known():
    """None of its YAMLs has a key that would be taken for another one."""
    from yolo_lite.ultralytics_hooks import configs, reading

    for path in [*configs.stock_configs().values(), *configs.configs().values()]:
        assert not [key for key in YAML_KEYS.findall(path.read_text("utf-8")) if reading.meant(key)], path


YAML_KEYS = re.compile(r"^(\w+):", re.M)


# Limits ---------------------------------------------------------------------------------------------------------------

SCALE = "n: [0.33, 0.25, 1024]"
ALIASES = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]\n" for i in range(10))
MERGES = "".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 9))
STAGES = "".join(f"[-1, 1, MobileNetV3Stage, [large, {level}]], " for level in range(1, 6))


def with_row(row):
    """Return our example with another row, at stride 32."""
    return changed(UPSAMPLE, f"[-1, 1, {row}]")


BEYOND = {  # value beyond any use -> (YAML, message)
    "depth": (changed(SCALE, "n: [10000, 0.25, 1024]"), "depth has to be at most 100, found 10000"),
    "width": (changed(SCALE, "n: [0.33, 1.0e+6, 1024]"), "width has to be at most 100, found 1000000.0"),
    "depth_multiple": (f"depth_multiple: 5000\n{GOOD.replace('scales:', 'table:')}", "depth has to be at most 100, found 5000"),
    "repeats x depth": (changed(SCALE, "n: [99, 0.25, 1024]"), "row 8 [-1, 3, C2f, [512]]: repeats times depth has to be at most 200, found 3 x 99"),
    "repeats": (changed("[-1, 3, C2f, [512]]", "[-1, 1000000000, C2f, [512]]"), "repeats times depth has to be at most 200, found 1000000000 x 0.33"),
    "depth of many rows": (changed(SCALE, "n: [66, 0.25, 1024]"), "the model needs more than 10,000 torch operations to be built and run"),
    "rows": (changed(f"  - {UPSAMPLE}", f"{'  - [-1, 1, nn.Identity, []]' + chr(10)}" * 600), "backbone and head may have 500 rows, found 618"),
    "nc": (changed("nc: 80", "nc: 1000000000"), "nc has to be at most 32768, found 1000000000"),
    "nc of many digits": (changed("nc: 80", f"nc: 1{'0' * 100}"), "found a number of more than 20 digits"),
    "nc of too many digits for Python": (changed("nc: 80", f"nc: 1{'0' * 5000}"), "Exceeds the limit (4300"),
    "nc in hexadecimal": (changed("nc: 80", f"nc: 0x1{'0' * 5000}"), "found a number of more than 20 digits"),
    "ch": (f"ch: 1000000000\n{GOOD}", "ch has to be at most 256, found 1000000000"),
    "reg_max": (f"reg_max: 257\n{GOOD}", "reg_max has to be at most 256, found 257"),
    "keypoints": (f"kpt_shape: [2000, 3]\n{changed('Detect, [nc]', 'Pose, [nc, kpt_shape]')}", "kpt_shape has to be at most 1024, found 2000"),
    "alpha": (changed("{n: 0.5,", "{n: 11,"), "backbone_width has to be at most 10, found 11"),
    "alpha of a large backbone": (changed("{n: 0.5,", "{n: 10,"), "the model needs more than 200,000,000 parameters and constants"),
    "parameters": (f"nc: 3\nbackbone: [{STAGES}]\nhead: [[-1, 9, Conv, [1024, 3]], [-1, 9, Conv, [1024, 3]], [-1, 9, Conv, [1024, 3]], [[-1], 1, Detect, [nc]]]\n", "the model needs more than 200,000,000 parameters and constants"),
    "channels": (with_row("Conv, [100000000]"), "numbers among args have to be at most 65536, found 100000000"),
    "channels in a text": (with_row('Conv, ["100000000"]'), "numbers among args have to be at most 65536, found 100000000"),
    "channels below 0": (with_row("Conv, [-100000000]"), "numbers among args have to be at most 65536, found -100000000"),
    "channels in a list": (with_row("nn.Upsample, [[9999999, 9999999]]"), "numbers among args have to be at most 65536, found 9999999"),
    "an argument that is none": (with_row("Conv, [.nan]"), "numbers among args have to be at most 65536, found nan"),
    "a layer": (with_row("nn.Linear, [65536, 65536]"), "needs more than 67,108,864 values in one tensor"),
    "a recurrent layer": (with_row("nn.LSTM, [8, 60000, 60000]"), "needs more than 67,108,864 values in one tensor"),
    "a map": (with_row("nn.Upsample, [None, 60000]"), "needs more than 67,108,864 values in one tensor"),
    "padding": (with_row("nn.ZeroPad2d, [50000]"), "needs more than 67,108,864 values in one tensor"),
    "blocks in a block": (with_row("ResNetLayer, [256, 64, 1, false, 65000]"), "row 6 [-1, 1, ResNetLayer, [256, 64, 1, false, 65000]]: the model needs more than 10,000 torch operations"),
    "arithmetic": (changed(UPSAMPLE, "[0, 1, nn.Conv2d, [8, 512, 31, 1, 15]]"), "the model needs more than 100 GFLOPs for an image of 256 px"),
    "a head": (changed("Detect, [nc]", "OBB, [nc, 60000]"), "needs more than 67,108,864 values in one tensor"),
    "timm's largest": ("nc: 3\nbackbone: [[-1, 1, TimmBackbone, [vit_giant_patch14_reg4_dinov2]], [0, 1, Level, [4]]]\nhead: [[[1], 1, Detect, [nc]]]\n", "parameters; needed at most 100,000,000"),
    "a huge convolution": ("nc: 3\nbackbone: [[-1, 1, TimmBackbone, [resnet18]], [0, 1, Level, [5]], [-1, 1, Conv, [2048, 5]], [-1, 1, Conv, [64]]]\nhead: [[[3], 1, Detect, [nc]]]\n", "backbone row 2 [-1, 1, Conv, [2048, 5]]: one weight has 26,214,400 values; needed at most 16,777,216"),
    "timm's large": ("nc: 3\nbackbone: [[-1, 1, TimmBackbone, [regnety_320]], [0, 1, Level, [4]], [-1, 9, Conv, [1024, 3]], [-1, 9, Conv, [1024, 3]]]\nhead: [[[1], 1, Detect, [nc]]]\n", "parameters; needed at most 100,000,000"),
    "aliases": (ALIASES + GOOD, "there are more than 20000 values, with aliases expanded"),
    "merged keys": (f"m0: &m0 {{a: 1}}\n{MERGES}{GOOD}", "there are more than 20000 values, with aliases expanded"),
    "what holds itself": (f"x: &x [*x]\n{GOOD}", "values are nested more than 32 deep"),
    "nesting": (f"x: {'[' * 5000}{']' * 5000}\n{GOOD}", "values are nested more than 32 deep"),
    "nesting of blocks": (GOOD + "x:\n" + "".join(f"{' ' * i}-\n" for i in range(1, 60)), "values are nested more than 32 deep"),
    "a text": (f"x: {'a' * 50000}\n{GOOD}", "found a text of 50000 characters, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'...; needed at most 4096"),
    "a path": (changed("backbone_weights: null", f"backbone_weights: {'a' * 10000}"), "found a text of 10000 characters"),
    "a file": (f"# {'a' * 200_000}\n{GOOD}", "is larger than 100000 bytes, too large for a model YAML"),
    "activation, deep": (f"activation: nn.ReLU({'-' * 4000}1)\n{GOOD}", "activation has to be like nn.ReLU(), found"),
    "activation, deep brackets": (f"activation: nn.ReLU({'(' * 1000}{')' * 1000})\n{GOOD}", "activation has to be like nn.ReLU(), found"),
    "activation, large": (f"activation: nn.Linear(1000000000, 16)\n{GOOD}", "cannot be used: the model needs more than 67,108,864 values in one tensor"),
}  # fmt: skip


@pytest.mark.parametrize("what", BEYOND)
def test_limits(what, tmp_path):
    text, said = BEYOND[what]
    found = refusal(tmp_path, text)
    assert said in found and len(found) < 1200


def test_limits_hold_for_dictionaries_too():
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    good = yaml_model_load("yolov8n-mnv3.yaml")
    deep = []
    deep.append(deep)
    wide = ["x"]
    for _ in range(30):
        wide = [wide, wide]
    for change, said in [
        ({"x": deep}, "values are nested more than 32 deep"),
        ({"x": wide}, "more than 20000 values"),
        ({"nc": 10**9}, "nc has to be at most 32768"),
        ({"x": 10**6000}, "found a number of more than 20 digits"),
    ]:
        with pytest.raises(ConfigError, match=said):
            DetectionModel({**good, **change}, verbose=False)
    with pytest.raises(ConfigError, match="ch has to be at most 256, found 100000"):
        DetectionModel(good, ch=100_000, verbose=False)


def test_values_in_errors_are_cut(tmp_path):
    """A list of 5000 numbers, a name of 3000 letters: 300 characters of each."""
    for text in (with_row(f"Conv, {[1] * 5000}"), with_row(f"{'A' * 3000}, []"), changed("nc: 80", f"nc: {[1] * 3000}"),
                 changed("backbone_weights: null", f"backbone_weights: {'a' * 3000}"), f"backbone_{'a' * 100}: 1\n{GOOD}",
                 changed(SCALE, f"n: {[1] * 3000}"), changed("[-1, 3, C2f, [512]]", f"[{[-1] * 3000}, 3, C2f, [512]]")):  # fmt: skip
        assert len(refusal(tmp_path, text)) < 1200


def test_what_is_large_and_fits(tmp_path):
    """The largest stock models with a key of ours are within the limits."""
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    from yolo_lite.ultralytics_hooks import checks, internals

    for name in ("yolov8x.yaml", "yolov8x-p6.yaml", "yolo12x.yaml", "yolo26x.yaml"):
        checks.check({**yaml_model_load(name), "backbone_weights": None}, internals.namespace())
    d = {**yaml_model_load("yolov8x.yaml"), "backbone_weights": None}
    assert sum(each.numel() for each in DetectionModel(d, verbose=False).parameters()) > 68e6


# What used to end in other errors --------------------------------------------------------------------------------------

OTHERS = {
    "a head in the middle": (changed(UPSAMPLE, "[[-1], 1, Detect, [nc]]"), "head row 6 [[-1], 1, Detect, [nc]]: Detect is a head; only the last row can be one"),
    "a head of ours in the middle": (changed(UPSAMPLE, "[[-1], 1, LightDetect, [nc]]"), "LightDetect is a head; only the last row can be one"),
    "a decoder in the middle": (changed(UPSAMPLE, "[[-1], 1, RTDETRDecoder, [nc]]"), "RTDETRDecoder is a head; only the last row can be one"),
    "no classes": (changed("Detect, [nc]", "Detect, [0]"), "head row 18 [[11, 14, 17], 1, Detect, [0]]: nc has to be a whole number above 0, found 0"),
    "a part of a class": (changed("Detect, [nc]", "Detect, [1.5]"), "nc has to be a whole number above 0, found 1.5"),
    "classes by name": (changed("Detect, [nc]", "Detect, [classes]"), "nc has to be a whole number above 0, found 'classes'"),
    "no class of images": (changed("[[11, 14, 17], 1, Detect, [nc]]", "[-1, 1, Classify, [0]]"), "nc has to be a whole number above 0, found 0"),
    "words": (changed("Detect, [nc]", "WorldDetect, [nc, 512, false]"), "WorldDetect takes text besides the image; choose another head"),
    "Concat without brackets": (changed("[[-1, 3], 1, Concat, [1]]", "[-1, 1, Concat, [1]]"), "row 7 [-1, 1, Concat, [1]]: Concat takes a list of inputs, found -1"),
    "Detect without brackets": (changed("[[11, 14, 17], 1, Detect", "[17, 1, Detect"), "row 18 [17, 1, Detect, [nc]]: Detect takes a list of inputs, found 17"),
    "Conv with brackets": (changed(UPSAMPLE, "[[-1, 3], 1, Conv, [64]]"), "Conv takes one input, its row's number without brackets, found [-1, 3]"),
    "no maps for the head": (changed("[[11, 14, 17], 1, Detect", "[[11, 18], 1, Detect").replace("  - [[11, 18]", "  - [17, 1, nn.Flatten, []]\n  - [[11, 18]"), "its inputs have to be feature maps, found (2, 64, 32, 32), (2, "),
    "several maps for one": (changed(UPSAMPLE, "[-1, 1, TorchVision, [512, resnet18, DEFAULT, true, 2, true]]"), "cannot take inputs of the shapes"),
    "one fixed image size": ("nc: 3\nbackbone: [[-1, 1, TimmBackbone, [mvitv2_tiny]], [0, 1, Level, [3]]]\nhead: [[[1], 1, Detect, [nc]]]\n", "timm's mvitv2_tiny takes images of 224 px only, but a detector's image size varies (index "),
    "another fixed image size": ("nc: 3\nbackbone: [[-1, 1, TimmBackbone, [maxvit_pico_rw_256]], [0, 1, Level, [3]]]\nhead: [[[1], 1, Detect, [nc]]]\n", "timm's maxvit_pico_rw_256 takes images of 256 px only, but a detector's image size varies ("),
    "a path too long": (changed("backbone_weights: null", f"backbone_weights: {'a' * 3000}"), "backbone_weights: there is no file 'aaa"),
    "a path of no user": (changed("backbone_weights: null", "backbone_weights: ~nobody_at_all/x.pth"), "backbone_weights: there is no file '~nobody_at_all/x.pth'"),
    "a path of strange characters": (changed("backbone_weights: null", 'backbone_weights: "a\\0b"'), "backbone_weights: there is no file 'a\\x00b'"),
    "a tag's own error": (f"x: !!timestamp foo\n{GOOD}", "cannot be read: 'NoneType' object has no attribute 'groupdict' (AttributeError)"),
    "another tag's": (f"x: !!bool foo\n{GOOD}", "cannot be read: 'foo' (KeyError)"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1: byte 0xff is not UTF-8; save the file as UTF-8"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "line 1: byte 0x00 is not text in UTF-8 (UTF-16?); save the file as UTF-8"),
    "UTF-16, the other way": (GOOD.encode("utf-16-be"), "line 1: byte 0x00 is not text in UTF-8"),
    "UTF-32": (GOOD.encode("utf-32"), "line 1: byte 0xff is not UTF-8"),
    "a byte 0": (GOOD.replace("nc: 80", "n\0c: 80").encode(), "byte 0x00 is not text in UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_other_errors_are_ours(what, tmp_path):
    import torch
    from ultralytics.nn.modules import Conv, Detect

    torch.manual_seed(0)
    before = (torch.get_rng_state(), Detect.legacy, Conv.default_act)
    text, said = OTHERS[what]
    assert said in refusal(tmp_path, text)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1:] == (Detect.legacy, Conv.default_act)


@pytest.mark.parametrize("name", ["yolov8n-mnv3.yaml", "x.yaml", "y.yml"])
def test_a_folder_is_no_model(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"{name}: is not a file; needed a model YAML"):
        YOLO(tmp_path / name)


def test_a_mark_of_utf_8_does_no_harm(tmp_path):
    path = tmp_path / "yolov8n-good.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert YOLO(path).model.yaml["nc"] == 80
