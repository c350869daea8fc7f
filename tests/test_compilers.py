"""`yolo-lite info MODEL device=`: the verdict of a device's compiler, read from the compiler's own files."""

import csv
import importlib.util
import re
import textwrap

import pytest

from yolo_lite import ConfigError
from yolo_lite.bench import compilers
from yolo_lite.commands import main

LAYERS = [  # as written by ethos-u-vela 5.2.0: operator, operator it is compiled to, target, cycles
    ("Quantize", "Passthrough", "CPU", 0.0),
    ("Conv2D", "Conv2D", "NPU", 600.0),
    ("Conv2D", "Relu", "NPU", 150.0),
    ("Mul", "Mul", "NPU", 250.0),
    ("Dequantize", "Passthrough", "CPU", 0.0),
]
SUMMARY = {
    "core_clock": 500e6, "memory_mode": "Shared_Sram", "inference_time": 0.0244,
    "sram_memory_used": 2308.4, "dram_memory_used": 0.0,
}  # fmt: skip


@pytest.fixture
def vela(tmp_path, monkeypatch):
    """Install a fake of Arm's package; return the path of the file that records its command-line arguments."""
    package = tmp_path / "site" / "ethosu" / "vela"
    package.mkdir(parents=True)
    info = tmp_path / "site" / "ethos_u_vela-5.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: ethos-u-vela\nVersion: 5.2.0\n")
    for name, rows in (("layers", LAYERS), ("summary", [SUMMARY.values()])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            header = ("Original Operator", "NNG Operator", "Target", "Op Cycles") if name == "layers" else SUMMARY
            csv.writer(file).writerows([header, *rows])
    code = f"""
        import pathlib, shutil, sys
        here, out = pathlib.Path({str(tmp_path)!r}), pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
        (here / "called").write_text(" ".join(sys.argv[1:]))
        if b"broken" in pathlib.Path(sys.argv[1]).read_bytes():
            sys.exit("Error: Invalid tflite file.")
        out.mkdir()
        shutil.copy(here / "layers.csv", out / "model_per-layer.csv")
        shutil.copy(here / "summary.csv", out / "model_summary_Ethos_U55.csv")
    """
    (package / "__main__.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    monkeypatch.chdir(tmp_path)
    for name in ("model", "broken"):
        (tmp_path / f"{name}.tflite").write_text(name)
    return tmp_path / "called"


def test_the_verdict_is_the_compilers(vela, capsys):
    assert main(["info", "model.tflite", "device=ethos-u"]) == 0
    said = capsys.readouterr().out
    lines = said[said.index("model.tflite") :].splitlines()  # Ultralytics may print the path of its settings first
    assert lines[0] == "model.tflite, by ethos-u-vela 5.2.0 for ethos-u55-256 at 500 MHz, Shared_Sram"
    table = [line.split("  ") for line in lines[2:7]]
    assert [[word.strip() for word in row if word.strip()] for row in table] == [
        ["operator", "on the NPU", "on the CPU", "cycles", "share"],
        ["Conv2D", "2", "0", "750", "75.0 %"],
        ["Mul", "1", "0", "250", "25.0 %"],
        ["Dequantize", "0", "1", "0", "0.0 %"],
        ["Quantize", "0", "1", "0", "0.0 %"],
    ]
    assert lines[8:] == [
        "estimate    24.4 ms per image for what runs on the NPU, by the compiler",
        "memory      SRAM 2,308 KiB",
        "on the CPU  Dequantize, Quantize",
    ]
    assert max(map(len, lines)) <= 100
    assert "model.tflite --accelerator-config ethos-u55-256 " in vela.read_text()


RKNN = """
import pathlib, sys
class RKNN:
    def __init__(self, verbose): assert verbose
    def config(self, **given): self.given = given
    def load_onnx(self, model): self.model = pathlib.Path(model).read_text()
    def build(self, do_quantization, dataset):
        if self.model == "broken":
            print("ValueError: Traceback (most recent call last):\\nDecodeError: Error parsing message")
            return -1
        images = pathlib.Path(dataset).read_text().splitlines()
        assert do_quantization and len(images) == 16 and all(pathlib.Path(each).is_file() for each in images)
        assert self.given["std_values"] == [[255, 255, 255]]
        print(LOG)
LOG = '''
D RKNN: [13:40:51.206] ID   OpType      DataType Target InputShape  OutputShape   Cycles(DDR/NPU/Total) RW(KB) FullName
D RKNN: [13:40:51.206] 0    InputOp     INT8     CPU    .          (1,3,64,64)   0/0/0                 0      images
D RKNN: [13:40:51.206] 1    ConvRelu    INT8     NPU    (1,3,64,64) (1,32,32,32)  9/300/300             604    a
D RKNN: [13:40:51.206] 2    ConvRelu    INT8     NPU    (1,3,64,64) (1,32,32,32)  700/30/700            604    b
D RKNN: [13:40:52.268] Total Internal Memory Size: 3093.81KB
'''
"""


@pytest.fixture
def rknn(tmp_path, monkeypatch):
    """Install a fake of Rockchip's package, with a log like that of rknn-toolkit2 2.3.2."""
    package = tmp_path / "site" / "rknn"
    package.mkdir(parents=True)
    (package / "api.py").write_text(RKNN)
    info = tmp_path / "site" / "rknn_toolkit2-2.3.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: rknn-toolkit2\nVersion: 2.3.2\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    monkeypatch.chdir(tmp_path)
    for name in ("model", "broken"):
        (tmp_path / f"{name}.onnx").write_text(name)


def test_a_compiler_whose_log_is_read(rknn, tiny_data, capsys):
    found = compilers.verdict("model.onnx", "rk3566", data=tiny_data)
    assert (found.compiler, found.target, found.milliseconds) == ("rknn-toolkit2 2.3.2", "rk3566", None)
    assert found.operators == [("InputOp", False, 0), ("ConvRelu", True, 300), ("ConvRelu", True, 700)]
    assert found.cycles() == found.cycles("ConvRelu") == 1000 and found.memory == {"internal": 3093.81}
    with pytest.raises(
        ConfigError, match="broken.onnx cannot be compiled for rk3588; .* says: DecodeError: Error pars"
    ):
        compilers.verdict("broken.onnx", "rknn", data=tiny_data)
    assert main(["info", "model.onnx", "device=rknn", f"data={tiny_data}"]) == 0
    said = capsys.readouterr().out
    assert "memory      internal 3,094 KiB\non the CPU  InputOp\n" in said and "estimate" not in said


def test_each_device_has_a_compiler(vela, monkeypatch):
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: name in ("ethosu", "rknn") or None)
    for family, compiler in compilers.COMPILERS.items():
        assert compilers.compiler_of(family) == (compiler, compiler.devices[0])
        for device in compiler.devices:
            assert compilers.compiler_of(device) == (compiler, device)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.tflite", "device=ethos-v"], "device=ethos-v: no compiler for it is supported; did you mean 'ethos-u'?"),
        (["none.tflite", "device=ethos-u"], "there is no file none.tflite"),
        (["ghostnet_100", "device=ethos-u"], "device=ethos-u needs a model like .*best.pt, found ghostnet_100"),
        (["broken.tflite", "device=ethos-u"], "broken.tflite cannot be compiled for ethos-u55-256; the compiler says: "
         "Error: Invalid tflite file."),
        (["yolov8n.yaml", "device=ethos-u", "imgsz=33"], "imgsz has to be a multiple of 32, found 33"),
    ],
)  # fmt: skip
def test_refused(words, message, vela, capsys):
    assert main(["info", *words]) == 1
    assert re.fullmatch(f"yolo-lite: {message}.*\n", capsys.readouterr().err)


def test_a_compiler_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="^device=ethos-u85-256 needs ethos-u-vela: pip install ethos-u-vela$"):
        compilers.verdict("yolov8n.yaml", "ethos-u85-256")
    with pytest.raises(ConfigError, match="^device=rk3566 needs rknn-toolkit2: pip install 'rknn-toolkit2<2.5' "):
        compilers.verdict("yolov8n.yaml", "rk3566")


@pytest.mark.slow
def test_arms_compiler_takes_a_shipped_config(tmp_path):
    for package in ("ethosu", "litert_torch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    found = compilers.verdict("yolov8n-mnv4.yaml", "ethos-u", 64, out=tmp_path)
    on_npu = [each for each in found.operators if each.on_npu]
    assert {each.name for each in found.operators if not each.on_npu} == {"Quantize", "Dequantize"}
    assert {"Conv2D", "DepthwiseConv2D"} <= {each.name for each in on_npu} and all(each.cycles for each in on_npu)
    assert found.milliseconds > 0 and [file.suffix for file in tmp_path.iterdir()] == [".tflite"]
