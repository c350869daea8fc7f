"""Models by name or file: lookup, labels, digests that identify them, and refusals."""

from dataclasses import replace

import pytest

from yolo_lite import ConfigError, models
from yolo_lite.ultralytics_hooks import configs


def test_a_name_and_its_file_are_the_same_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = models.load("yolov8n-mnv3", 64)
    assert (named.label, named.source, named.given) == ("yolov8n-mnv3", "yolov8n-mnv3.yaml", "yolov8n-mnv3")
    (tmp_path / "yolov8-mine.yaml").write_text(configs.configs()["yolov8-mnv3.yaml"].read_text("utf-8"))
    filed = models.load("yolov8n-mine", 64, label="mine")
    assert (filed.label, filed.source) == ("mine", str(tmp_path / "yolov8n-mine.yaml"))
    assert filed.digest == named.digest != models.load("yolov8s-mine.yaml", 64).digest
    assert replace(filed, label="", source="", given="") == replace(named, label="", source="", given="")


def test_for_a_number_of_classes_it_is_the_same_model_with_another_head():
    (detector,) = models.load_detectors(["yolov8n"], 3, [64])
    opened = models.load("yolov8n", 64)
    assert detector.digest == opened.digest and detector.parameters < opened.parameters
    known = {("yolov8n", detector.digest): "stock"}
    assert models.load_detectors(["yolov8n"], 3, [64], known) == [replace(detector, label="stock")]


def test_a_checkpoint_is_known_by_its_bytes(tmp_path):
    from ultralytics import YOLO

    digests = set()
    for name in ("a.pt", "b.pt"):
        YOLO("yolov8n.yaml").save(tmp_path / name)
        opened = models.load(tmp_path / name, 64)
        (detector,) = models.load_detectors([tmp_path / name], 80, [64])
        assert detector.digest == opened.digest and not models.is_random(opened.source)
        digests.add(opened.digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["yolov8n", "yolov8n-mnv3.yaml", "a/best.pt"], ["yolov8n", "yolov8n-mnv3", "best.pt"]),
        (["a/best.pt", "b/best.pt"], ["a-best.pt", "b-best.pt"]),
        (["a/x/best.pt", "b/x/best.pt", "b/y/best.pt"], ["a-x-best.pt", "b-x-best.pt", "b-y-best.pt"]),
        (["my model.yaml"], ["my_model"]),
        ([], []),
    ],
)
def test_labels(given, expected):
    assert models.labels(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("yolov8n-mnv33", "there is no model 'yolov8n-mnv33'; did you mean 'yolov8n-mnv3.yaml'?"),
        ("yolov8s-ghosst.yaml", "there is no model 'yolov8s-ghosst.yaml'; did you mean 'yolov8s-ghost.yaml'?"),
        ("yolv5l", "there is no model 'yolv5l'; did you mean 'yolov5l.yaml'?"),
        ("away/yolov8n-mnv33.yaml", "there is no model 'away/yolov8n-mnv33.yaml'; did you mean 'yolov8n-mnv3.yaml'?"),
        ("nothing", "there is no model 'nothing'"),
        ("yolov8n.pt", "there is no file yolov8n.pt; without .pt, yolov8n is built with random weights"),
        ("ton.pt", "there is no file ton.pt; did you mean 'torn.pt'?"),
        (".", "'.' is not the name of a model"),
        ("torn.pt", "torn.pt cannot be read as a model: "),
        ("yolov8n-torn.yaml", "yolov8n-torn.yaml cannot be read as a model: 'C2g'"),
        ("yolov8n-wrong", "{}/yolov8n-wrong.yaml, backbone row 2 [-1, 3, ASPPP, [128, true]]: unknown module 'ASPPP'"),
    ],
)
def test_the_same_sentence_everywhere(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.pt").write_bytes(b"torn")
    stock = configs.stock_configs()["yolov8"].read_text("utf-8")
    (tmp_path / "yolov8-torn.yaml").write_text(stock.replace("C2f", "C2g"))
    (tmp_path / "yolov8-wrong.yaml").write_text(stock.replace("C2f", "ASPPP"))
    said = []
    for read in (lambda: models.load(given, 64), lambda: models.load_detectors([given], 3, [64])):
        with pytest.raises(ConfigError) as refusal:
            read()
        said.append(str(refusal.value))
    assert said[0] == said[1] and said[0].startswith(message.replace("{}", str(tmp_path))) and "\n" not in said[0]


def test_what_a_comparison_refuses():
    with pytest.raises(ConfigError, match=r"^models: 'yolov8n.yaml' is named twice$"):
        models.load_detectors(["yolov8n", "yolov8n.yaml"], 3, [64, 64])
    with pytest.raises(ConfigError, match=r"^yolov8n-seg.yaml: is a model for the task 'segment'; only detectors"):
        models.load_detectors(["yolov8n-seg"], 3, [64])
    assert models.load("yolov8n-seg", 64).yolo.task == "segment"
