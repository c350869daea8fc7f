"""The command `yolo-lite`, and the real `yolo` on the generated dataset."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, python, run, yolo

import yolo_lite
from yolo_lite.commands import main
from yolo_lite.options import COMMANDS

COMMAND = Path(sys.executable).with_name("yolo-lite")


def test_help_and_version(tmp_path):
    assert run(COMMAND, cwd=tmp_path).stdout == run(COMMAND, "--help", cwd=tmp_path).stdout
    assert "yolo-lite doctor" in run(COMMAND, "help", cwd=tmp_path).stdout
    assert run(COMMAND, "version", cwd=tmp_path).stdout.strip() == yolo_lite.__version__
    module = [sys.executable, "-m", "yolo_lite"]
    assert run(*module, "version", cwd=tmp_path).stdout.strip() == yolo_lite.__version__
    assert run(*module, "docter", cwd=tmp_path, check=False).returncode == 2


def test_overview_names_every_command_and_imports_nothing_heavy(tmp_path):
    code = "import sys; from yolo_lite.commands import main; main([]); print('torch' in sys.modules)"
    *lines, heavy = python(code, cwd=tmp_path).stdout.splitlines()
    assert heavy == "False"
    for name, command in COMMANDS.items():
        assert any(line.split()[:2] == ["yolo-lite", name] and command.summary in line for line in lines), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name, capsys):
    assert main([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert main(["help", name]) == 0 and capsys.readouterr().out == page
    command = COMMANDS[name]
    assert page.startswith(f"yolo-lite {name}") and f"Example: {command.example}" in page
    lines = page.splitlines()
    assert max(map(len, lines)) <= 120
    found = [line.split("=")[0].strip() for line in lines if re.match(r"  \w+=", line)]
    assert found == [option.name for option in command.options]


def test_unknown_command(tmp_path, capsys):
    process = run(COMMAND, "docter", cwd=tmp_path, check=False)
    assert process.returncode == 2
    assert process.stdout == "yolo-lite: unknown command 'docter'; did you mean 'doctor'?; see yolo-lite help\n"
    for arguments, said in (
        (["doctor", "now"], "doctor expects no arguments, found now"),
        (["list", "tim=x"], "list has no tim=; did you mean 'timm'?"),
        (["info"], "info expects NAME [key=value ...], found none"),
        (["info", "a", "b"], "info expects NAME [key=value ...], found a b"),
        (["make", "scale=n", "scale=s"], "make has scale= twice; remove one"),
        (["make", "yolov8"], "make expects key=value or a YAML file of settings, found 'yolov8'"),
        (["bench", "model=yolov8n"], "bench has no model=; did you mean 'models'?"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error == f"yolo-lite: {said}; see yolo-lite {arguments[0]} --help\n"


def test_the_stock_commands_modes_are_pointed_to(capsys):
    assert main(["train", "model=yolov8n.yaml"]) == 2
    said = "yolo-lite: train is a mode of the stock command: yolo train model=yolov8n.yaml\n"
    assert capsys.readouterr().err == said


def test_list_and_info(capsys):
    def said(*words, status=0):
        assert main(words) == status
        return "".join(capsys.readouterr())

    table = said("list", "shufflenet", "v2").splitlines()
    assert [line.split()[0] for line in table[1:5]] == [f"shufflenet_v2_x{x}" for x in ("0_5", "1_0", "1_5", "2_0")]
    assert "24 24 116 232 464" in table[2] and "0.5, 1, 1.5, 2" in table[2]
    assert "repvit_m1" in said("list", "timm=*repvit*")
    assert "for all whose names contain it, timm='*repvit*'" in said("list", "timm=repvit", status=1)
    text = said("info", "ghostnet_100")
    assert "arxiv.org/abs/1911.11907" in text and "[-1, 1, GhostNetStage, [ghostnet_100, LEVEL]]" in text
    assert "P4/16        112 channels" in text and "width 1: timm ghostnet_100 in1k, licence: apache-2.0" in text
    text = said("info", "repvit_m1")
    assert "TimmBackbone, [repvit_m1]" in text and "P2/4" in text and "P1/2" not in text
    for arguments in (["list", "ghostnt_100"], ["info", "ghostnet_10"]):
        assert "did you mean 'ghostnet_100'" in said(*arguments, status=1)
    assert "did you mean 'mobilenetv3_" in said(
        "info", "mobilenetv3", status=1
    )  # not mobilenet_v2, although it is more similar


@pytest.mark.slow  # run separately by `.ci/run`, in its fresh environments
def test_doctor_is_content(tmp_path):
    output = run(COMMAND, "doctor", cwd=tmp_path).stdout
    assert output.count("\nok ") == 7 and "FAIL" not in output


def test_doctor_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setenv("YOLO_LITE_HOOK", "0")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  a fresh interpreter does not register" in said
    assert "YOLO_LITE_HOOK=0 switches it off: unset it" in said


def test_doctor_knows_folders_that_python_does_not_start_from(tmp_path, monkeypatch):
    from yolo_lite.commands import doctor

    for name in ("yolo_lite.pth", "yolo_lite.start"):
        (tmp_path / name).touch()
    files = [SimpleNamespace(name=each.name, locate=lambda each=each: each) for each in tmp_path.iterdir()]
    monkeypatch.setattr(doctor.importlib.metadata, "files", lambda distribution: files)
    good, text, advice = doctor._startup_file()
    assert good is False and text.startswith(f"the start-up files are in {tmp_path}, where Python does not look")
    assert "without --target, or import yolo_lite first" in advice
    monkeypatch.setattr(doctor.site, "getsitepackages", lambda: [str(tmp_path)])
    assert doctor._startup_file()[0] is True


def test_doctor_on_a_parser_that_cannot_be_patched(capsys, monkeypatch):
    from ultralytics.nn import tasks

    from yolo_lite.commands import doctor

    def parse_model(cfg, ch):
        pass

    monkeypatch.setattr(tasks, "parse_model", parse_model)
    assert not doctor.run()
    assert "FAIL  Ultralytics' model parser cannot be patched" in capsys.readouterr().out


def test_doctor_names_a_broken_entry_point(capsys, monkeypatch):
    from yolo_lite.commands import doctor

    broken = {"mine = my_package.modules of the package my-package": "ModuleNotFoundError: No module named 'lost'"}
    monkeypatch.setattr("yolo_lite.discovery.failures", lambda: broken)
    assert not doctor.run()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "my-package" in line]
    assert line.startswith("FAIL") and "failed: ModuleNotFoundError: No module named 'lost'" in line


@pytest.mark.slow
def test_readme_python(tmp_path):
    text = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    code = re.search(r"^```python\n(.*?)^```", text, re.M | re.S)[1].replace("epochs=20", "epochs=1")
    code += "print([tuple(each.shape[1:]) for each in backbone(__import__('torch').zeros(1, 3, 64, 64))], text[:300])"
    said = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=ROOT).stdout
    assert "(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (160, 2, 2)" in said and "ghostnet_100" in said
    assert "1 epochs completed in" in said


@pytest.mark.slow
def test_readme_training(tmp_path):
    """README command 1, after its installation."""
    import csv

    text = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    arguments = re.search(r"&& yolo (train model=cfg/yolov8n-mnv3.yaml .*)", text)[1].split()
    process = yolo(*arguments, f"project={tmp_path}", "name=readme", cwd=Path(__file__).parent.parent)
    with open(tmp_path / "readme/results.csv") as file:
        rows = [{k.strip(): float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows[-1]["metrics/mAP50(B)"] >= 0.7, process.stdout[-2000:]
