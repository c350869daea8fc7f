"""Run the commands of the README and the pages like a reader with a dataset, a photo and trained models."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, run, yolo
from test_site import FENCE, PAGES

from yolo_lite import make
from yolo_lite.bench import runtimes
from yolo_lite.datasets import shapes
from yolo_lite.ultralytics_hooks.configs import stock_configs

pytestmark = pytest.mark.slow
SMALLER = {  # settings that replace those of commands that would take hours
    **{"epochs": "1", "imgsz": "64", "batch": "4", "seeds": "0,1", "seconds": "0.1", "threads": "1", "images": "8"},
    "data": "my.yaml",
}
ADDED = {  # command -> settings added if the documented command does not have them
    "train": ("epochs=1", "imgsz=64", "batch=4", "plots=False", "workers=0"),
    "val": ("imgsz=64", "plots=False", "workers=0"),
    "predict": ("imgsz=64",),
    "transfer": ("imgsz=64", "images=8"),
    "compare": ("epochs=1", "imgsz=64", "batch=4", "seeds=0,1", "runtimes=onnxruntime"),
    "bench": ("imgsz=64", "seconds=0.1"),
}
ELSEWHERE = (
    "device=ethos-u",
    "device=rk3588",
    "yolo-lite choose",
    "best_ncnn_model",
)  # need other environments, or are tested in tests/test_choose_run.py
NEEDS = {"openvino": "openvino", "ncnn": "ncnn", "int8=True": "openvino", "quantize=8": "nncf"}  # word -> package


def commands():
    """Return what the pages tell a reader to run, each once."""
    found = {}
    for page in PAGES:
        for block in FENCE.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|;", line.partition(" #")[0]):
                    words = part.strip().removeprefix("!").strip()
                    example = not re.search(r"\.\.\.|[\[\]|]|--help| COMMAND | key=value", words)
                    if re.match(r"yolo(-lite)? ", words) and example and not any(each in words for each in ELSEWHERE):
                        found.setdefault(words, page.name)
    return [pytest.param(words, id=f"{page}: {words}") for words, page in found.items()]


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """Return a folder with the files that the pages assume a reader to have."""
    from ultralytics import YOLO

    folder = tmp_path_factory.mktemp("reader")
    small = {"epochs": 1, "imgsz": 64, "batch": 4, "plots": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", {"train": 16, "val": 8})
        for task, end in (("detect", ""), ("segment", "-seg")):
            shapes.generate(folder / f"shapes{end}", task)
            text = (ROOT / f"cfg/datasets/shapes{end}.yaml").read_text("utf-8")
            path = folder / ("my.yaml" if task == "detect" else "my-seg.yaml")
            path.write_text(text.replace(f"path: shapes{end}", f"path: {folder / f'shapes{end}'}"))
    shutil.copytree(ROOT / "cfg", folder / "cfg")
    shutil.copy(next((folder / "shapes/images/val").iterdir()), folder / "photo.jpg")
    for name in ("yolov8n", "yolov8n-mnv3"):
        torch.manual_seed(0)
        YOLO(f"{name}.yaml").train(data=str(folder / "my.yaml"), project=str(folder), name=name, **small)
    for name in ("yolov8n", "yolov8m-my"):
        shutil.copy(folder / "yolov8n/weights/best.pt", folder / f"{name}.pt")
    for path in (folder / "best.pt", folder / "runs/detect/train/weights/best.pt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "yolov8n-mnv3/weights/best.pt", path)
    (folder / "my").mkdir()
    for name in ("yolov8-mnv3", "yolo26-lite-mnv4"):
        shutil.copy(ROOT / f"cfg/{name}.yaml", folder / "my")
    (folder / "candidates").mkdir()
    shutil.copy(stock_configs()["yolov8"], folder / "candidates/yolov8.yaml")
    for arguments in (
        {"base": "yolo26", "backbone": "csplite_100", "width": 1, "out": "candidates/yolo26-csplite100-a1-slim.yaml"},
        {"base": "yolov8", "backbone": "ghostnet_100", "task": "segment", "out": "yolov8-mine-seg.yaml"},
    ):
        make(**{**arguments, "out": folder / arguments["out"]}, count=False)
    return folder


def smaller(words):
    """Return a command with small images, few of them, and as little training as there is."""
    program, name, *rest = shlex.split(words)
    kept = []
    for word in rest:
        key, equals, value = word.partition("=")
        if equals and key in SMALLER and word != "data=shapes-seg.yaml":
            word = f"{key}={SMALLER[key]}"
        kept.append(word.replace("data=shapes-", "data=my-"))
    if name == "bench":
        kept = [word for word in kept if not word.startswith("runtimes=")] + ["runtimes=onnxruntime"]
    if name == "export":
        kept = [word for word in kept if not word.startswith("imgsz=")] + ["imgsz=64"]
    given = {word.partition("=")[0] for word in kept}
    return program, [name, *kept, *(word for word in ADDED.get(name, ()) if word.partition("=")[0] not in given)]


@pytest.mark.parametrize("words", commands())
def test_commands_of_the_pages_run(words, reader, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # if set, Ultralytics writes its runs to another folder
    for word, package in NEEDS.items():
        if word in words and "runtimes=" not in words:
            pytest.importorskip(package)
    if "bench" in words and (lacking := runtimes.missing("onnxruntime")):
        pytest.skip(f"needs {', '.join(lacking)}")
    home = tmp_path / "reader"
    shutil.copytree(reader, home)
    for path in home.glob("my*.yaml"):
        content = yaml.safe_load(path.read_text("utf-8"))
        path.write_text(yaml.safe_dump({**content, "path": str(home / Path(content["path"]).name)}), "utf-8")
    program, arguments = smaller(words)
    for word in arguments:
        if word.startswith("out=") and (home / word[4:]).exists():
            (home / word[4:]).unlink()
    before = {path for path in home.rglob("*") if path.is_file()}
    if program == "yolo":
        said = yolo(*arguments, cwd=home).stdout
    else:
        said = run(Path(sys.executable).with_name("yolo-lite"), *arguments, cwd=home).stdout
    made = {path for path in home.rglob("*") if path.is_file()} - before
    assert "Traceback" not in said
    assert made or arguments[0] in ("list", "info", "doctor", "version", "val"), said[-2000:]
