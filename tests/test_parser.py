"""yolo_lite rows in Ultralytics' own parser: channels, repeats, scaling, several inputs, registration by users."""

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


class ToyDetect(nn.Module):
    """A head that is no subclass of Ultralytics'."""

    def __init__(self, nc, ch):
        super().__init__()
        self.conv = nn.Conv2d(ch[0], nc, 1)

    def forward(self, xs):
        return self.conv(xs[0])


@pytest.fixture(autouse=True)
def toys():
    """Register the toy modules for one test."""
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
    assert (wide.c1, wide.c2) == (64, 512)  # limited by max_channels


def test_repeats_stack_and_chain_the_channels():
    layer = build([[-1, 6, "ToyConv", [128]]]).model[3]
    assert [(each.c1, each.c2) for each in layer] == [(16, 32), (32, 32)]  # 6 x 0.33, rounded


def test_repeats_as_an_argument():
    layer = build([[-1, 6, "ToyRepeated", [128, True]]]).model[3]
    assert (layer.n, layer.shortcut) == (2, True)


def test_several_inputs():
    model = build([[-1, 1, "ToyConv", [128]], [[-1, 2], 1, "ToySum", [64]]])
    assert model.model[4].c1 == [32, 16]
    assert model.save == [2, 4]  # row 2 is saved for the sum, row 4 for the head


def test_strings_reach_the_class_as_written():
    """Ultralytics would replace `n` and `width` by its local variables, and fail to parse `2x` and `hf-hub:a/b`."""
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


def test_layer_attributes_are_set():
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
    assert yolo_lite.register(ToyConv) is ToyConv  # registering the same class again is allowed


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (int, {}, r"register: found <class 'int'>; needed a subclass of torch.nn.Module"),
        (ToyConv(3, 8), {}, r"register: found ToyConv\("),
        ("ToyConv", {}, r"register: found 'ToyConv'; needed a subclass"),
        (ToyConv, {"repeats": "often"}, r'ToyConv: repeats has to be "stack", "argument" or "once", found \'often\''),
        (ToyConv, {"rule": 3}, "ToyConv: rule has to be callable, found 3"),
        (ToyConv, {"inputs": 0}, "ToyConv: inputs has to be None or a whole number from 1, found 0"),
        (ToyConv, {"inputs": True}, "ToyConv: inputs has to be None or a whole number from 1, found True"),
    ],
)
def test_what_cannot_be_registered_is_refused(cls, options, message):
    before = dict(registry._specs)
    with pytest.raises(ConfigError, match=message):
        yolo_lite.register(cls, **options)
    assert registry._specs == before


def in_a_function():
    class Local(nn.Module):
        pass

    return Local


def of_main():
    return type("Loose", (nn.Module,), {"__module__": "__main__"})


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (of_main(), {}, r"register, Loose: is defined in the script that was started .* move it to the top level"),
        (
            in_a_function(),
            {},
            r"in_a_function.<locals>.Local: is defined in a function, where no checkpoint can find it",
        ),
        (3, {}, r"register: found 3; needed a subclass of torch.nn.Module"),
        (None, {"name": 3}, r"name has to be one word of letters, digits and _, found 3"),
        (ToyConv, {"name": "nn.Conv"}, r"name has to be one word of letters, digits and _, found 'nn.Conv'"),
        (ToyConv, {"name": "a b"}, r"name has to be one word .*, found 'a b'"),
        (ToyConv, {"name": "isinstance"}, r"isinstance is a name of Ultralytics' own or of Python's"),
    ],
)  # fmt: skip
def test_what_no_checkpoint_or_yaml_could_name_is_refused(cls, options, message):
    before = dict(registry._specs)
    with pytest.raises(ConfigError, match=message):
        yolo_lite.register(**options)(ToyConv) if cls is None else yolo_lite.register(cls, **options)
    assert registry._specs == before


def test_a_head_of_ones_own():
    """It is no subclass of Ultralytics' heads, so it says that it is one; without, the row is refused."""

    d = config([])
    d["head"][-1][2] = "ToyDetect"
    options = {"rule": lambda c1, scale, nc: ([nc, c1], 0), "inputs": None, "repeats": "once"}
    yolo_lite.register(ToyDetect, **options)
    with pytest.raises(ConfigError, match="head row 3 .*: the last row has to be the model's head, like Detect"):
        DetectionModel(d, verbose=False)
    yolo_lite.register(ToyDetect, **options, head=True)
    assert DetectionModel(d, verbose=False).model[-1](torch.zeros(1, 3, 64, 64).new_zeros(1, 1, 16, 8, 8)).shape[1] == 4


def test_a_model_is_checked_once_a_build(monkeypatch):
    from yolo_lite.ultralytics_hooks import checks

    calls = []
    scaling = checks.scaling
    monkeypatch.setattr(checks, "scaling", lambda d: calls.append(d) or scaling(d))
    build([[-1, 1, "ToyConv", [72]]])  # with a dry run
    assert len(calls) == 1
    build([[-1, 1, "ToyConv", [72]]])
    assert len(calls) == 2


def test_threads_that_build_a_model_at_once(tmp_path):
    """Modules are found once, and every thread has all of them."""
    code = """
        import threading
        from ultralytics.nn.tasks import DetectionModel
        from yolo_lite import discovery
        barrier, sizes, found = threading.Barrier(6), [], []
        def build():
            barrier.wait()
            found.append(len(discovery.specs()))
            model = DetectionModel("yolov8n-mnv3.yaml", verbose=False)
            sizes.append(sum(each.numel() for each in model.parameters()))
        threads = [threading.Thread(target=build) for _ in range(6)]
        [each.start() for each in threads]
        [each.join() for each in threads]
        print(len(sizes), len(set(sizes)), len(set(found)), found[0] > 20)
    """
    assert python(textwrap.dedent(code), tmp_path).stdout.splitlines()[-1] == "6 1 1 True"


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


def test_a_broken_entry_point_is_a_warning_and_our_models_go_on(tmp_path):
    for name, text in (("gone", "toy = toy_plugin_gone"), ("broken", "toy = toy_broken")):
        info = tmp_path / f"toy_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[yolo_lite.modules]\n{text}\n")
    (tmp_path / "toy_broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    code = f"""
        import sys, warnings; sys.path.insert(0, {str(tmp_path)!r})
        from ultralytics import YOLO
        from yolo_lite import discovery
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(2):
                YOLO("yolov8n-mnv3.yaml")
        for each in said:
            print("WARNING", each.message) if "yolo_lite" in str(each.message) else None
        print("FAILURES", sorted(discovery.failures().items()))
    """
    lines = python(textwrap.dedent(code), tmp_path).stdout.splitlines()
    warned = sorted(line for line in lines if line.startswith("WARNING"))
    broken = "toy = toy_broken of the package toy-broken"
    gone = "toy = toy_plugin_gone of the package toy-gone"
    why = {broken: "RuntimeError: two lines", gone: "ModuleNotFoundError: No module named 'toy_plugin_gone'"}
    assert warned == [f"WARNING yolo_lite: the entry point {each} failed: {why[each]}" for each in (broken, gone)]
    assert lines[-1] == f"FAILURES {sorted(why.items())}"


def yaml_text(d):
    import yaml

    return yaml.safe_dump({k: v for k, v in d.items() if k != "scale"})


@pytest.mark.parametrize("channels", [1, 4])
def test_image_channels(channels):
    model = DetectionModel("yolov8n-mnv3.yaml", ch=channels, verbose=False).eval()
    assert model.model[0][0].conv.in_channels == channels
    with torch.no_grad():
        predictions = model(torch.zeros(1, channels, 64, 64))[0]
    assert predictions.shape == (1, 4 + 80, 8 * 8 + 4 * 4 + 2 * 2)  # boxes and classes at the three levels
    with pytest.raises(RuntimeError, match="channels"):
        model(torch.zeros(1, 3, 64, 64))


def test_traceback_shows_the_patched_parser():
    """The compiled parser has a name and its source in linecache, so a traceback points at a readable line."""
    import linecache

    from ultralytics.nn import tasks

    from yolo_lite.ultralytics_hooks import parser

    parser.patch(tasks.parse_model.__wrapped__)
    source = "".join(linecache.getlines(parser.PATCHED))
    assert "args.resolve(ch, f, n, legacy)" in source and "def parse_model(d, ch, verbose=True):" in source


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("(d, ch, verbose=True)", "(d, ch, loud=True)", r"its signature is not \(d, ch, verbose\)"),
        ('enumerate(d["backbone"] + d["head"])', "enumerate(rows)", "its loop over the rows has changed"),
        ("for i, (f, n, m, args) in", "for i, (f, m, n, args) in", "its loop over the rows has changed"),
        ("globals()[m]", "find(m)", "its loop over the rows has changed"),
        ("    legacy = True", "    older = True", "its switch for older heads is missing"),
        ("c2 = ch[f]\n", "c2 = ch[f] or 1\n", "its chain of rules was not found"),
    ],
)
def test_every_landmark_is_looked_for(old, new, reason, tmp_path):
    """A release in whose parser one of them is another is refused, in a sentence that says which."""
    import importlib.util
    import inspect

    from ultralytics.nn import tasks

    from yolo_lite.ultralytics_hooks import parser

    source = inspect.getsource(tasks.parse_model.__wrapped__)
    assert old in source
    file = tmp_path / "changed.py"
    file.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location("changed", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(ConfigError, match=rf"cannot be patched \({reason}\).*install one of those"):
        parser.patch(module.parse_model)


def test_dry_run_uses_no_random_numbers():
    d = yaml_model_load("yolov8n-mnv3.yaml")
    torch.manual_seed(0)
    first = DetectionModel({**d, "nc": 3}, verbose=False).state_dict()  # a new dictionary, with a dry run
    torch.manual_seed(0)
    again = DetectionModel({**d, "nc": 3}, verbose=False).state_dict()  # a known one, without
    assert all(torch.equal(first[k], again[k]) for k in first)
