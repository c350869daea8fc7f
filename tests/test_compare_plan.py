"""Settings of a comparison: valid ones, and those refused before anything is trained or written."""

import json
import shlex
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from yolo_lite import ConfigError
from yolo_lite.compare import baselines, compare
from yolo_lite.compare import plan as planning
from yolo_lite.compare import settings as given
from yolo_lite.compare.comparison import Comparison
from yolo_lite.compare.latency import Conditions
from yolo_lite.compare.plan import make_plan, write_folder
from yolo_lite.compare.process import command_of, job_of
from yolo_lite.compare.settings import parse

MODELS = "yolov8n,yolov8n-mnv3"


@pytest.fixture
def settings(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {"data": str(tiny_data), "models": MODELS, "seeds": "0,1", "imgsz": 32, "epochs": 2, "latency": False}


REFUSED = [
    ({"models": None}, "compare needs models="),
    ({"data": None}, "compare needs data="),
    ({"models": "yolov8n,yolov8n-mnv33"}, "there is no model 'yolov8n-mnv33'; did you mean 'yolov8n?-mnv3.yaml'"),
    ({"models": "yolov8n,yolv5n"}, "there is no model 'yolv5n'; did you mean 'yolov5n.yaml'"),
    ({"models": "yolov8n,yolov8n.yaml"}, "'yolov8n.yaml' is named twice"),
    ({"models": "yolov8n,broken-yolov8n.yaml"}, "broken-yolov8n.yaml cannot be read as a model: 'C2g'"),
    ({"models": "yolov8n,missing.pt"}, "there is no file missing.pt; yolo train makes one"),
    ({"models": "yolov8n,yolov8n-seg"}, "task 'segment'; only detectors can be compared"),
    ({"data": "nowhere.yaml"}, "data=nowhere.yaml: .*nowhere.yaml"),
    ({"data": "empty.yaml"}, "data=empty.yaml: .*images not found"),
    ({"split": "test"}, "split=test: .*no such images; choose from train, val"),
    ({"seeds": "0,1,0"}, "seeds has to be .*, found '0,1,0'; 0 is repeated"),
    ({"seeds": "0,one"}, "seeds has to be comma-separated whole numbers .*, found '0,one'; for example seeds=0,1,2"),
    ({"seeds": [-1]}, "seeds has to be comma-separated whole numbers from 0"),
    ({"seeds": {"yolov8n": [0]}}, "yolov8n-mnv3 has none"),
    ({"seeds": {"all": [0], "yolov8m": [1]}}, "seeds=yolov8m: is not one of the models; did you mean 'yolov8n'"),
    ({"baseline": "yolov5n"}, "baseline=yolov5n: is not one of the models; did you mean 'yolov8n'"),
    ({"epoch": 3}, "unknown setting epoch=; did you mean 'epochs'"),
    ({"modles": "a"}, "unknown setting modles=; did you mean 'models'"),
    ({"model": "yolov8n"}, "model= cannot be set for yolo-lite compare; use models="),
    ({"seed": 1}, "use seeds="),
    ({"resume": True}, "resume= cannot be set for yolo-lite compare; use restart=True or the default, which continues"),
    ({"epochs": 0}, "epochs has to be a whole number above 0, found 0"),
    ({"epochs": "ten"}, "training arguments: 'epochs=ten'"),
    ({"lr0": "fast"}, "training arguments: 'lr0=fast'"),
    ({"imgsz": [64, 32]}, "imgsz"),
    ({"imgsz": {"yolov8n": 32}}, "imgsz: yolov8n-mnv3 has none; name it or give all:"),
    ({"imgsz": {"all": 32, "yolov8m": 64}}, "imgsz=yolov8m: is not one of the models; did you mean 'yolov8n'"),
    ({"imgsz": {"all": 32, "yolov8n": 33}}, "imgsz has to be a multiple of 32, or a value for each model"),
    ({"imgsz": {"all": 32, "yolov8n": 64}, "match": "gflops"}, "match=gflops: needs one imgsz for all models"),
    ({"imgsz": 300}, "imgsz has to be a multiple of 32, found 300; the nearest is 288"),
    ({"batch": -1}, "batch has to be a whole number above 0, found -1"),
    ({"batch": 0.7}, "batch has to be a whole number above 0, found 0.7; chosen by memory, it would differ"),
    ({"cpus": "two"}, "cpus has to be a finite number from 0, found 'two'"),
    ({"gpus": -1}, "gpus has to be a finite number from 0, found -1"),
    ({"task": "segment"}, "task=segment"),
    ({"pretrained": "missing.pt"}, "pretrained=missing.pt: there is no such file; needed a trained model"),
    ({"val": False}, "val=False"),
    ({"seeds": 2**31}, "seeds has to be comma-separated whole numbers from 0 to 2147483647.*, found 2147483648"),
    ({"settings": "mine.yaml"}, "unknown setting settings="),
    ({"project": "empty.yaml"}, "empty.yaml is a file; choose another project="),
    ({"match_for": "yolov8n-mnv3"}, "match_for=yolov8n-mnv3: needs match=gflops or match=latency"),
    ({"match": "gflops", "models": "yolov8n,yolov5n"}, "match=gflops: no model has a stock model in its name"),
    ({"match": "flops"}, "match has to be one of gflops, latency, found 'flops'; did you mean 'gflops'"),
    (
        {"match": "gflops", "models": "yolov8n,yolov8s-mnv3,yolov8n-timm", "match_for": "yolov8n"},
        "yolov8n has no stock",
    ),
    ({"match": "gflops", "match_for": "yolov8n-mnv3:mnv3"}, "needs a stock model with its scale letter, like yolov8n"),
    ({"parallel": 0}, "parallel has to be a whole number above 0, found 0"),
    ({"restart": "maybe"}, "restart has to be True or False, found 'maybe'"),
    ({"latency": True, "runtimes": "onnxruntim"}, "unknown runtime 'onnxruntim'; did you mean 'onnxruntime'"),
    ({"latency": True, "threads": "0"}, "threads has to be comma-separated whole numbers above 0, found '0'"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_refused(settings, tmp_path, change, message):
    text = baselines.write_yaml(baselines.shrunk("yolov8n", 0.5), tmp_path / "ours").read_text()
    (tmp_path / "broken-yolov8n.yaml").write_text(text.replace("C2f", "C2g"))
    (tmp_path / "empty.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=message) as error:
        make_plan(settings, change)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_space(settings, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(ConfigError, match="4 runs need about 0.1 GB, found 0.0 GB free"):
        make_plan(settings)
    assert not (tmp_path / "runs").exists()
    for label, status in (("yolov8n", "failed"), ("yolov8n-mnv3", "finished")):  # failed runs are tried again
        folder = tmp_path / "runs/compare/compare/runs" / label / "0"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"status": status}))
    monkeypatch.setattr(planning, "read_folder", lambda folder: None)
    with pytest.raises(ConfigError, match="3 runs need"):
        make_plan(settings)


def test_missing_package(settings, monkeypatch):
    found = given.importlib.util.find_spec
    monkeypatch.setattr(
        given.importlib.util, "find_spec", lambda name, *more: None if name == "ray" else found(name, *more)
    )
    make_plan(settings)
    with pytest.raises(ConfigError, match=r"compare needs ray: pip install ray"):
        make_plan(settings, {"ray": "auto"})


def test_plan(settings, tmp_path):
    plan = make_plan(settings, {"project": "out", "name": "mine", "lr0": 0.02, "nbs": 16})
    assert plan.folder == tmp_path / "out" / "mine" and not plan.folder.exists()
    assert [(run.model.label, run.seed) for run in plan.runs] == [
        ("yolov8n", 0), ("yolov8n-mnv3", 0), ("yolov8n", 1), ("yolov8n-mnv3", 1),
    ]  # fmt: skip
    assert plan.comparison.baseline == "yolov8n"
    assert plan.comparison.train == {
        "batch": 16, "deterministic": True, "epochs": 2, "imgsz": 32, "lr0": 0.02, "nbs": 16, "plots": False,
    }  # fmt: skip
    assert str(tmp_path) not in json.dumps(plan.comparison.to_plain())
    assert plan.models[0].parameters > plan.models[1].parameters > 0


def test_image_sizes_by_model(settings):
    plan = make_plan({**settings, "imgsz": {"all": 32, "yolov8n-mnv3": 64}})
    assert [plan.comparison.imgsz(model.label) for model in plan.models] == [32, 64]
    for run in plan.runs:
        size = 64 if run.model.label == "yolov8n-mnv3" else 32
        assert job_of(plan, run).settings["imgsz"] == size and f" imgsz={size} " in command_of(plan, run)
    small, large = (make_plan({**settings, "imgsz": size}).models[1].gflops for size in (32, 64))
    assert plan.models[1].gflops == large > small
    assert plan.conditions.sizes == {"yolov8n": 32, "yolov8n-mnv3": 64}
    assert Comparison.from_plain(plan.comparison.to_plain()).models == plan.comparison.models
    write_folder(plan)
    with pytest.raises(ConfigError, match="yolov8n at 32 px, found 64 px"):
        make_plan({**settings, "imgsz": 64})
    _, words = parse(["imgsz=all:32,yolov8n-mnv3:64"])
    assert words["imgsz"] == {"all": 32, "yolov8n-mnv3": 64}
    assert not make_plan({**settings, "imgsz": {"all": 32}, "name": "same"}).comparison.differ_in_imgsz


def test_yaml_file_and_command_line_say_the_same(settings, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({**settings, "models": MODELS.split(","), "seeds": [0, 1], "epochs": 7})
    )
    file, words = parse(["mine.yaml", "epochs=2"])
    assert (file, words) == ("mine.yaml", {"epochs": 2})
    _, typed = parse([f"{key}={value}" for key, value in settings.items()])
    assert make_plan(file, words).comparison == make_plan(typed).comparison == make_plan(settings).comparison
    with pytest.raises(ConfigError, match="compare has epochs= twice; remove one"):
        parse(["epochs=1", "epochs=2"])
    with pytest.raises(
        ConfigError, match=r"compare expects .*key=value .*, found 'epochs'; for example yolo-lite compare .*models="
    ):
        parse(["epochs", "2"])
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="list.yaml: expected settings"):
        make_plan("list.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: Zellkörper".encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.yaml: .* codec can't decode"):
        make_plan("latin.yaml")


def test_settings_of_that_name_are_refused_from_python_too(settings):
    with pytest.raises(ConfigError, match="unknown setting settings="):
        compare({**settings, "settings": 1})
    with pytest.raises(ConfigError, match="unknown setting settings="):
        compare(settings, settings=1)


def test_recorded_commands_can_be_pasted(settings):
    plan = make_plan(settings, {"classes": [0, 1]})
    plan = replace(plan, settings=replace(plan.settings, data="My data, v2/x.yaml"))
    words = shlex.split(command_of(plan, plan.runs[0]))
    assert words[:2] == ["yolo", "train"] and {"data=My data, v2/x.yaml", "classes=[0,1]"} <= set(words)


def test_models_by_name_file_and_checkpoint(settings, trained, tmp_path):
    shutil.copy(baselines.write_yaml(baselines.shrunk("yolov8n", 0.5), tmp_path), tmp_path / "yolov8n.yaml")
    best, last = trained / "weights/best.pt", trained / "weights/last.pt"
    plan = make_plan(settings, {"models": ["yolov8n-mnv3.yaml", str(best), str(last), "./yolov8n.yaml"], "seeds": 0})
    assert [model.label for model in plan.models] == ["yolov8n-mnv3", "best.pt", "last.pt", "yolov8n"]
    assert plan.models[0].parameters == plan.models[1].parameters == plan.models[2].parameters
    assert plan.models[0].source == "yolov8n-mnv3.yaml" and plan.models[3].source == str(tmp_path / "yolov8n.yaml")
    (tmp_path / "other").mkdir()
    shutil.copy(best, tmp_path / "other" / "best.pt")
    labels = [model.label for model in make_plan(settings, {"models": ["other/best.pt", str(best)]}).models]
    assert labels == ["other-best.pt", "weights-best.pt"]


def test_what_may_change_in_a_folder(settings, tiny_data, tmp_path):
    write_folder(make_plan(settings))
    file = tmp_path / "runs/compare/compare/comparison.json"
    before = file.read_bytes()
    make_plan(settings, {"parallel": 2, "restart": True, "threads": 2})
    assert make_plan(settings, {"baseline": "yolov8n-mnv3"}).comparison.baseline == "yolov8n-mnv3"
    more = make_plan(settings, {"models": MODELS + ",yolov5n", "seeds": {"all": [0, 1], "yolov5n": [0, 1, 2]}})
    assert len(more.runs) == 7
    moved = tmp_path / "moved"
    shutil.copytree(tiny_data.parent, moved)
    (moved / "tiny.yaml").write_text(tiny_data.read_text().replace(str(tiny_data.parent), str(moved)))
    make_plan(settings, {"data": str(moved / "tiny.yaml")})
    label = next((moved / "labels" / "val").glob("*.txt"))
    label.write_text("0 0.5 0.5 0.25 0.25\n")
    for change, message in [
        ({"epochs": 3}, "holds another comparison: epochs=2, found 3"),
        ({"cos_lr": True}, "cos_lr=None, found True"),
        ({"models": "yolov8n"}, "it has the model yolov8n-mnv3 too"),
        ({"seeds": "0,2"}, "it has yolov8n with seed 1 too"),
        ({"split": "train"}, "data's split = val, found train"),
        ({"data": str(moved / "tiny.yaml")}, "its images or labels"),
    ]:
        with pytest.raises(ConfigError, match=message):
            make_plan(settings, change)
    assert file.read_bytes() == before


def test_lists_on_the_command_line_go_on(settings):
    for words in (["classes=0,1", "project=2024"], ["classes=[0,1]", "project=2024"]):
        plan = make_plan(settings, parse(words)[1])
        write_folder(plan)
        assert plan.comparison.train["classes"] == [0, 1] and plan.folder.parent.name == "2024"


def test_other_images_under_the_same_names_are_refused(settings, tiny_data, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_data.parent, moved)
    data = moved / "tiny.yaml"
    data.write_text(tiny_data.read_text().replace(str(tiny_data.parent), str(moved)))
    write_folder(make_plan(settings, {"data": str(data)}))
    image = next((moved / "images" / "train").iterdir())
    image.write_bytes(image.read_bytes() + b" ")
    with pytest.raises(ConfigError, match="its images' files have changed in size"):
        make_plan(settings, {"data": str(data)})


def test_a_second_checkpoint_of_the_same_name_may_join(settings, trained, tmp_path):
    best = str(trained / "weights/best.pt")
    write_folder(make_plan(settings, {"models": ["yolov8n", best]}))
    (tmp_path / "other").mkdir()
    shutil.copy(trained / "weights/last.pt", tmp_path / "other/best.pt")
    plan = make_plan(settings, {"models": ["yolov8n", best, "other/best.pt"]})
    assert [model.label for model in plan.models] == ["yolov8n", "best.pt", "other-best.pt"]


def test_two_models_of_one_label_are_refused(settings, trained, tmp_path):
    for name in ("a b.pt", "a_b.pt"):
        shutil.copy(trained / "weights/best.pt", tmp_path / name)
    with pytest.raises(ConfigError, match="two would be called a_b.pt; rename one of the files"):
        make_plan(settings, {"models": ["a b.pt", "a_b.pt"]})


def test_the_first_moments_of_a_folder_are_ours(settings, tmp_path):
    folder = tmp_path / "runs/compare/compare"
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("1")
    (folder / ".comparison.json.7").write_text("{")
    plan = make_plan(settings)
    write_folder(plan)
    sizes = [path.stat().st_size for path in sorted((folder / "samples").iterdir())]
    (folder / "samples/1.jpg").unlink()
    write_folder(make_plan(settings))
    assert [path.stat().st_size for path in sorted((folder / "samples").iterdir())] == sizes


def test_a_changed_model_is_refused(settings, tmp_path):
    path = baselines.write_yaml(baselines.shrunk("yolov8n", 0.5), tmp_path)
    write_folder(make_plan(settings, {"models": f"yolov8n,{path}"}))
    path.write_text("# another comment\n" + path.read_text() + "transfer: true\n")  # the same model
    make_plan(settings, {"models": f"yolov8n,{path}"})
    path.write_text(path.read_text().replace("[-1, 3,", "[-1, 1,", 1))
    with pytest.raises(ConfigError, match="yolov8n-w0.5 has changed since"):
        make_plan(settings, {"models": f"yolov8n,{path}"})


def test_a_folder_of_something_else_is_refused(settings, tmp_path):
    folder = tmp_path / "runs/compare/compare"
    folder.mkdir(parents=True)
    make_plan(settings)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists, but is not a comparison; choose another name="):
        make_plan(settings)
    (folder / "comparison.json").write_text("{torn")
    with pytest.raises(ConfigError, match="comparison.json: cannot be read"):
        make_plan(settings)


def test_equal_gflops(settings):
    plan = make_plan(settings, {"match": "gflops", "models": MODELS + ",yolov8n-mnv2"})
    by_label = {model.label: model for model in plan.models}
    found = {label: by_label[matched] for label, matched in plan.comparison.size_matched.items()}
    assert set(found) == {"yolov8n-mnv3", "yolov8n-mnv2"}
    conditions = Conditions(4, 32, (), (1,))
    measured = [baselines.gflops_of(one, conditions) for one in baselines.candidates("yolov8n")]
    assert measured == sorted(measured, reverse=True) and len(measured) > 10
    for label, matched in found.items():
        target = by_label[label].gflops
        assert abs(matched.gflops - target) == min(abs(each - target) for each in measured)  # the nearest candidate
        assert matched.gflops == pytest.approx(target, rel=0.1)
    write_folder(plan)
    for matched in found.values():
        d = yaml.safe_load(Path(matched.source).read_text())
        channels = [row[3][0] for row in d["backbone"] + d["head"] if row[2] in ("Conv", "C2f", "SPPF")]
        assert channels and not any(each % 16 for each in channels)
    again = make_plan(settings, {"match": "gflops", "models": MODELS + ",yolov8n-mnv2"})
    assert json.loads(json.dumps(again.comparison.to_plain())) == json.loads(
        (plan.folder / "comparison.json").read_text()
    )


def test_a_size_matched_baseline_of_another_base(settings):
    plan = make_plan(settings, {"match": "gflops", "match_for": "yolov8n-mnv3:yolov8s"})
    ((label, model),) = ((label, each) for label, each in plan.comparison.models.items() if each.size_matched)
    assert model.size_matched.base == "yolov8s" and model.size_matched.match_for == {"yolov8n-mnv3": None}
    assert label == f"yolov8s-w{model.size_matched.width:g}" == plan.models[-1].label
    write_folder(plan)
    make_plan(settings, {"match": "gflops", "match_for": "yolov8n-mnv3:yolov8s"})
    with pytest.raises(ConfigError, match="holds another comparison, whose size-matched baseline of it is yolov8s-w"):
        make_plan(settings, {"match": "gflops", "match_for": "yolov8n-mnv3:yolov8n"})


def test_a_written_baseline_is_what_was_measured(tmp_path):
    from yolo_lite import models

    one = baselines.shrunk("yolo11n", 0.6)
    path = baselines.write_yaml(one, tmp_path)
    built, digest = models.build(str(path), 4)
    assert digest == models.digest_of({**one.yaml, "scale": "n"})
    assert sum(p.numel() for p in built.parameters()) > 100_000


def test_shrunk_to_nothing_changes_nothing():
    """At width 1 it is the base itself."""
    from ultralytics.nn.tasks import DetectionModel

    base = DetectionModel("yolov8n.yaml", verbose=False)
    same = DetectionModel({**baselines.shrunk("yolov8n", 1.0).yaml, "scale": "n"}, verbose=False)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (base, same)]
    assert shapes[0] == shapes[1]
