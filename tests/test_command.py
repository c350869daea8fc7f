"""The command `yolo-lite`, and the real `yolo` on the generated dataset."""

import sys
from pathlib import Path

import pytest
from conftest import run, yolo

import yolo_lite

COMMAND = Path(sys.executable).with_name("yolo-lite")


def test_help_and_version(tmp_path):
    assert run(COMMAND, cwd=tmp_path).stdout == run(COMMAND, "--help", cwd=tmp_path).stdout
    assert "yolo-lite doctor" in run(COMMAND, "help", cwd=tmp_path).stdout
    assert run(COMMAND, "version", cwd=tmp_path).stdout.strip() == yolo_lite.__version__


def test_unknown_command(tmp_path):
    process = run(COMMAND, "docter", cwd=tmp_path, check=False)
    assert process.returncode == 2
    assert process.stdout == "yolo-lite: unknown argument 'docter'; did you mean 'doctor'?; see yolo-lite help\n"


def test_doctor_is_content(tmp_path):
    output = run(COMMAND, "doctor", cwd=tmp_path).stdout
    assert output.count("\nok ") == 4 and "FAIL" not in output


def test_doctor_says_what_to_do(tmp_path):
    process = run(COMMAND, "doctor", cwd=tmp_path, check=False, YOLO_LITE_HOOK="0")
    assert process.returncode == 1
    assert "FAIL  a fresh interpreter does not register" in process.stdout
    assert "YOLO_LITE_HOOK=0 switches it off: unset it" in process.stdout


def test_doctor_on_a_host_that_cannot_be_taught(capsys, monkeypatch):
    from ultralytics.nn import tasks

    from yolo_lite import doctor

    def parse_model(cfg, ch):
        pass

    monkeypatch.setattr(tasks, "parse_model", parse_model)
    assert not doctor.run()
    assert "FAIL  Ultralytics' model parser cannot be taught" in capsys.readouterr().out


@pytest.mark.slow
def test_readme_training(tmp_path):
    """README command 1, after its installation."""
    import csv
    import re

    text = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    arguments = re.search(r"&& yolo (train model=cfg/yolov8n-mnv3.yaml .*)", text)[1].split()
    process = yolo(*arguments, f"project={tmp_path}", "name=readme", cwd=Path(__file__).parent.parent)
    with open(tmp_path / "readme/results.csv") as file:
        rows = [{k.strip(): float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows[-1]["metrics/mAP50(B)"] >= 0.7, process.stdout[-2000:]
