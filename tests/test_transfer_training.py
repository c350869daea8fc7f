"""Weight transfer by `yolo-lite transfer` and by the stock command's `pretrained=`: once, and equal on all workers."""

import os
import re
import textwrap

import pytest
import torch
import yaml
from conftest import python, yolo
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

from yolo_lite import commands
from yolo_lite.commands.transfer import RECORD
from yolo_lite.compare import baselines, initial_weights, worker
from yolo_lite.compare.process import Job
from yolo_lite.compare.record import RunRecord, Start
from yolo_lite.compare.report.notes import _on_initial_weights
from yolo_lite.datasets import shapes
from yolo_lite.ultralytics_hooks import hooks, training
from yolo_lite.weights import cache
from yolo_lite.weights.fitting import Fit
from yolo_lite.weights.transfer import Transferred

SETTINGS = {"imgsz": 64, "epochs": 1, "batch": 8, "workers": 0, "plots": False, "val": False, "device": "cpu"}


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Return the path of a stock model with the generated dataset's classes and BatchNorm statistics of a batch."""
    torch.manual_seed(1)
    yolo = YOLO("yolov8n.yaml")
    yolo.model = type(yolo.model)("yolov8n.yaml", nc=len(shapes.NAMES), verbose=False)
    yolo.model.names = dict(enumerate(shapes.NAMES))
    yolo.model.task = "detect"
    for module in yolo.model.modules():
        module.momentum = None if isinstance(module, torch.nn.BatchNorm2d) else getattr(module, "momentum", None)
    with torch.no_grad():
        yolo.model.train()(torch.rand(4, 3, 64, 64))
    path = tmp_path_factory.mktemp("source") / "stock.pt"
    yolo.save(path)
    return path


def trainer_of(model, data, folder, **more):
    """A trainer up to the point where it has its model."""
    trainer = DetectionTrainer(
        overrides={"model": str(model), "data": str(data), "project": str(folder), **SETTINGS, **more}
    )
    trainer.setup_model()
    return trainer


def state(trainer):
    return list(trainer.model.state_dict().values())


@pytest.mark.core
def test_through_the_stock_command(source, tiny_data, tmp_path):
    process = yolo(
        "train", "model=yolo26s-lite.yaml", f"pretrained={source}", f"data={tiny_data}", "imgsz=64", "epochs=1",
        "batch=8", "workers=0", "plots=False", f"project={tmp_path}", "name=run", cwd=tmp_path,
    )  # fmt: skip
    (line,) = [line for line in process.stdout.splitlines() if "transfer from" in line]
    assert "transfer from stock.pt: 59 layers from 24 images" in line and "YOLO_LITE_TRANSFER=0 turns it off" in line
    last = torch.load(tmp_path / "run/weights/last.pt", weights_only=False)
    assert hooks.SOURCE not in vars(last["ema"] or last["model"])


def test_never_again_on_resume(source, tiny_data, tmp_path, caplog):
    model = YOLO("yolo26s-lite.yaml")

    def stop(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    model.add_callback("on_train_epoch_start", stop)
    more = {**SETTINGS, "epochs": 2, "project": str(tmp_path), "name": "killed"}
    with pytest.raises(KeyboardInterrupt):
        model.train(data=str(tiny_data), pretrained=str(source), **more)
    assert "transfer from stock.pt" in caplog.text
    caplog.clear()
    began = []
    again = YOLO(tmp_path / "killed/weights/last.pt")
    again.add_callback("on_train_epoch_start", lambda trainer: began.append(trainer.epoch))
    again.train(resume=True)
    assert began == [1] and "Resuming training" in caplog.text and "transfer from" not in caplog.text


@pytest.mark.core
def test_loaded_in_python_and_trained(source, tiny_data, tmp_path):
    """The EMA has it, too; and without training, `load` carries over by role only."""
    model = YOLO("yolo26s-lite.yaml").load(source)
    by_role = model.model.state_dict()["model.2.0.bn.running_mean"].clone()
    assert not by_role.any()
    seen = {}

    def begun(trainer):
        seen.update(model=trainer.model.state_dict(), ema=trainer.ema.ema.state_dict())
        raise KeyboardInterrupt

    model.add_callback("on_pretrain_routine_end", begun)
    with pytest.raises(KeyboardInterrupt):
        model.train(data=str(tiny_data), project=str(tmp_path), **SETTINGS)
    assert seen["model"]["model.2.0.bn.running_mean"].any()
    assert all(torch.equal(value, seen["ema"][name]) for name, value in seen["model"].items())


def test_the_same_transfer_is_done_once(source, tiny_data, tmp_path, monkeypatch):
    """As in a search for hyperparameters: to the bit the same, without being worked out again."""
    monkeypatch.setattr("ultralytics.utils.USER_CONFIG_DIR", tmp_path)
    wanted = {"model": "yolo26s-lite.yaml", "data": tiny_data, "folder": tmp_path, "pretrained": str(source)}
    first = trainer_of(**wanted)
    (file,) = (tmp_path / "yolo_lite").iterdir()
    monkeypatch.setattr(training, "transfer", None)  # must not be called again
    again = trainer_of(**wanted, lr0=0.02)
    assert all(map(torch.equal, state(first), state(again)))
    assert str(training.transferred[again.model]) == str(training.transferred[first.model])
    other = trainer_of(**wanted, seed=5)  # would need another transfer, which fails
    assert not all(map(torch.equal, state(first), state(other)))
    assert not other.model.state_dict()["model.2.0.bn.running_mean"].any()
    file.write_bytes(b"torn")
    assert not trainer_of(**wanted).model.state_dict()["model.2.0.bn.running_mean"].any()


def test_transfers_to_other_models_have_other_keys():
    """Weights of the same shapes, but other classes, activations or connections: the result would differ."""
    torch.manual_seed(0)
    source, target = YOLO("yolov8n.yaml").model, YOLO("yolo26n-lite.yaml").model
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)

    def key():
        return cache.key_of(source, target, images, 0, training.DEFAULT, "cpu")

    keys = [key(), key()]
    for model in (source, target):
        model.names = {**model.names, 0: model.names[1], 1: model.names[0]}
        keys.append(key())
        model.yaml["activation"] = "torch.nn.ReLU()"
        keys.append(key())
        model.yaml["head"][2][2] = "C3"
        keys.append(key())
    target.yaml["yaml_file"] = "elsewhere.yaml"
    assert keys[0] == keys[1] and len({*keys}) == 7 and key() == keys[-1]


def test_only_the_last_transfers_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("ultralytics.utils.USER_CONFIG_DIR", tmp_path)
    done = Transferred((Fit("a", "b", "fitted", 0.5), Fit("c", "", "random")), 3)
    for number in range(6):
        cache.write(str(number), {"x": torch.full((2,), float(number))}, done)
        os.utime(tmp_path / f"yolo_lite/transfer-{number}.pt", (number, number))
    assert [number for number in range(6) if cache.read(str(number))] == [2, 3, 4, 5]
    kept, said = cache.read("5")
    assert said == done and torch.equal(kept["x"], torch.full((2,), 5.0))


def test_switched_off(source, tiny_data, tmp_path, monkeypatch):
    from yolo_lite.ultralytics_hooks import configs

    name = "model.2.0.bn.running_mean"  # 0 unless the layer was fitted
    assert trainer_of("yolo26s-lite.yaml", tiny_data, tmp_path, pretrained=str(source)).model.state_dict()[name].any()
    text = configs.configs()["yolo26-lite.yaml"].read_text("utf-8")
    (tmp_path / "yolo26s-mine.yaml").write_text(f"transfer: false\n{text}", "utf-8")
    mine = trainer_of(tmp_path / "yolo26s-mine.yaml", tiny_data, tmp_path, pretrained=str(source))
    assert not mine.model.state_dict()[name].any()
    monkeypatch.setenv("YOLO_LITE_TRANSFER", "0")
    other = trainer_of("yolo26s-lite.yaml", tiny_data, tmp_path, pretrained=str(source))
    assert not other.model.state_dict()[name].any()


def test_a_source_that_cannot_be_used_is_said_and_training_goes_on(tiny_data, tmp_path, caplog):
    YOLO("yolov8n-cls.yaml").save(tmp_path / "cls.pt")
    trainer = trainer_of("yolo26s-lite.yaml", tiny_data, tmp_path, pretrained=str(tmp_path / "cls.pt"))
    assert not trainer.model.state_dict()["model.2.0.bn.running_mean"].any()
    (line,) = [line for line in caplog.messages if line.startswith("WARNING") and "transfer" in line]
    assert "the source's head is Classify; needed one for boxes" in line and "by role only" in line


@pytest.mark.core
def test_stock_models_are_left_alone(source, tiny_data, tmp_path):
    trainer = trainer_of(source, tiny_data, tmp_path)
    theirs = torch.load(source, weights_only=False)["model"].float().state_dict().values()
    assert all(map(torch.equal, state(trainer), theirs))


def test_all_workers_begin_alike(source, tiny_data, tmp_path):
    """Weights and statistics come from the first; the processes' seeds differ."""
    code = f"""
        import hashlib, os, sys, torch
        rank = int(os.environ["RANK"])
        torch.distributed.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
        from ultralytics.models.yolo.detect import DetectionTrainer
        trainer = DetectionTrainer(overrides=dict(model="yolo26s-lite.yaml", pretrained={str(source)!r}, plots=False,
            data={str(tiny_data)!r}, imgsz=64, workers=0, device="cpu", project={str(tmp_path)!r}, name=str(rank)))
        torch.manual_seed(rank)
        trainer.setup_model()
        digest = hashlib.sha256()
        for value in trainer.model.state_dict().values():
            digest.update(value.numpy().tobytes())
        open(f"{tmp_path}/digest-{{rank}}", "w").write(digest.hexdigest())
    """
    from concurrent.futures import ThreadPoolExecutor

    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"} for rank in (0, 1)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda more: python(textwrap.dedent(code), tmp_path, **more), ranks))
    assert (tmp_path / "digest-0").read_text() == (tmp_path / "digest-1").read_text()


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_writes_an_ordinary_checkpoint(source, tiny_data, tmp_path, capsys):
    out = tmp_path / "mine.pt"
    words = ["transfer", "model=yolo26s-lite.yaml", f"source={source}", f"data={tiny_data}", "images=8", "imgsz=64",
             "device=cpu", f"out={out}"]  # fmt: skip
    assert commands.main(words) == 0
    said = capsys.readouterr()
    assert "59 layers from 8 images" in said.err and str(out) in said.out
    assert len([line for line in said.out.splitlines() if " fitted " in line]) > 50
    model = YOLO(out)
    assert model.names == dict(enumerate(shapes.NAMES)) and len(getattr(model.model, RECORD)["layers"]) == 59
    assert commands.main(words) == 1 and "exists" in capsys.readouterr().err
    code = f"from ultralytics import YOLO; print(YOLO({str(out)!r}).names)"
    assert shapes.NAMES[0] in python(code, tmp_path, ULTRALYTICS_SAFE_LOAD="1").stdout


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("yolo26s-lite-seg.yaml", "stock.pt", "the source's task is detect, the model's segment"),
        ("yolo26s-lite.yaml", "yolov8n.yaml", "needs a trained model, a .pt"),
        ("yolo26s-lite.yaml", "missing.pt", "source=missing.pt: there is no such file; needed a trained model"),
        ("yolo26s-lit.yaml", "stock.pt", "yolo26s-lit"),
    ],
)
def test_what_the_command_refuses(model, given, said, source, tiny_data, tmp_path, capsys):
    given = source if given == source.name else given
    out = tmp_path / "mine.pt"
    assert commands.main(["transfer", f"model={model}", f"source={given}", f"data={tiny_data}", f"out={out}"]) == 1
    assert said in capsys.readouterr().err and not out.exists()


# Comparisons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "pretrained", "said"),
    [
        ("yolo26s-lite.yaml", True, r"stock\.pt, transferred: 59 layers from 24 images: .*"),
        ("yolov8n.yaml", True, r"stock\.pt: 355 of 355 tensors"),
        pytest.param(
            *("yolov8n-w0.5.yaml", True, r"stock\.pt, transferred: 63 layers from 24 images: .*"),
            marks=pytest.mark.slow,
        ),
        ("yolov8n-mnv3.yaml", False, "random weights"),
    ],
)
def test_a_comparison_says_what_a_model_began_with(model, pretrained, said, source, tiny_data, tmp_path):
    settings = {**SETTINGS, **({"pretrained": str(source)} if pretrained else {})}
    if model == "yolov8n-w0.5.yaml":
        model = str(baselines.write_yaml(baselines.shrunk("yolov8n", 0.5), tmp_path, pretrained=True))
    folder = tmp_path / "runs" / "1"
    folder.mkdir(parents=True)
    worker.train(Job(str(folder), model, model, 0, "", str(tiny_data), settings), Start("fresh"))
    assert re.fullmatch(said, initial_weights.read(folder))


def test_notes_say_what_models_began_with():
    runs = [RunRecord(model, seed, initial_weights=f"a.pt: {seed}") for model in "ab" for seed in (0, 1)]
    assert list(_on_initial_weights([*runs, RunRecord("c", 0)])) == [
        "a started from a.pt: 0 (seed 0).",
        "b started from a.pt: 0 (seed 0).",
    ]
    assert not list(_on_initial_weights([RunRecord("a", 0, initial_weights="random weights")]))


def test_what_cannot_be_transferred_is_not_mimicked_either(source, tiny_data, tmp_path, capsys):
    grey = yaml.safe_load(tiny_data.read_text("utf-8")) | {"channels": 1}
    (tmp_path / "grey.yaml").write_text(yaml.safe_dump({"path": str(tiny_data.parent), **grey}))
    words = [
        "model=yolov8n-mnv3.yaml",
        f"source={source}",
        "images=8",
        "imgsz=64",
        "mimic=1",
        f"out={tmp_path / 'x.pt'}",
    ]
    assert commands.main(["transfer", *words, f"data={tmp_path / 'grey.yaml'}"]) == 1
    assert "the source takes images of 3 channels, found 1" in capsys.readouterr().err


@pytest.mark.slow  # mimicking itself is tested in test_transfer_fit.py, the command above
def test_the_command_mimics_first(source, tiny_data, tmp_path, capsys):
    words = ["transfer", "model=yolov8n-mnv3.yaml", f"source={source}", f"data={tiny_data}", "images=8", "imgsz=64"]
    assert commands.main([*words, "mimic=0.05", "device=cpu", f"out={tmp_path / 'mine.pt'}"]) == 0
    said = capsys.readouterr().err
    assert "mimicking:  " in said and "mimicked for 0.05 minutes; error " in said
    assert YOLO(tmp_path / "mine.pt").model.model[0].state_dict()["0.bn.running_mean"].any()
    assert commands.main([*words, "mimic=-1", f"out={tmp_path / 'other.pt'}"]) == 1
    assert "mimic has to be a finite number from 0, found" in capsys.readouterr().err
