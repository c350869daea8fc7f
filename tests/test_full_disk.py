"""A full or read-only disk: one sentence, no temporary files, and the same command resumes later."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run
from made_up import write_comparison

HELPER = ROOT / "tests" / "full_disk.py"
COMMAND = [sys.executable, "-m", "yolo_lite"]
ADVICE = "; free some space, and run the same command again to continue"
REASON = {"size": "File too large", "names": "No space left on device"}
LIMIT = 3600  # time limit in seconds; the command runs once for each of its writes
AGAIN = "1 run failed: yolov8n seed 0; the same command tries again"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")


def meet(how, folder, *words, first=1, step=1, code=HELPER):
    """Run a command on a disk that is full from its k-th write on, for all k; return what came of it."""
    process = run(sys.executable, code, how, folder, first, step, *words, cwd=folder, limit=LIMIT, PYTHONPATH=ROOT)
    found = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"k"')]
    assert found and found[-1]["status"] == 0, process.stdout[-3000:]
    return found


def assert_one_sentence(found, how):
    for each in found[:-1]:
        said = each["said"].strip().splitlines()
        assert each["status"] == 1 and "Traceback" not in each["said"], each
        assert said[-1] == AGAIN or re.fullmatch(rf"yolo-lite: .*{REASON[how]}.*", said[-1]), each
        assert sum(line.startswith("yolo-lite: ") for line in said) <= 1, each


def drafts(folder):
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.slow
@pytest.mark.parametrize("how", REASON)
def test_make(how, tmp_path):
    words = ["make", "backbone=mobilenetv1_100", "scale=n", "count=False", "exist_ok=True", "out=yolov8-my.yaml"]
    found = meet(how, tmp_path, *words)
    assert_one_sentence(found, how)
    assert len(found) == {"size": 2, "names": 3}[how]
    assert f"yolov8-my.yaml cannot be written: {REASON[how]}{ADVICE}" in found[0]["said"]
    assert [path.name for path in tmp_path.iterdir()] == ["yolov8-my.yaml"]


@pytest.fixture
def transfer(tiny_data, tmp_path):
    from ultralytics import YOLO

    YOLO("yolov8n.yaml").save(tmp_path / "stock.pt")
    return ["transfer", "model=yolo26s-lite.yaml", "source=stock.pt", f"data={tiny_data}", "images=2", "imgsz=64",
            "device=cpu", "out=mine.pt"]  # fmt: skip


@pytest.mark.slow
def test_transfer_without_names(transfer, tmp_path):
    found = meet("names", tmp_path, *transfer, "exist_ok=True")
    assert_one_sentence(found, "names")
    assert f"mine.pt cannot be written: {REASON['names']}{ADVICE}" in found[0]["said"]
    assert {path.name for path in tmp_path.iterdir()} == {"stock.pt", "mine.pt"}


BENCH = ["bench", "models=yolov8n-mnv4", "runtimes=onnxruntime", "imgsz=32", "seconds=0.01", "out=out"]


@pytest.mark.slow
@pytest.mark.parametrize("how", REASON)
def test_bench_at_every_write(how, tmp_path):
    pytest.importorskip("onnxruntime")
    found = meet(how, tmp_path, *BENCH)
    assert_one_sentence(found, how)
    assert len(found) > 5 and drafts(tmp_path) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"exports", "bench.csv", "bench.md", "bench.svg"}


@pytest.fixture
def compare(tiny_data):
    return [
        "compare", f"data={tiny_data}", "models=yolov8n", "seeds=0", "epochs=1", "imgsz=32", "batch=8", "nbs=8",
        "workers=0", "latency=False", "project=.", "name=compared",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("how", REASON)
def test_compare_at_every_write(how, compare, tmp_path):
    found = meet(how, tmp_path, *compare)
    assert_one_sentence(found, how)
    assert len(found) > 20 and drafts(tmp_path) == [] and (tmp_path / "compared" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("how", REASON)
def test_the_report_of_a_comparison(how, tmp_path):
    write_comparison(tmp_path / "compared", {"yolov8n": 0.5, "yolov8n-mnv3": 0.4})
    found = meet(how, tmp_path, "compare", tmp_path / "compared", step=9)
    assert_one_sentence(found, how)
    assert len(found) > 2 and drafts(tmp_path) == [] and (tmp_path / "compared" / "report.html").is_file()


LIMITS = {"make": [0, 1000], "bench": [0, 100_000], "compare": [0, 10_000, 1_000_000], "transfer": [1_000_000]}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [(name, limit) for name, limits in LIMITS.items() for limit in limits])
def test_files_that_cannot_be_so_long(name, limit, compare, transfer, tmp_path):
    """The limit holds for the whole of the command, its processes included."""
    made = ["make", "count=False", "out=yolov8-my.yaml"]
    words = {"make": made, "bench": BENCH, "compare": compare, "transfer": transfer}[name]
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
    limited += f"os.execv(sys.executable, {[*COMMAND, *words]})"
    process = run(sys.executable, "-c", limited, cwd=tmp_path, check=False, PYTHONPATH=ROOT)
    said = process.stdout.strip().splitlines()
    assert process.returncode == 1 and "Traceback" not in process.stdout
    assert said[-1] == AGAIN or (said[-1].startswith("yolo-lite: ") and "File too large" in said[-1]), process.stdout
    assert drafts(tmp_path) == []
    run(*COMMAND, *words, cwd=tmp_path, PYTHONPATH=ROOT)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["version"], "a file, or the output: No space left on device"),
        (["list", "mobilenetv1"], "a file, or the output: No space left on device"),
        (["help"], "a file, or the output: No space left on device"),
    ],
)
def test_output_that_cannot_be_written(words, said, tmp_path):
    command = " ".join(map(str, [*COMMAND, *words]))
    process = run("sh", "-c", f"{command} 2>&1 >/dev/full", cwd=tmp_path, check=False, PYTHONPATH=ROOT)
    assert (process.returncode, process.stdout) == (1, f"yolo-lite: {said}{ADVICE}\n")


def test_output_that_nobody_reads(tmp_path):
    process = run("sh", "-c", f"{' '.join(COMMAND)} help | true", cwd=tmp_path, PYTHONPATH=ROOT)
    assert process.stdout == ""


def test_a_folder_in_which_nothing_can_be_made(tmp_path):
    words = ["make", "count=False", "scale=n", "out=/proc/yolov8-my.yaml"]
    process = run(*COMMAND, *words, cwd=tmp_path, check=False, PYTHONPATH=ROOT)
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1].startswith("yolo-lite: /proc/yolov8-my.yaml cannot be written: ")


def test_the_generated_dataset_leaves_no_half_split(tmp_path, monkeypatch):
    from yolo_lite.datasets import shapes

    written = Path.write_bytes

    def full(path, content):
        if path.name == "0003.jpg":
            raise OSError(28, "No space left on device")
        return written(path, content)

    monkeypatch.setattr(shapes, "SPLITS", {"train": 5})
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "write_bytes", full)
        shapes.generate(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file() or "train" in path.name] == []
    shapes.generate(tmp_path)
    assert len(list(tmp_path.rglob("*.jpg"))) == len(list(tmp_path.rglob("*.txt"))) == 5


@pytest.mark.parametrize("module", ["make", "compare", "bench", "list", "info", "doctor", "help"])
def test_a_module_that_is_no_command_says_so(module, tmp_path):
    command = [sys.executable, "-m", f"yolo_lite.commands.{module}", "--help"]
    process = run(*command, cwd=tmp_path, check=False, PYTHONPATH=ROOT)
    assert process.returncode == 1
    assert process.stdout == "yolo-lite: this module is not a command; run yolo-lite, or python -m yolo_lite\n"
