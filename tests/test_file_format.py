"""File format: the names in checkpoints stay the same, and files of an earlier commit still work.

`tests/file_format/` holds files created by `scripts/release/old_checkpoints.py`; larger checkpoints of the same kind
are read from the folder given by the environment variable YOLO_LITE_OLD_CHECKPOINTS.
"""

import importlib
import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import ultralytics
from conftest import ROOT, run
from ultralytics import YOLO

FOLDER = Path(__file__).parent / "file_format"
COMMITTED = ("native", "registered", "interrupted")
OTHERS = ("lite", "timm")
NUMBERS = {"data": "data/data.yaml", "imgsz": 64, "batch": 4, "workers": 0, "plots": False}


@pytest.fixture
def release(monkeypatch):
    """Return a function that imports a script of `scripts/release` by name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "release"))
    return importlib.import_module


@pytest.fixture
def old(release, monkeypatch, tmp_path):
    """Return the script that created the checkpoints, with a working folder that holds their training data."""
    monkeypatch.syspath_prepend(str(FOLDER))  # holds the user's module
    monkeypatch.chdir(tmp_path)
    module = release("old_checkpoints")
    module.write_data(tmp_path / "data")
    return module


def version(text):
    return [int(part) for part in text.split(".")[:3]]


def find(name):
    folder = FOLDER if name in COMMITTED else Path(os.environ.get("YOLO_LITE_OLD_CHECKPOINTS", "nowhere"))
    if not (folder / f"{name}.pt").is_file():
        pytest.skip(f"{name}.pt: made by scripts/release/old_checkpoints.py, not committed")
    return folder / f"{name}.pt"


@pytest.mark.core
def test_classes_and_tensors_are_as_checkpoints_name_them(release):
    file_format = release("file_format")
    moved = file_format.differences(file_format.current(), json.loads(file_format.LIST.read_text("utf-8")))
    assert not moved, "\n".join(moved)


def test_a_module_without_arguments_is_not_written(release, monkeypatch, tmp_path):
    file_format = release("file_format")
    monkeypatch.setattr(file_format, "current", lambda: {"rows": {"New": file_format.UNLISTED}})
    monkeypatch.setattr(file_format, "LIST", tmp_path / "format.json")
    with pytest.raises(SystemExit, match="New: registered, without arguments here; needed them in ROWS"):
        file_format.main("True")
    assert not file_format.LIST.exists()


def test_a_moved_class_a_new_one_and_another_shape_are_told_in_a_sentence_each(release):
    file_format = release("file_format")
    kept = {"rows": {"ASPP": {"point.conv": "weight 16x16x1x1"}}, "globals": ["a.B"]}
    now = {"rows": {"ASPP": {"point.conv": "weight 16x8x1x1"}}, "globals": ["a.C"]}
    assert file_format.differences(kept, kept) == []
    assert file_format.differences(now, kept) == [
        "rows, ASPP, point.conv: found weight 16x8x1x1; needed weight 16x16x1x1, as checkpoints have it",
        "globals, a.B: found none; needed a.B, as checkpoints have it",
        "globals, a.C: found a.C; needed it in the list, by file_format.py write=True",
    ]


@pytest.mark.slow
def test_checkpoints_of_all_shipped_configs_name_nothing_else(release):
    file_format = release("file_format")
    listed = json.loads(file_format.LIST.read_text("utf-8"))
    for name in (name for name in file_format.configs() if name.startswith("yolo")):
        names = file_format.pickled(YOLO(name).model)
        ours = {each for each in names if each.startswith(file_format.OURS)}
        assert "yolo_lite_backbones.Distribution" in ours <= set(listed["globals"]), name
        assert {each.partition(".")[0] for each in names - ours} <= set(listed["packages"]), name


@pytest.mark.core
@pytest.mark.parametrize("name", [*COMMITTED, *OTHERS])
def test_loads_and_computes_what_it_did(name, old):
    checkpoint = find(name)
    found, kept = old.outputs(checkpoint), np.load(checkpoint.with_suffix(".npy"))
    assert np.abs(found - kept).max() <= 1e-4 * np.abs(kept).max()


@pytest.mark.parametrize("name", ["native", "registered", *OTHERS])
def test_validates_and_trains_on(name, old):
    checkpoint = find(name)
    assert np.isfinite(YOLO(checkpoint).val(**NUMBERS, project="runs", name="val").box.map)
    tuned = YOLO(checkpoint)
    before = {key: value.clone() for key, value in tuned.model.state_dict().items()}
    tuned.train(**NUMBERS, epochs=1, val=False, project=str(Path("runs").absolute()), name="tuned")
    after = YOLO("runs/tuned/weights/last.pt").model.state_dict()
    assert before.keys() == after.keys() and any((after[key] != before[key]).any() for key in after)


def test_resumes(old, tmp_path):
    shutil.copy(find("interrupted"), "last.pt")
    model = YOLO("last.pt")
    if version(ultralytics.__version__) < version(model.ckpt["version"]):
        pytest.skip("Ultralytics resumes no training of a later release: it does not know its arguments")
    began = []
    model.add_callback("on_train_epoch_start", lambda trainer: began.append(trainer.epoch))
    model.train(resume=True)
    assert began == [1, 2]
    assert (tmp_path / "runs/interrupted/weights/last.pt").is_file()


@pytest.mark.skipif(not importlib.util.find_spec("onnx"), reason="needs onnx")
@pytest.mark.parametrize("name", ["native", *OTHERS])
def test_exports(name, old):
    shutil.copy(find(name), "old.pt")
    assert Path(YOLO("old.pt").export(format="onnx", imgsz=64, simplify=False)).stat().st_size > 10**5


@pytest.mark.slow  # test_compare_formats.py resumes a comparison of an older release
def test_a_comparison_goes_on_or_is_refused_in_a_sentence(old, tmp_path):
    shutil.copytree(FOLDER / "models", "models")
    shutil.copytree(FOLDER / "comparison", "comparison")
    process = run(*old.command(ROOT), "compare", *old.COMPARE, cwd=tmp_path, check=False)
    said = process.stdout.strip().splitlines()
    if process.returncode:
        assert said[-1].startswith("yolo-lite: ") and "Traceback" not in process.stdout
    else:
        assert "started" not in process.stdout and (tmp_path / "comparison/report.html").is_file()
