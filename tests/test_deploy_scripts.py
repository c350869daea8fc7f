"""Scripts: all can be imported; tests of those that write docs/exports.md, docs/latency.md and docs/quantisation.md."""

import csv

import numpy as np
import pytest
from conftest import ROOT

from yolo_lite import ConfigError
from yolo_lite.bench import parity, runtimes
from yolo_lite.bench.measurement import Measurement
from yolo_lite.files import rows_as_csv, write


def row(model, runtime, precision, ratio, low=None, high=None, control=False):
    interval = (low or ratio, high or ratio)
    return Measurement(model, runtime, 1, precision, 10.0, 12.0, ratio, *interval, 1000, 0.5, 10**6, control)


@pytest.mark.parametrize("name", sorted(path.stem for path in ROOT.glob("scripts/*/*.py")))
def test_scripts_can_be_imported(script, name):
    assert script(name).__doc__


# exports ----------------------------------------------------------------------------------------------------------


def test_deviation_is_relative_to_each_part():
    exact = np.concatenate([np.full((1, 4, 5), 100.0), np.full((1, 3, 5), 0.5)], 1)
    for part, error, expected in ((0, 1.6, 1.6 / 160), (4, 0.01, 0.01 / 0.5)):
        output = exact.copy()
        output[0, part, 2] += error
        assert parity.deviation([output], [np.zeros((1, 2, 3, 4)), exact], 160) == pytest.approx(expected)
    with pytest.raises(ValueError, match="an output of shape"):
        parity.deviation([exact[:, :2]], [exact], 160)


def test_a_crash_is_a_result_and_the_others_go_on(script, tmp_path, monkeypatch):
    export_parity = script("export_parity")
    fake = tmp_path / "fake.py"
    fake.write_text(
        "import json, os, sys\n"
        "for runtime in sys.argv[3:]:\n"
        "    if runtime == 'ncnn': os._exit(11)\n"
        "    print(json.dumps({'deviation': '1e-9', 'problem': '', 'versions': 'v', 'date': 'd'}), flush=True)\n"
    )
    monkeypatch.setattr(export_parity, "__file__", str(fake))
    stamp = {"deviation": "", "problem": "", "versions": "", "date": ""}
    monkeypatch.setattr(export_parity, "stamp", lambda runtime: stamp)
    rows = list(export_parity.in_processes("yolov8-x.yaml", ["onnxruntime", "ncnn", "torchscript"]))
    assert [(each["runtime"], each["deviation"]) for each in rows] == [
        ("onnxruntime", "1e-9"), ("ncnn", ""), ("torchscript", "1e-9"),
    ]  # fmt: skip
    assert rows[1]["problem"].startswith("the process ended with 11")


def test_exports_table(script, tmp_path, monkeypatch):
    export_parity = script("export_parity")
    (tmp_path / "docs").mkdir()
    (tmp_path / "cfg").mkdir()
    for name in ("yolov8-a.yaml", "yolov8-timm.yaml"):
        (tmp_path / "cfg" / name).write_text("")
    monkeypatch.setattr(export_parity, "ROOT", tmp_path)
    monkeypatch.setattr(
        export_parity, "missing", lambda name: [name] if name in ("litert", "mnn", "executorch") else []
    )
    asked = []
    found = {"another image": "1.5e+00", "float64": "3.0e-07", "onnxruntime": "2.9e-06", "openvino": "3.1e-06",
             "ncnn": "", "torchscript": "0.0e+00"}  # fmt: skip

    def processes(name, runtimes):
        asked.append((name, list(runtimes)))
        for runtime in runtimes:
            problem = "" if found[runtime] else "no such operator | x"
            yield {"config": name, "runtime": runtime, "deviation": found[runtime], "problem": problem, "versions": "v",
                   "date": "d"}  # fmt: skip

    monkeypatch.setattr(export_parity, "in_processes", processes)
    results = tmp_path / "results.csv"
    export_parity.main(results=results)
    export_parity.main(results=results)
    assert asked[0] == ("yolov8-a.yaml", ["another image", "float64", "onnxruntime", "openvino", "ncnn", "torchscript"])
    assert asked[1:] == [("yolov8-a.yaml", [])]  # nothing runs again
    (tmp_path / "cfg/yolov8-a.yaml").write_text("nc: 3  # another; a comment alone changes no export\n")
    found["float64"] = ""  # without a reference there is no verdict
    export_parity.main(results=results)
    page = (tmp_path / "docs/exports.md").read_text("utf-8")
    assert asked[-1] == asked[0] and "| `yolov8-a` | 1.50 | not run | **2.9e-06** |" in page
    found["float64"] = "3.0e-07"
    export_parity.main(results=results)
    assert asked[-1] == ("yolov8-a.yaml", ["float64"])
    line = "| `yolov8-a` | 1.50 | 3.0e-07 | 2.9e-06 | **3.1e-06** | fails: no such operator / x | 0.0e+00 |"
    assert line in (tmp_path / "docs/exports.md").read_text("utf-8").splitlines()


def test_the_shipped_table_holds_what_it_promises(script):
    """Every native family is in it, within the tolerance in every format, or the cause is named."""
    export_parity = script("export_parity")
    with (ROOT / "docs/exports.csv").open() as file:  # rows match the current configs
        assert [row for row in csv.DictReader(file) if row["digest"] != export_parity.digest(row["config"])] == []
    lines = (ROOT / "docs/exports.md").read_text("utf-8").splitlines()
    table = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    families = {path.stem for path in (ROOT / "cfg").glob("yolov8-*.yaml")} - {"yolov8-timm", "yolov8-mnv4-extradw"}
    presets = {path.stem for path in (ROOT / "cfg").glob("yolo26-lite*.yaml")}
    assert len(presets) == 5 and families | presets <= table.keys()
    for name in families | presets:
        other, rounding, *cells = [cell.strip() for cell in table[name].split("|")[2:-1]]
        assert float(other) > 1000 * float(rounding), "nothing would be noticed"
        assert len(cells) == len(runtimes.RUNTIMES)
        for (runtime, format_), cell in zip(export_parity.FORMATS.items(), cells, strict=True):
            if (f"{name}.yaml", runtime) in export_parity.CAUSES:
                assert cell.startswith("**") and f"- `{name}` in {format_}: `aten." in "\n".join(lines)
            else:
                assert float(cell) <= parity.TOLERANCE * float(rounding), name


# latency ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "pair"),
    [
        ("yolov8-mnv3-small.yaml", ("yolov8n-mnv3-small", "yolov8n")),
        ("yolov5-ghostnet.yaml", ("yolov5n-ghostnet", "yolov5n")),
        ("yolo26-lite-seg.yaml", ("yolo26n-lite-seg", "yolo26n-seg")),
    ],
)
def test_configs_have_bases(file, pair, script):
    assert script("bench_configs").pair(ROOT / file) == pair


def test_latency_goes_on_where_it_stopped(script, tmp_path, monkeypatch):
    configs = script("bench_configs")
    calls = []

    def measured(names, runtimes, *arguments, **options):
        calls.append((list(names), runtimes))
        if len(calls) == 2:
            raise KeyboardInterrupt
        base, *ours = names
        slower = 1.3 if runtimes == ["onnxruntime"] else 0.9
        rows = [row(base, *runtimes, "fp32", 1.0)]
        rows += [row(config, *runtimes, "fp32", slower, slower - 0.05, slower + 0.05) for config in ours]
        if runtimes == ["openvino"]:
            rows += [row(base, *runtimes, "bf16", 0.5), *(row(config, *runtimes, "bf16", 0.6) for config in ours)]
        return [*rows, row(base, *runtimes, "fp32", 0.99, control=True)]

    monkeypatch.setattr(configs, "measure", measured)
    monkeypatch.setattr(configs, "missing", lambda name: [])
    with pytest.raises(KeyboardInterrupt):
        configs.main("yolov8-mnv3*.yaml", out=tmp_path)
    configs.main("yolov8-mnv3*.yaml", out=tmp_path)
    models = ["yolov8n", "yolov8n-mnv3-small", "yolov8n-mnv3"]
    assert calls == [(models, ["onnxruntime"]), (models, ["openvino"]), (models, ["openvino"])]
    line = (
        "| `yolov8n-mnv3` | `yolov8n` | **1.30 (1.25 to 1.35)** | 0.99 | **1.20 (1.20 to 1.20)** "
        "| 0.90 (0.85 to 0.95) | 0.99 |"
    )
    text = (tmp_path / "latency.md").read_text("utf-8")
    assert "| config | base | onnxruntime fp32 | control | openvino bf16 | openvino fp32 | control |" in text
    assert line in text.splitlines()
    assert "| `yolov5n-mnv3` | `` | not measured |" in text  # the pattern selects what is measured, not what is shown
    with pytest.raises(SystemExit, match="is of imgsz=640, found 320; choose another out="):
        configs.main("yolov8-mnv3*.yaml", imgsz="320", out=tmp_path)


def test_the_lite_page_says_what_was_measured_and_promises_are_kept(script):
    lite = script("bench_lite")
    rows = lite.read()
    page = (ROOT / "docs/lite.md").read_text("utf-8")
    assert lite.with_table(page, rows) == page
    readme = (ROOT / "README.md").read_text("utf-8")
    assert lite.with_figures(readme, rows) == readme and "<!-- lite-s -->0." in readme
    found = list(lite.promises(rows))
    assert len(found) == 8 and all(each.kept for each in found)
    rows = [{**row, "ratio": "0.9"} if row["model"] == "yolo26s-lite" else row for row in rows]
    assert [each.kept for each in lite.promises(rows)] == [False] * 3 + [True, False, True, True, True]
    assert "**not met**" not in page and "| 0.90, **not met** |" in lite.with_table(page, rows)


# int8 -------------------------------------------------------------------------------------------------------------


def test_quantisation_table(script, tmp_path):
    quantise = script("quantise_bccd")
    measured = [row("a", "openvino", "fp32", 1.0), row("a", "openvino", "int8", 0.5), row("b", "openvino", "fp32", 0.4),
                row("b", "openvino", "int8", 0.6)]  # fmt: skip
    accuracies = {
        (model, runtime, precision): {"mAP50": "90.00", "mAP50-95": value}
        for model, runtime, precision, value in (
            ("a", "PyTorch", "fp32", "57.00"),
            ("a", "openvino", "fp32", "57.00"),
            ("a", "openvino", "int8", "56.40"),
            ("b", "PyTorch", "fp32", "54.00"),
            ("b", "openvino", "fp32", "54.00"),
            ("b", "openvino", "int8", "54.10"),
        )  # fmt: skip
    }
    for (model, runtime, precision), found in accuracies.items():
        found |= {"model": model, "runtime": runtime, "precision": precision, "data": "x/d.yaml", "split": "test"}
    measured.append(row("a", "openvino", "fp32", 1.1, control=True))  # is not the model's own
    rows = quantise.records(accuracies, measured, {"CPU": "x"}, 320, 640)
    write(tmp_path / "x.csv", rows_as_csv(quantise.FIELDS, rows))
    lines = quantise.markdown(quantise.read(tmp_path / "x.csv")).splitlines()
    assert "training run each on the `test` split of `d.yaml` at 320 px" in lines[2]
    assert "| a | PyTorch | fp32 | 90.00 | 57.00 |  |  |  |  |  |" in lines
    assert "| a | openvino | fp32 | 90.00 | 57.00 |  | 10.0 | 1.00 | 1.00 | 1.0 |" in lines
    assert "| a | openvino | int8 | 90.00 | 56.40 | -0.60 | 10.0 | 0.50 | 0.50 | 1.0 |" in lines
    assert "| b | openvino | int8 | 90.00 | 54.10 | +0.10 | 10.0 | 0.60 | 1.50 | 1.0 |" in lines
    assert lines[-3:] == ["- b in openvino: int8 is slower than fp32 on this CPU.", "", "Measured with CPU: x."]


def test_the_quantisation_page_says_what_was_measured_and_the_promise_is_kept(script):
    quantise = script("quantise_bccd")
    rows = quantise.read()
    assert quantise.markdown(rows) == (ROOT / "docs/quantisation.md").read_text("utf-8")
    int8 = {(row["model"], row["runtime"]): row for row in rows if row["precision"] == "int8"}
    assert {model for model, _ in int8} == {"yolov8n", "yolo26s-lite"}
    assert float(int8["yolo26s-lite", "openvino"]["own"]) <= 1 / 1.6


def test_accuracy_in_openvino_is_of_fp32(script, tmp_path):
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as op

    image = op.parameter([1, 3, 8, 8], np.float32)
    weights = op.constant(np.ones((4, 3, 3, 3), np.float32))
    model = openvino.Model([op.convolution(image, weights, [1, 1], [0, 0], [0, 0], [1, 1])], [image])
    as_it_is = openvino.Core.compile_model
    with script("quantise_bccd").openvino_in_fp32():
        compiled = openvino.Core().compile_model(model, device_name="CPU", config={"PERFORMANCE_HINT": "LATENCY"})
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert openvino.Core.compile_model is as_it_is


def test_accuracies_are_kept(script, tmp_path, monkeypatch):
    quantise = script("quantise_bccd")
    monkeypatch.setattr(quantise.zoo, "load", lambda path, imgsz, name: name)
    monkeypatch.setattr(
        quantise, "export", lambda model, runtime, folder, imgsz, data: folder / f"{runtime}{bool(data)}"
    )
    done = []

    def validate(path, *arguments):
        done.append(path.name)
        if len(done) == 3:
            raise KeyboardInterrupt
        return {"mAP50": "1.00", "mAP50-95": "2.00"}

    monkeypatch.setattr(quantise, "validate", validate)
    (tmp_path / "a.pt").write_bytes(b"weights")
    arguments = ({"a": str(tmp_path / "a.pt")}, "data.yaml", 320, "test", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        quantise.accuracy(*arguments)
    assert len(quantise.accuracy(*arguments)) == 5
    names = ["a.pt", "onnxruntimeFalse", "onnxruntimeTrue", "openvinoFalse", "openvinoTrue"]
    assert done == [*names[:3], *names[2:]]
    assert len(list(csv.DictReader((tmp_path / "accuracy.csv").open()))) == 5
    other = quantise.accuracy(*arguments[:2], 640, *arguments[3:])
    assert len(done) == 11 and {row["imgsz"] for row in other.values()} == {"640"}
    (tmp_path / "a.pt").write_bytes(b"trained again")
    quantise.accuracy(*arguments)
    assert len(done) == 16
    with pytest.raises(ConfigError, match="needs a name for each of 2 weights"):
        quantise.main("data.yaml", "x/best.pt,y/best.pt")
