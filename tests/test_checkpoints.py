"""Checkpoints of the stock `yolo train`: loading, resuming, fine-tuning, safe loading and multi-GPU workers."""

import importlib
import re
import sys
import textwrap

import pytest
import torch
from conftest import python, run, yolo
from ultralytics import YOLO

pytestmark = pytest.mark.core
SETTINGS = """
bn = {(m.eps, m.momentum) for m in model.model[:5].modules() if type(m).__name__ == "BatchNorm2d"}
print("SETTINGS", bn)
"""


def load(checkpoint, cwd, **environment):
    """Load a checkpoint in a fresh interpreter that never imports us, and describe its backbone's BatchNorms."""
    code = f"from ultralytics import YOLO; model = YOLO({str(checkpoint)!r}).model\n{SETTINGS}"
    return python(code, cwd, **environment).stdout


def test_loads_in_a_fresh_process(trained, tmp_path):
    assert "SETTINGS {(1e-05, 0.1)}" in load(trained / "weights/best.pt", tmp_path)


def skip_without_safe_loading():
    import ultralytics
    from ultralytics.nn import tasks

    if not hasattr(tasks, "SAFE_LOAD"):
        pytest.skip(f"Ultralytics {ultralytics.__version__} has no safe loading")
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        pytest.skip(f"safe loading needs torch 2.6, this is {torch.__version__}")


def test_loads_in_safe_mode(trained, tmp_path):
    skip_without_safe_loading()
    assert "SETTINGS {(1e-05, 0.1)}" in load(trained / "weights/best.pt", tmp_path, ULTRALYTICS_SAFE_LOAD="1")


WITHOUT_US = """
import sys
class Absent:
    def find_spec(self, name, *more):
        if name.partition(".")[0] in ("yolo_lite", "yolo_lite_backbones"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from ultralytics import YOLO
from ultralytics.nn import tasks
def install(name):
    print("INSTALLS", name)
    del sys.meta_path[[type(each) for each in sys.meta_path].index(Absent)]
tasks.check_requirements = install
print("LOADED", sorted({type(m).__module__.partition(".")[0] for m in YOLO(sys.argv[1]).model.modules()}))
"""


@pytest.mark.parametrize(
    "saved", ["best.pt", "fused", *(pytest.param(each, marks=pytest.mark.slow) for each in ("last.pt", "saved again"))]
)
def test_where_we_are_missing_ultralytics_installs_our_distribution(saved, trained, tmp_path):
    """What it installs is the first module that it cannot import; then the checkpoint loads, in the same process."""
    path = trained / "weights" / saved
    if path.suffix != ".pt":
        path = tmp_path / "again.pt"
        model = YOLO(trained / "weights/best.pt")
        if saved == "fused":
            model.fuse()
        model.save(path)
    process = run(sys.executable, "-c", WITHOUT_US, path, cwd=tmp_path, YOLO_LITE_HOOK="0")
    assert [line for line in process.stdout.splitlines() if line.startswith("INSTALLS")] == [
        "INSTALLS yolo_lite_backbones"
    ]
    assert process.stdout.strip().endswith("LOADED ['torch', 'ultralytics', 'yolo_lite']")


def test_a_stock_models_checkpoint_does_not_name_us(tmp_path):
    YOLO("yolov8n.yaml").save(tmp_path / "stock.pt")
    assert b"yolo_lite" not in (tmp_path / "stock.pt").read_bytes()


def test_safe_mode_still_refuses_others(trained, tmp_path, monkeypatch):
    skip_without_safe_loading()
    (tmp_path / "stranger.py").write_text("import torch\nclass Stranger(torch.nn.Identity):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    checkpoint = torch.load(trained / "weights/best.pt", weights_only=False)
    checkpoint["model"].stranger = importlib.import_module("stranger").Stranger()
    torch.save(checkpoint, tmp_path / "strange.pt")
    code = "from ultralytics import YOLO; YOLO('strange.pt')"
    process = python(code, tmp_path, check=False, ULTRALYTICS_SAFE_LOAD="1", PYTHONPATH=str(tmp_path))
    assert process.returncode and "outside the supported" in process.stdout


def test_predict_val_and_fine_tune(trained, tiny_data, tmp_path):
    """By the stock command's entry point, one after the other in a process that never imports us."""
    best = trained / "weights/best.pt"
    image = next((tiny_data.parent / "images/val").glob("*.jpg"))
    commands = [
        f"yolo val model={best} data={tiny_data} imgsz=64 plots=False",
        f"yolo predict model={best} source={image} imgsz=64 conf=0.001 save=True project={tmp_path} name=p",
        f"yolo train model={best} data={tiny_data} imgsz=64 epochs=1 batch=8 workers=0 plots=False val=False "
        f"project={tmp_path} name=tuned",
    ]
    code = "\n".join(f"entrypoint({each!r}); print('DONE')" for each in commands)
    said = python(f"from ultralytics.cfg import entrypoint\n{code}", tmp_path).stdout.split("DONE\n")
    assert len(said) == 4 and re.search(r"^ +all +8 ", said[0], re.M)
    assert (tmp_path / "p" / image.name).is_file()
    assert "SETTINGS {(1e-05, 0.1)}" in load(tmp_path / "tuned/weights/last.pt", tmp_path)


def test_resume(trained, tiny_data, tmp_path):
    """From a checkpoint of the middle of a run, as a killed process leaves it."""
    code = f"""
        from ultralytics import YOLO
        model = YOLO("yolov8n-mnv3.yaml")
        def stop(trainer):
            if trainer.epoch == 1:
                import os; os._exit(9)
        model.add_callback("on_train_epoch_start", stop)
        model.train(data={str(tiny_data)!r}, imgsz=64, epochs=3, batch=8, plots=False, workers=0,
                    project={str(tmp_path)!r}, name="killed")
    """
    assert python(textwrap.dedent(code), tmp_path, check=False).returncode == 9
    last = tmp_path / "killed/weights/last.pt"
    process = yolo("train", "resume=True", f"model={last}", cwd=tmp_path)
    assert "Resuming training" in process.stdout
    rows = (tmp_path / "killed/results.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]
    assert "SETTINGS {(1e-05, 0.1)}" in load(last, tmp_path)


@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["fresh", "resume"])
def test_multi_gpu_worker(resumed, trained, tiny_data, tmp_path):
    """A worker is a fresh interpreter that unpickles the trainer's state and builds the model from what it names."""
    model = str(trained / "weights/last.pt") if resumed else "yolov8n-mnv3.yaml"
    code = f"""
        from ultralytics.models.yolo.detect import DetectionTrainer
        from ultralytics.utils.dist import generate_ddp_file
        trainer = DetectionTrainer(overrides=dict(model={model!r}, data={str(tiny_data)!r}, imgsz=64, epochs=1, batch=8,
            workers=0, plots=False, val=False, project={str(tmp_path)!r}, name="ddp"))
        print("FILE", generate_ddp_file(trainer))
    """
    script = python(textwrap.dedent(code), tmp_path).stdout.rpartition("FILE ")[2].strip()
    process = run(sys.executable, script, cwd=tmp_path)
    assert "yolo_lite.backbones.mobilenetv3.MobileNetV3Stage" in process.stdout
    assert (tmp_path / "ddp/weights/last.pt").is_file()
