"""The generated dataset: identical on all machines, complete or absent, with labels that match the shapes."""

import textwrap
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import python

from yolo_lite import make
from yolo_lite.datasets import shapes
from yolo_lite.options import TASKS


def test_deterministic_and_varied():
    first, objects = shapes.draw(np.random.default_rng((0, 5)))
    again, _ = shapes.draw(np.random.default_rng((0, 5)))
    assert np.array_equal(first, again)
    assert first.shape == (shapes.SIZE, shapes.SIZE, 3) and first.dtype == np.uint8
    drawn = [shapes.draw(np.random.default_rng((0, i)))[1] for i in range(60)]
    assert {each.cls for objects in drawn for each in objects} == set(range(len(shapes.NAMES)))
    sizes = [np.ptp(each.outline, 0).max() for objects in drawn for each in objects]
    assert min(sizes) < 50 and max(sizes) > 120


def test_boxes_are_where_the_colours_are():
    """On a black background without noise, the drawn pixels fill exactly the labelled box."""
    for index in range(20):
        _, objects = shapes.draw(np.random.default_rng((0, index)))
        shape = replace(objects[-1], colour=(255, 255, 255))
        canvas = np.zeros((shapes.SIZE, shapes.SIZE), np.uint8)
        cv2.fillPoly(canvas, [np.round(shape.outline).astype(np.int32)], 255)
        ys, xs = np.nonzero(canvas)
        cls, x, y, w, h = (float(v) for v in shapes.LABELS["detect"](shape).split())
        box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * shapes.SIZE
        assert cls == shape.cls
        assert np.abs(box - [xs.min(), ys.min(), xs.max(), ys.max()]).max() <= 1


def test_generate_is_complete_or_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 4, "val": 2})
    calls = []

    def interrupted(rng):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return draw(rng)

    draw = shapes.draw
    monkeypatch.setattr(shapes, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shapes.generate(tmp_path)
    assert (tmp_path / "images/train").is_dir() and not (tmp_path / "images/val").exists()
    shapes.generate(tmp_path)  # generate the rest
    for split, count in shapes.SPLITS.items():
        images = sorted((tmp_path / "images" / split).iterdir())
        labels = sorted((tmp_path / "labels" / split).iterdir())
        assert len(images) == len(labels) == count
        assert [p.stem for p in images] == [p.stem for p in labels]
    assert {p.name for p in (tmp_path / "images").iterdir()} == {"train", "val"}


@pytest.mark.slow  # the datasets of the trainings below are generated in the same way
def test_made_through_the_download_key(tmp_path):
    code = """
        from ultralytics.data.utils import check_det_dataset
        from ultralytics.utils import SETTINGS
        from yolo_lite.datasets import shapes
        import ultralytics.data.utils as utils, pathlib
        utils.DATASETS_DIR = pathlib.Path.cwd() / "datasets"
        shapes.SPLITS.update(train=3, val=2)
        data = check_det_dataset("shapes.yaml")
        print("FOUND", data["names"], len(list(pathlib.Path(data["val"]).iterdir())), data["nc"])
    """
    output = python(textwrap.dedent(code), tmp_path).stdout
    assert "FOUND {0: 'circle', 1: 'triangle', 2: 'square', 3: 'star'} 2 4" in output
    assert len(list((tmp_path / "datasets/shapes/images/train").iterdir())) == 3


def test_labels_of_every_task_describe_the_same_outline():
    """Polygon, rotated box and keypoints against the outline and the box they belong to."""
    for index in range(20):
        _, objects = shapes.draw(np.random.default_rng((0, index)))
        for shape in objects:
            labels = {task: np.array(line(shape).split(), float) for task, line in shapes.LABELS.items()}
            assert {label[0] for label in labels.values()} == {shape.cls}
            assert np.abs(labels["segment"][1:].reshape(-1, 2) * shapes.SIZE - shape.outline).max() < 1e-3
            corners = (labels["obb"][1:].reshape(4, 2) * shapes.SIZE).astype(np.float32)
            sides = np.linalg.norm(corners - np.roll(corners, 1, 0), axis=1)
            inside = [cv2.pointPolygonTest(corners, tuple(map(float, point)), True) for point in shape.outline]
            clipped = corners.min() <= 0 or corners.max() >= shapes.SIZE
            assert clipped or min(inside) > -0.1
            assert clipped or np.isclose(sides[0], sides[2], atol=0.01) and np.isclose(sides[1], sides[3], atol=0.01)
            assert np.array_equal(labels["pose"][:5], labels["detect"])
            points = labels["pose"][5:].reshape(5, 3)
            x, y, w, h = labels["detect"][1:]
            assert (points[:, 2] == 2).all()
            assert np.allclose(points[[1, 3], 1], [y - h / 2, y + h / 2], atol=1e-5)  # top and bottom
            assert np.allclose(points[[4, 2], 0], [x - w / 2, x + w / 2], atol=1e-5)  # left and right


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_other_tasks_have_the_same_images(task, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 4, "val": 2})
    shapes.generate(tmp_path / "a")
    shapes.generate(tmp_path / "b", task)
    if task == "classify":
        boxes = sum(len(path.read_text().splitlines()) for path in (tmp_path / "a/labels/train").iterdir())
        assert len(list((tmp_path / "b/train").glob("*/*.jpg"))) == boxes
        assert {path.name for path in (tmp_path / "b/train").iterdir()} <= set(shapes.NAMES)
        return
    for path in (tmp_path / "a/images").rglob("*.jpg"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.parametrize(
    "task", ["segment", *(pytest.param(task, marks=pytest.mark.slow) for task in ("pose", "obb", "classify"))]
)
def test_each_task_trains_with_a_swapped_backbone(task, tmp_path):
    """By the dataset's bare name, as the stock command has it; the dataset appears where Ultralytics keeps its own."""
    suffix = TASKS[task]
    out = tmp_path / f"yolo11-my{suffix}.yaml"
    make("yolo11", "shufflenet_v2_x0_5", task=task, width=1.0, scale="n", count=False, out=out)
    data = f"shapes{suffix}" + ".yaml" * (task != "classify")
    code = f"""
        import pathlib
        import ultralytics.data.utils as utils
        from ultralytics.cfg import entrypoint
        from yolo_lite.datasets import shapes
        utils.DATASETS_DIR = pathlib.Path.cwd() / "datasets"
        shapes.SPLITS.update(train=8, val=4)
        words = "model=yolo11n-my{suffix}.yaml data={data} imgsz=64 epochs=1 batch=4 workers=0 plots=False"
        entrypoint(f"yolo {task} train {{words}} project={tmp_path} name=run")
    """
    python(textwrap.dedent(code), tmp_path)
    assert (tmp_path / "datasets" / f"shapes{suffix}").is_dir()
    assert len(list(tmp_path.rglob("weights/best.pt"))) == 1
