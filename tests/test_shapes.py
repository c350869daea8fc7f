"""The generated dataset: the same everywhere, complete or absent, labels where the shapes are."""

import cv2
import numpy as np
import pytest
from conftest import python

from yolo_lite import shapes


def test_deterministic_and_varied():
    first, objects = shapes.draw(np.random.default_rng((0, 5)))
    again, _ = shapes.draw(np.random.default_rng((0, 5)))
    assert np.array_equal(first, again)
    assert first.shape == (shapes.SIZE, shapes.SIZE, 3) and first.dtype == np.uint8
    pictures = [shapes.draw(np.random.default_rng((0, i)))[1] for i in range(60)]
    assert {each.cls for objects in pictures for each in objects} == set(range(len(shapes.NAMES)))
    sizes = [np.ptp(each.outline, 0).max() for objects in pictures for each in objects]
    assert min(sizes) < 50 and max(sizes) > 120


def test_boxes_are_where_the_colours_are():
    """On a black background without noise, the drawn pixels fill exactly the labelled box."""
    for index in range(20):
        _, objects = shapes.draw(np.random.default_rng((0, index)))
        shape = objects[-1]._replace(colour=(255, 255, 255))
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
    shapes.generate(tmp_path)  # the rest
    for split, count in shapes.SPLITS.items():
        images = sorted((tmp_path / "images" / split).iterdir())
        labels = sorted((tmp_path / "labels" / split).iterdir())
        assert len(images) == len(labels) == count
        assert [p.stem for p in images] == [p.stem for p in labels]
    assert {p.name for p in (tmp_path / "images").iterdir()} == {"train", "val"}


def test_made_through_the_hosts_download_key(tmp_path):
    code = """
        from ultralytics.data.utils import check_det_dataset
        from ultralytics.utils import SETTINGS
        from yolo_lite import shapes
        import ultralytics.data.utils as utils, pathlib
        utils.DATASETS_DIR = pathlib.Path.cwd() / "datasets"
        shapes.SPLITS.update(train=3, val=2)
        data = check_det_dataset("shapes.yaml")
        print("FOUND", data["names"], len(list(pathlib.Path(data["val"]).iterdir())), data["nc"])
    """
    import textwrap

    output = python(textwrap.dedent(code), tmp_path).stdout
    assert "FOUND {0: 'circle', 1: 'triangle', 2: 'square', 3: 'star'} 2 4" in output
    assert len(list((tmp_path / "datasets/shapes/images/train").iterdir())) == 3
