"""`yolo-lite bench`: its measurements, its statistics, and the files left behind after errors and interrupts."""

import copy
import csv
import errno
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, run

from yolo_lite import models as zoo
from yolo_lite.bench import export, interleaved, measure, parity, plot, process, report, runtimes, timing
from yolo_lite.bench import run as bench
from yolo_lite.bench.measurement import BUSY, Measurement, median_interval
from yolo_lite.cost import cost
from yolo_lite.errors import ConfigError

COMMAND = [sys.executable, "-c", "import sys; from yolo_lite.commands import main; sys.exit(main())", "bench"]


def test_measures_what_it_says(tmp_path):
    models = {"large": "yolov8n", "small": "yolo26n.yaml"}
    heard = []
    first = measure(
        models, threads=(1, 2), imgsz=32, seconds=0.01, folder=tmp_path, keep=lambda m: heard.append(len(m))
    )
    assert [(row.model, row.control, row.threads) for row in first] == [
        (model, control, threads)
        for threads in (1, 2)
        for model, control in (("large", False), ("small", False), ("large", True))
    ]
    assert {(row.runtime, row.precision) for row in first} == {("onnxruntime", "fp32")} and heard == [3, 6]
    for row in first:
        assert 0 < row.p50 <= row.p90 and 0 < row.low <= row.ratio <= row.high
        assert (row.ratio == 1) == (row.model == "large" and not row.control)
    from ultralytics import YOLO

    assert (first[1].parameters, first[1].gflops) == cost(YOLO("yolo26n.yaml").model, 32)
    (file,) = tmp_path.glob("yolo26n-32-*.onnx")
    assert first[1].size == file.stat().st_size
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = measure([file, "yolov8n"], imgsz=32, seconds=0.01, folder=tmp_path)
    assert [(row.precision, row.parameters) for row in again[::2]] == [("as exported", None)] * 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before  # nothing is exported again
    with pytest.raises(ConfigError, match=r"takes images of \[32, 32\], but imgsz is 64"):
        measure([file], imgsz=64, folder=tmp_path)


@pytest.mark.parametrize(("n", "ranks"), [(6, (1, 6)), (20, (6, 15)), (25, (8, 18)), (100, (40, 61))])
def test_interval_of_a_median(n, ranks):
    """The ranks are those of the usual tables for 95 %."""
    values = list(range(1, n + 1))
    random.Random(0).shuffle(values)
    assert median_interval(values) == ranks


def test_interval_covers():
    draw = random.Random(0)
    intervals = [median_interval([draw.random() ** 3 for _ in range(30)]) for _ in range(4000)]
    assert 0.945 <= sum(low <= 1 / 8 <= high for low, high in intervals) / 4000 <= 0.97  # exact coverage: 0.957


def test_rounds_are_interleaved_and_warm_up_is_not_counted(monkeypatch, capsys):
    ran = []

    def opened(path, threads, precision):
        return lambda x: ran.append(path.name), [1, 3, 32, 32]

    fake = {"fake": replace(runtimes.RUNTIMES["onnxruntime"], open=opened)}
    monkeypatch.setattr(timing, "RUNTIMES", fake)
    models = [[name, "fp32", 32] for name in "abc"]
    timing.main({"runtime": "fake", "threads": 1, "seconds": 1e-9, "models": models})
    rounds = ["".join(ran[i : i + 3]) for i in range(0, len(ran), 3)]
    assert all(sorted(each) == list("abc") for each in rounds) and len(set(rounds)) > 1
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len([each for each in answers if "times" in each]) == len(rounds) - timing.WARM_UP


def test_ratios_are_those_within_a_round(tmp_path):
    """A machine that gets slower all the time: medians of single models would say nothing."""
    rounds = [[100.0 * k, 80.0 * k, 100.0 * k] for k in range(1, 41)]
    (tmp_path / "x").write_bytes(b"12345")
    entries = [process.Entry(export.Exported(name, tmp_path / "x"), "fp32", tmp_path / "x", 32) for name in "abc"]
    rows = interleaved.summarised(process.Conditions("onnxruntime", 1), entries, rounds)
    assert [(row.ratio, row.low, row.high) for row in rows] == [pytest.approx((each,) * 3) for each in (1, 0.8, 1)]
    assert (rows[0].p50, rows[0].size) == (2050, 5)


def opened(label):
    """A model that nobody reads."""
    return zoo.Opened(label, f"{label}.yaml", label, "digest", 1000, 0.5, 10, yolo=SimpleNamespace(names=["one"]))


def broken(folder):
    (folder / "bad_ncnn_model").mkdir()
    for name in ("bad.pt", "bad.onnx"):
        (folder / name).write_bytes(b"this is none")
    return folder


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["yolov8n"], {"runtimes": ["onnxruntim"]}, "unknown runtime 'onnxruntim'; did you mean 'onnxruntime'?"),
        (["yolov8n"], {"runtimes": []}, "there are no runtimes to measure"),
        ([], {}, "there are no models to measure"),
        (["yolov8n", "yolov8n.yaml"], {}, "models: 'yolov8n.yaml' is named twice"),
        (["yolov8n", "yolov8n-mnv33"], {}, "there is no model 'yolov8n-mnv33'; did you mean 'yolov8n-mnv3.yaml'?"),
        (["yolov8n", "yolov8n.pt"], {}, "there is no file yolov8n.pt; without .pt, yolov8n is built with random"),
        (["yolov8n", "{}/bad.pt"], {}, "{}/bad.pt cannot be read as a model: "),
        (["yolov8n", "{}/bad.onnx"], {}, "onnxruntime cannot run {}/bad.onnx: "),
        (["yolov8n", "{}/no.onnx"], {}, "there is no file {}/no.onnx"),
        (
            ["yolov8n", "{}/bad_ncnn_model"],
            {"runtimes": ["onnxruntime"]},
            "{}/bad_ncnn_model does not run in onnxruntime",
        ),
        (["yolov8n", "{}/bad.onnx"], {"runtimes": ["torchscript"]}, "{}/bad.onnx does not run in torchscript, but in "),
        (["yolov8n"], {"imgsz": 100}, "imgsz has to be a multiple of 32, found 100; the nearest is 96"),
        (["yolov8n"], {"threads": [0]}, "threads has to be a whole number above 0, found 0"),
        (["yolov8n"], {"seconds": "soon"}, "seconds has to be a finite number above 0, found 'soon'"),
        (["yolov8n"], {"data": "{}/none.yaml"}, "data={}/none.yaml cannot be read as a dataset: "),
    ],
)
def test_refused_before_anything_is_exported(models, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken(tmp_path)
    fill = lambda text: text.replace("{}", str(tmp_path)) if isinstance(text, str) else text  # noqa: E731
    options = {key: fill(value) for key, value in options.items()}
    with pytest.raises(ConfigError) as refusal:
        measure([fill(name) for name in models], folder=tmp_path / "exports", **options)
    assert str(refusal.value).startswith(fill(message)) and "\n" not in str(refusal.value)
    assert not (tmp_path / "exports").exists()


def test_missing_packages_are_named(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    absent = ("pnnx", "nncf", "MNN")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else found(name))
    with pytest.raises(ConfigError, match=r"^the runtime ncnn needs .*pnnx==.*: pip install .*pnnx=="):
        measure(["yolov8n"], ["ncnn"], folder=tmp_path / "exports")
    with pytest.raises(ConfigError, match="needs MNN.*: pip install MNN.*, in an environment of its own$"):
        measure(["yolov8n"], ["mnn"], folder=tmp_path / "exports")
    assert runtimes.missing("openvino", int8=True)[-1] == "nncf"
    assert not (tmp_path / "exports").exists()


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    from ultralytics import YOLO

    model = export.load("m", "yolov8n", 32)
    exported = YOLO.export

    def interrupted(self, **options):
        made = Path(exported(self, **options))
        made.write_bytes(made.read_bytes()[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(YOLO, "export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export(model, "onnxruntime", tmp_path, 32)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(YOLO, "export", exported)
    made = export.export(model, "onnxruntime", tmp_path, 32)
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.slow  # an interrupt within the process is tested above, and leftovers of a killed export below
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_export_is_absent_and_made_the_next_time(tmp_path):
    words = ["models=yolov8n", "runtimes=onnxruntime", "imgsz=32", "seconds=0.01"]
    command = [*COMMAND, *words, f"out={tmp_path / 'out'}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    exports, patience = tmp_path / "out" / "exports", time.monotonic() + 300
    while not list(exports.glob(".export_*/*")):
        assert process.poll() is None and time.monotonic() < patience
        time.sleep(0.001)
    process.kill()
    process.wait()
    (draft,) = exports.iterdir()
    assert draft.name.startswith(".export_")
    run(*command, cwd=tmp_path)
    made, _ = sorted(exports.iterdir(), reverse=True)
    import onnx

    onnx.checker.check_model(made)
    assert (tmp_path / "out" / "bench.csv").exists()


def test_what_killed_exports_left_is_thrown_away_in_time(tmp_path):
    for name, age in {"old": 2, "young": 0.5}.items():
        (tmp_path / f".export_{name}").mkdir()
        (tmp_path / f".export_{name}" / "half.onnx").write_bytes(b"half")
        os.utime(tmp_path / f".export_{name}", (time.time() - age * export.STALE,) * 2)
    made = export.export(export.load("m", "yolov8n", 32), "onnxruntime", tmp_path, 32)
    assert set(tmp_path.iterdir()) == {made, tmp_path / ".export_young"}


def test_an_export_of_many_images_is_refused(tmp_path):
    many = export.export(export.load("m", "yolov8n", 32), "onnxruntime", tmp_path, 32, batch=4)
    with pytest.raises(ConfigError, match=r"takes 4 images per batch; export it with batch=1$"):
        measure({"a": "yolov8n", "many": many}, ["onnxruntime"], imgsz=32, folder=tmp_path / "exports")
    assert not (tmp_path / "exports").exists()


def test_an_argument_that_a_network_does_not_print_is_another_export(tmp_path):
    stock = export.load("m", "yolov8n", 32).yolo.model.yaml
    rows = [[*row[:3], [*row[3][:1], False]] if row[2] == "C2f" else row for row in stock["backbone"]]
    changed = {key: stock[key] for key in ("nc", "scales", "head")} | {"backbone": rows}
    (tmp_path / "yolov8n-other.yaml").write_text(json.dumps(changed))
    models = [export.load("m", name, 32) for name in ("yolov8n", tmp_path / "yolov8n-other.yaml")]
    assert len({repr(model.yolo.model) for model in models}) == 1
    assert len({export._key(model) for model in models}) == 2


def test_calibration_reads_images_as_training_does(tiny_data, tmp_path):
    import numpy as np
    import yaml

    from yolo_lite.datasets.images import training_files, training_images

    d = yaml.safe_load(Path(tiny_data).read_text())
    whole = training_files(tiny_data)
    (tmp_path / "torn.jpg").write_bytes(b"no image")
    lines = [str(whole[0]), str(whole[1]), "./torn.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(lines), "utf-8-sig")
    d |= {"path": str(Path(whole[0]).parents[2]), "train": str(tmp_path / "list.txt")}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(d))
    found = list(training_images(tmp_path / "data.yaml", 64, 128))
    assert [image.shape for image in found] == [(1, 3, 64, 64)] * 2 and not np.array_equal(*found)
    (tmp_path / "list.txt").write_text("./torn.jpg")
    with pytest.raises(ConfigError, match="none of its 1 training images can be read"):
        next(training_images(tmp_path / "data.yaml", 64, 128))
    for train, message in (("nowhere", "its training split .*nowhere does not exist"), (None, "no images in its ")):
        (tmp_path / "data.yaml").write_text(yaml.safe_dump({**d, "train": train}))
        with pytest.raises(ConfigError, match=f"^data=.*data.yaml: {message}"):
            measure(["yolov8n"], data=str(tmp_path / "data.yaml"), folder=tmp_path / "exports")
    assert not (tmp_path / "exports").exists()


def test_reading_a_model_installs_nothing(monkeypatch):
    import ultralytics

    def read(path):
        raise RuntimeError(f"checks skipped: {os.environ.get('ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS')}")

    monkeypatch.setattr(ultralytics, "YOLO", read)
    for before in (None, "0"):
        if before:
            monkeypatch.setenv("ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS", before)
        with pytest.raises(ConfigError, match="checks skipped: 1 "):
            export.load("m", "yolov8n", 32)
        assert os.environ.get("ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS") == before


def test_sizes_include_weights(tmp_path):
    (tmp_path / "m.xml").write_bytes(b"12")
    (tmp_path / "m.bin").write_bytes(b"345")
    (tmp_path / "other.onnx").write_bytes(b"6789")
    sizes = [export.size_of(path) for path in (tmp_path / "m.xml", tmp_path / "other.onnx", tmp_path)]
    assert sizes == [5, 4, 9]


def test_a_folder_that_cannot_be_written_is_one_sentence(monkeypatch, capsys, tmp_path):
    from yolo_lite.commands import main

    def full(*arguments):
        raise OSError(28, "No space left on device", "exports/x")

    monkeypatch.setattr(interleaved, "export", full)
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "models=yolov8n", "runtimes=onnxruntime", "imgsz=32", "out=there"]) == 1
    said = capsys.readouterr().err
    advice = "free some space, and run the same command again to continue"
    assert said == f"yolo-lite: exports/x: No space left on device; {advice}\n"


@pytest.mark.slow  # similar to a test above of an argument that distinguishes exports
def test_another_model_is_another_export(tmp_path):
    paths = set()
    for name in ("yolov8n.yaml", "yolov8n-mnv3.yaml"):
        model = replace(export.load(name, name, 32), source="same.yaml")
        paths |= {export.export(model, "torchscript", tmp_path, size).name for size in (32, 64)}
    assert len(paths) == 4


@pytest.mark.parametrize("runtime", ["torchscript", "openvino"])
def test_folders_may_be_called_anything(runtime, tmp_path):
    """Ultralytics exchanges `.pt` anywhere in the path."""
    if runtimes.missing(runtime):
        pytest.skip(f"needs {', '.join(runtimes.missing(runtime))}")
    made = export.export(export.load("m", "yolov8n", 32), runtime, tmp_path / "best.pt exports", 32)
    assert made.exists() and made.parent == tmp_path / "best.pt exports"


def test_a_crash_is_one_sentence(tmp_path):
    entry = process.Entry(export.Exported("m", tmp_path / "no.onnx"), "fp32", tmp_path / "no.onnx", 32)
    with pytest.raises(ConfigError, match=r"^onnxruntime cannot run .*no.onnx: .*"):
        process.time_in_process(process.Conditions("onnxruntime", 1), [entry], 1, lambda text: None)


def test_command(tmp_path):
    arguments = ["models=yolov8n,yolov8n-mnv3", "runtimes=onnxruntime", "imgsz=32", "seconds=0.01", "out=there"]
    output = run(*COMMAND, *arguments, cwd=tmp_path, PYTHONPATH=str(ROOT)).stdout
    folder = tmp_path / "there"
    assert {path.name for path in folder.iterdir()} == {"bench.csv", "bench.md", "bench.svg", "exports"}
    with (folder / "bench.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["control"]) for row in rows] == [
        ("yolov8n", "False"), ("yolov8n-mnv3", "False"), ("yolov8n", "True"),
    ]  # fmt: skip
    assert all("onnxruntime: " in row["environment"] and "CPU: " in row["environment"] for row in rows)
    text = (folder / "bench.md").read_text("utf-8")
    assert "image size: 32 px; seconds a model: 0.01; CPU: " in text and "image size: 32 px" in rows[0]["environment"]
    assert (
        "| `yolov8n (again)` | onnxruntime | 1 |" in text
        and text in output
        and "Random weights: yolov8n, yolov8n-mnv3." in text
    )
    assert f"| `yolov8n-mnv3` | onnxruntime | 1 | {float(rows[1]['p50']):.2f} |" in text
    assert xml.etree.ElementTree.parse(folder / "bench.svg").getroot().tag.endswith("svg")
    assert "<!-- yolov8n-mnv3, fp32 -->" in (folder / "bench.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["imgsz=32"], 2, "bench needs models="),
        (["model=yolov8n"], 2, "bench has no model=; did you mean 'models'?; see yolo-lite bench --help"),
        (["models=yolov8n", "fast"], 2, "bench expects key=value or a YAML file of settings, found 'fast'"),
        (["models=yolov8n", "models=yolo26n"], 2, "bench has models= twice"),
        (["models=yolov8n", "int8=True"], 1, "int8=True and data= have to be given together"),
        (["models=yolov8n", "imgsz=big"], 1, "imgsz has to be a multiple of 32, found 'big'"),
        (["models=nothing", "runtimes=onnxruntime"], 1, "there is no model 'nothing'"),
        (["models=.", "runtimes=onnxruntime"], 1, "'.' is not the name of a model"),
        (["models=yolov8n", f"out={__file__}"], 1, f"out={__file__}: {__file__} is a file, not a folder"),
        (["models=yolov8n", f"out={__file__}/x/y"], 1, f"out={__file__}/x/y: {__file__} is a file, not a folder"),
    ],
)
def test_command_line_errors(arguments, status, message, capsys, tmp_path, monkeypatch):
    from yolo_lite.commands import main

    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == status
    assert capsys.readouterr().err.startswith(f"yolo-lite: {message}") and not list(tmp_path.iterdir())


def test_runtimes_that_are_not_installed_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "missing", lambda name, int8: [name] if name != "onnxruntime" else [])
    bench.run(["yolov8n"], imgsz=32, seconds=0.01, out=tmp_path)
    for text in (capsys.readouterr().out, (tmp_path / "bench.md").read_text("utf-8")):
        assert "ncnn is left out: pip install ncnn" in text and "openvino is left out" in text


def row(model, precision, ratio, control=False):
    return Measurement(model, "onnxruntime", 1, precision, 10.0, 12.0, ratio, ratio, ratio, None, None, 10, control)


def test_bf16_is_shown_apart_where_openvino_would_use_it(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")
    model = opened("m")
    monkeypatch.setattr(interleaved, "export", lambda *arguments: tmp_path / "x")
    silently = lambda text: None  # noqa: E731
    for bf16, expected in ((True, ["fp32", "bf16", "int8", "fp32"]), (False, ["fp32", "int8", "fp32"])):
        openvino = replace(runtimes.RUNTIMES["openvino"], chooses_bf16=lambda bf16=bf16: bf16)
        monkeypatch.setitem(runtimes.RUNTIMES, "openvino", openvino)
        entries = interleaved.exported([model], "openvino", tmp_path, {"m": 32}, "data.yaml", silently)
        assert [entry.precision for entry in entries] == expected
        assert [entry.control for entry in entries] == [False] * (len(entries) - 1) + [True]
    entries = interleaved.exported([model], "ncnn", tmp_path, {"m": 32}, "data.yaml", silently)
    assert [entry.precision for entry in entries] == ["fp32"] * 2


def test_slow_int8_gets_a_warning():
    rows = [row("a", "fp32", 1.0), row("a", "int8", 0.6), row("b", "fp32", 0.5), row("b", "int8", 0.6)]
    rows.append(replace(row("a", "fp32", 0.98, control=True), low=0.97, high=1.01))
    notes = report.remarks(rows, [])
    assert [note for note in notes if "WARNING" in note] == [
        "WARNING: b in onnxruntime, 1 thread: int8 takes 1.20 times as long as fp32 on this CPU; use fp32 here."
    ]
    text = report.markdown(rows, {"CPU": "x"}, notes)
    assert "## int8" in text and "| 0.60 | - | - |" in text.split("## int8")[1]
    assert any("against itself, with its 95 % intervals: 0.970 to 1.010." in note for note in notes)
    of_files = report.remarks([replace(each, precision="as exported") for each in rows], [])
    assert any("no non-maximum suppression" in note for note in notes) and "suppression" not in "".join(of_files)


def test_other_numbers_of_classes_are_said():
    rows = [replace(row(name, "fp32", 1.0), classes=number) for name, number in (("a", 80), ("b", 3), ("c", None))]
    (note,) = [note for note in report.remarks(rows, []) if "classes" in note]
    assert note == (
        "The models have different numbers of classes, so different heads: a 80, b 3. "
        "To make them equal, set nc in copies of the YAMLs."
    )
    assert not [note for note in report.remarks(rows[1:], []) if "classes" in note]


def test_a_busy_machine_is_said():
    idle = [row("a", "fp32", 1.0), row("b", "fp32", 0.8), row("a", "fp32", 1.02, control=True)]
    assert BUSY not in report.remarks(idle, [])
    assert BUSY in report.remarks([*idle[:2], replace(idle[2], ratio=0.94)], [])
    assert BUSY in report.remarks([replace(idle[0], p90=21.0), *idle[1:]], [])


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EROFS, "choose another folder"),
        (errno.ENOSPC, "free some space, and run the same command again to continue"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(
    code, advice, tmp_path, monkeypatch, capsys
):
    def full(*arguments, **more):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(bench.tempfile, "TemporaryFile", full)
    monkeypatch.setattr(bench, "measure", None)
    from yolo_lite.commands import main

    assert main(["bench", "models=yolov8n", "runtimes=onnxruntime", f"out={tmp_path / 'new'}"]) == 1
    said = capsys.readouterr().err
    assert said == f"yolo-lite: out={tmp_path / 'new'} cannot be written: {os.strerror(code)}; {advice}\n"
    assert not list(tmp_path.iterdir())


def test_what_is_plotted():
    rows = [row("a", "fp32", 1.0), row("a", "int8", 0.6), row("a", "fp32", 0.98, control=True)]
    rows.append(replace(rows[0], threads=2))
    one, two = plot.panels(rows)
    assert (one.title, two.title) == ("onnxruntime, 1 thread", "onnxruntime, 2 threads")
    assert [bar.name for bar in one.bars] == ["a, fp32", "a, int8", "a (again), fp32"] and len(two.bars) == 1
    assert (one.bars[1].p50, one.bars[1].p90, one.bars[1].label) == (10.0, 12.0, "10.0 ms, 0.60")
    assert len({bar.colour for bar in one.bars}) == 2


def test_int8_is_close_to_float(tiny_data, tmp_path):
    import numpy as np
    import onnx
    import torch

    from yolo_lite.datasets.images import training_images

    model = export.load("m", "yolov8n-efficientnet-lite", 64)
    batch = torch.cat([torch.from_numpy(image) for image in training_images(tiny_data, 64, 16)])
    with torch.no_grad():  # statistics with which the output depends on the image
        for _ in range(10):
            model.yolo.model.train()(batch)
    files = [export.export(model, "onnxruntime", tmp_path, 64, data) for data in (None, tiny_data)]
    assert files[1].name.endswith("_int8.onnx") and files[1].stat().st_size < 0.4 * files[0].stat().st_size
    graph = onnx.load(files[1])
    assert any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    assert {"names", "stride", "task"} <= {each.key for each in graph.metadata_props}  # for Ultralytics' validator
    image = next(training_images(tiny_data, 64, 1))
    exact, rounded = (runtimes.RUNTIMES["onnxruntime"].open(file, 1, "")[0](image)[0][0] for file in files)
    for part in (slice(4), slice(4, None)):  # boxes in pixels; scores
        assert 0 < np.abs(exact[part] - rounded[part]).max() <= 0.1 * np.abs(exact[part]).max()


@pytest.mark.parametrize("runtime", ["openvino", "ncnn", "mnn", "executorch"])
def test_other_runtimes(runtime, tiny_data, tmp_path):
    if runtimes.missing(runtime, int8=True):
        pytest.skip(f"needs {', '.join(runtimes.missing(runtime, int8=True))}")
    rows = measure(["yolov8n"], [runtime], imgsz=32, seconds=0.01, folder=tmp_path, data=tiny_data)
    precisions = [row.precision for row in rows if row.precision != "bf16"]
    assert precisions == (["fp32", "int8", "fp32"] if runtime == "openvino" else ["fp32", "fp32"])
    assert all(not path.name.startswith(".") for path in tmp_path.iterdir())


@pytest.mark.parametrize("runtime", ["mnn", "executorch"])
def test_an_export_agrees_with_pytorch_whatever_the_threads(runtime, tmp_path):
    """Poses, which Ultralytics' exporters decode in ways of their own."""
    if runtimes.missing(runtime):
        pytest.skip(f"needs {', '.join(runtimes.missing(runtime))}")
    import torch

    torch.manual_seed(0)
    model = export.load("m", "yolo26n-lite-pose", 64)
    network = model.yolo.model
    parity.settle(network, 64)
    network.end2end = False  # like Ultralytics' default export
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = parity.arrays(network(image))
        exact = parity.arrays(copy.deepcopy(network).double()(image.double()))
    rounding = parity.deviation(exact[:1], expected, 64)
    file = export.export(model, runtime, tmp_path, 64)
    for threads in (1, 2):
        run, shape = runtimes.RUNTIMES[runtime].open(file, threads, "fp32")
        assert list(shape) == [1, 3, 64, 64]
        assert parity.deviation(run(image.numpy()), expected, 64) <= parity.TOLERANCE * rounding


@pytest.mark.parametrize(("runtime", "name"), [("mnn", "bad.mnn"), ("executorch", "bad.pte")])
def test_a_file_that_a_runtime_cannot_open_is_one_sentence(runtime, name, tmp_path):
    if runtimes.missing(runtime):
        pytest.skip(f"needs {', '.join(runtimes.missing(runtime))}")
    (tmp_path / name).write_bytes(b"this is none")
    with pytest.raises(ConfigError, match=f"^{runtime} cannot run .*{name}: "):
        measure([tmp_path / name], [runtime], imgsz=32, folder=tmp_path)


def test_mnns_converter_installs_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, zoo.MNN_REPORTS, raising=False)
    with zoo.nothing_installed(), pytest.raises(ImportError):
        importlib.import_module(zoo.MNN_REPORTS)


def test_stopped_by_hand_keeps_what_there_is(tmp_path, monkeypatch, capsys):
    from yolo_lite.commands import main

    (tmp_path / "x").write_bytes(b"12345")
    monkeypatch.setattr(interleaved, "check_runtimes", lambda *arguments, **options: None)
    monkeypatch.setattr(interleaved, "load", lambda label, name, imgsz: opened(label))
    monkeypatch.setattr(interleaved, "export", lambda *arguments: tmp_path / "x")

    def stopped(how, entries, *arguments):
        if how.runtime == "ncnn":
            raise KeyboardInterrupt
        return [[1.0] * len(entries)] * 20

    monkeypatch.setattr(interleaved, "time_in_process", stopped)
    assert main(["bench", "models=yolov8n", "runtimes=onnxruntime,ncnn", f"out={tmp_path / 'out'}"]) == 130
    assert "stopped" in capsys.readouterr().err
    with (tmp_path / "out" / "bench.csv").open() as file:
        assert [row["runtime"] for row in csv.DictReader(file)] == ["onnxruntime"] * 2
