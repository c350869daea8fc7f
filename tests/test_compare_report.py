"""Report of a finished comparison with made-up figures, and the uncertainty due to the test set."""

import csv
import json
import re
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from browser import CHROMIUM, in_chromium
from made_up import make_size_matched, write_comparison, write_counts

from yolo_lite import ConfigError
from yolo_lite.compare import bootstrap, collect, write_report
from yolo_lite.compare.report import data_files, search
from yolo_lite.compare.report.figures import tried

LEVELS = {"yolov8n": 0.5, "yolov8n-mnv3": 0.4, "yolov8n-twin": 0.5}


pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def folder(few_resamples, tmp_path_factory):
    folder = write_comparison(tmp_path_factory.mktemp("report") / "made-up", LEVELS)
    measurements = [
        {"model": label, "runtime": "onnxruntime", "threads": 1, "precision": "fp32", "p50": 10.0 - i, "p90": 11.0 - i,
         "ratio": 1 - i / 10, "low": 0.9 - i / 10, "high": 1.1 - i / 10, "size": 10**7}
        for i, label in enumerate([*LEVELS, "yolov8n"])
    ]  # fmt: skip
    measurements[-1]["control"] = True
    latency = {"models": {label: label for label in LEVELS}, "imgsz": 64, "seconds": 1, "runtimes": ["onnxruntime"],
               "threads": [1], "environment": {"CPU": "a processor"}, "measurements": measurements}  # fmt: skip
    (folder / "latency.json").write_text(json.dumps(latency))
    write_report(folder)
    return folder


def test_tables_say_the_same(folder):
    results = json.loads((folder / "results.json").read_text())
    with open(folder / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["seed"]) for row in rows] == [
        (label, str(seed)) for label in LEVELS for seed in range(3)
    ]
    assert {row["epochs"] for row in rows} == {"6"}  # the last epoch, whose metrics are reported
    for label, model in results["models"].items():
        values = [float(row["mAP50-95"]) for row in rows if row["model"] == label]
        assert model["metrics"]["mAP50-95"]["mean"] == pytest.approx(np.mean(values))
        assert model["metrics"]["mAP50-95"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert results["models"]["yolov8n-mnv3"]["difference"]["mAP50-95"]["verdict"] == "worse"
    assert results["models"]["yolov8n-twin"]["difference"]["mAP50-95"]["verdict"] == "no difference shown"
    text = (folder / "summary.md").read_text()
    assert "Shown to be worse than yolov8n: yolov8n-mnv3." in text
    assert "No difference shown from yolov8n: yolov8n-twin." in text
    assert text.count("| worse |") == 1 and "onnxruntime fp32 1 thread, ms" in text


def test_plots_are_there_as_png_and_svg(folder):
    names = {path.name for path in (folder / "plots").iterdir()}
    stems = {"difference-mAP50-95", "parameters", "gflops", "latency-onnxruntime-fp32-1-thread"}
    stems |= {f"curve-{name}" for name in ("F1", "mAP50", "mAP50-95", "P", "R", "train-box_loss", "val-dfl_loss")}
    assert {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")} <= names
    for path in (folder / "plots").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000, path


def test_page_is_one_file(folder):
    page = (folder / "report.html").read_text("utf-8")
    for link in re.findall(r"""(?:src|href)=["']([^"']*)|url\(["']?([^"')]*)""", page):
        assert "".join(link).startswith(("#", "data:")), link
    assert "@import" not in page and "fetch(" not in page
    assert page.count('class="photo photo-') == 2 * (1 + len(LEVELS))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_page_of_a_search(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "searched")
    rows = [
        search.Row("yolov8n-mnv3", 9.0, 2.5, 64, 9, 0.4, "finalist"),
        search.Row("yolov8n", 10.0, 3.0, 64, 9, 0.5, "finalist"),
        search.Row("slow <b>", 20.0, 3.0, 64, 0, None, "over the budget"),
        search.Row("short", 8.0, 1.0, 32, 1, 0.3, "dropped after 1 epoch"),
        search.Row("beaten", 9.5, 1.0, 32, 1, 0.2, "dropped after 1 epoch"),
        search.Row("broken", None, 1.0, 32, 0, None, "failed: it cannot be exported"),
    ]
    told = search.Search(12, "onnxruntime fp32, 1 thread", 300, 0.031, "my.yaml", rows)
    (tmp_path / "searched" / search.FILE).write_text(json.dumps(asdict(told)))
    results = write_report(tmp_path / "searched")
    page = (tmp_path / "searched/report.html").read_text("utf-8")
    assert "300 candidates, 6 of them measured (onnxruntime fp32, 1 thread), budget 12 ms" in page
    assert "has a median error of 3.1 %" in page
    assert "slow &lt;b&gt;" in page and "failed: it cannot be exported" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and "search-time" in ids
    shown = tried(search.read(tmp_path / "searched"), results).shows
    assert shown.front == [(8.0, 0.3), (9.0, 0.4), (10.0, 0.5)]
    assert {point.label for point in shown.points} == {"yolov8n-mnv3", "yolov8n", "short", ""}
    assert results.recommendation.model == "yolov8n-twin"
    train, export = search.commands(results, told)
    assert train == "yolo train model=../models/yolov8n-twin.yaml data=my.yaml imgsz=64 epochs=18"
    assert export == "yolo export model=runs/yolov8n-twin/0/weights/last.pt imgsz=64 format=onnx"
    assert search.faster(results) is None or search.faster(results).startswith("Faster: yolov8n-")
    assert "The search" not in (folder / "report.html").read_text("utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("width", "dark"), [(1366, False), (800, False), (390, True)])
def test_page_in_chromium(folder, tmp_path, width, dark):
    found, said = in_chromium((folder / "report.html").read_text("utf-8"), tmp_path, width, dark)
    assert said == [] and found is not None
    assert found["ready"] == "true" and found["faded"]
    assert found["order"] == ["yolov8n-twin", "yolov8n-mnv3"] or found["order"] == ["yolov8n", "yolov8n-mnv3"]
    assert found["plots"] == len(list((folder / "plots").glob("*.svg"))) and found["empty"] == 0
    assert found["sections"] == ["table", "plots", "classes", "samples", "latency", "runs"]
    assert found["width"] == width and found["tooWide"] <= 0
    assert found["holes"] == []
    assert found["scrolls"] and found["scrolled"] > 50 and found["stays"]
    assert found["columns"][:7] == [
        "Model", "mAP50-95", "Verdict", "Δ mAP50-95, 95 % interval", "Parameters, M", "GFLOPs",
        "onnxruntime fp32 1 thread, p50 / p90, ms",
    ]  # fmt: skip
    light = sum(map(int, re.findall(r"\d+", found["ink"])[:3])) > 380
    assert light == dark


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_would_notice(folder, tmp_path):
    page = (folder / "report.html").read_text("utf-8")
    _, said = in_chromium(page.replace("</main>", '<img src="https://example.com/x.png"></main>'), tmp_path, 800)
    assert any("Content Security Policy" in line for line in said)
    found, said = in_chromium(page.replace("const picked", "missing(); const picked"), tmp_path, 800)
    assert any("missing is not defined" in line for line in said)


@pytest.mark.usefixtures("few_plots")
def test_what_went_wrong_is_said(tmp_path):
    folder = write_comparison(tmp_path / "partly", {"a": 0.5, "b": 0.4, "c": 0.3}, seeds=(0, 1))
    shutil.rmtree(folder / "runs" / "c")
    (folder / "runs" / "b" / "1" / "run.json").write_text('{"status": "failed", "error": "out of luck"}')
    run = json.loads((folder / "runs" / "a" / "0" / "run.json").read_text())
    run |= {
        "status": "resumed",
        "attempts": [{"began": "", "from": {"kind": "fresh"}}, {"began": "", "from": {"kind": "resume", "epoch": 3}}],
    }
    run["versions"] = {"torch": "another"}
    (folder / "runs" / "a" / "0" / "run.json").write_text(json.dumps(run))
    results = write_report(folder)
    notes = " ".join(results.notes)
    assert "b, seed 1: failed: out of luck" in notes and "a, seed 0: resumed from epoch 3" in notes
    assert "c, seed 0: not finished yet" in notes and "2 different sets of versions" in notes
    assert list(results.models) == ["a", "b"]
    assert results.models["b"].difference["mAP50-95"].verdict == "one seed, no verdict"
    assert "out of luck" in (folder / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("few_plots")
def test_size_matched_baselines_are_compared(tmp_path):
    folder = write_comparison(tmp_path / "matched", {"yolov8n": 0.5, "yolov8n-mnv3": 0.4, "yolov8n-w0.9": 0.49})
    make_size_matched(folder, "yolov8n-w0.9", "yolov8n-mnv3")
    results = write_report(folder)
    assert results.size_matched == {"yolov8n-mnv3": "yolov8n-w0.9"}
    assert "Worse than the size-matched baseline: yolov8n-mnv3" in data_files.headline(results)
    page = (folder / "report.html").read_text("utf-8")
    assert "Against the size-matched baseline" in page and "yolov8n-w0.9" in page


@pytest.mark.usefixtures("few_plots")
def test_small_files_are_enough(folder, tmp_path):
    weights = folder / "runs" / "yolov8n" / "0" / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "last.pt").write_bytes(b"weights")
    assert collect.copy(folder, tmp_path / "copy") == 9
    assert collect.copy(folder, tmp_path / "copy") == 0
    assert not list((tmp_path / "copy").rglob("*.pt"))
    assert write_report(tmp_path / "copy").to_plain() == json.loads((folder / "results.json").read_text())


def test_folders_without_results_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no comparison"):
        write_report(tmp_path)
    write_comparison(tmp_path / "empty", {"a": 0.5}, seeds=())
    with pytest.raises(ConfigError, match="no run is finished"):
        write_report(tmp_path / "empty")


# The uncertainty of the test set --------------------------------------------------------------------------------------


@pytest.fixture
def counts(tmp_path):
    write_counts(tmp_path / "images.npz", 40, 3, 0.5, np.random.default_rng(1))
    return bootstrap.Counted(tmp_path / "images.npz")


def ultralytics_map(counted, images):
    from ultralytics.utils.metrics import ap_per_class

    with np.load(counted.path) as file:
        confidence = file["confidence"].astype(float)
    order = np.argsort(-confidence, kind="stable")
    chosen = np.isin(counted.image, images)
    ap = ap_per_class(
        counted.right[chosen], confidence[order][chosen], counted.predicted[chosen],
        counted.objects[np.isin(counted.object_image, images)],
    )[5]  # fmt: skip
    return ap[:, 0].mean(), ap.mean()


@pytest.mark.parametrize("images", [range(40), range(0, 40, 3), [5]])
def test_average_precision_is_that_of_ultralytics(counts, images):
    weights = np.zeros((1, 40), int)
    weights[0, list(images)] = 1
    found = [values[0] for values in bootstrap.average_precision(counts, weights)]
    assert found == pytest.approx(ultralytics_map(counts, list(images)), abs=1e-12)


def test_blocks_make_no_difference(counts, monkeypatch):
    weights = bootstrap.resamples(40, 7)
    whole = bootstrap.average_precision(counts, weights)
    monkeypatch.setattr(bootstrap, "AT_ONCE", 200)
    np.testing.assert_array_equal(whole, bootstrap.average_precision(counts, weights))


def test_resamples_are_of_the_same_size(counts):
    weights = bootstrap.resamples(40, 100)
    assert weights.shape == (100, 40) and (weights.sum(1) == 40).all() and weights.max() > 1


def test_intervals_hold_the_figure_and_are_paired(counts, tmp_path):
    write_counts(tmp_path / "worse.npz", 40, 3, 0.2, np.random.default_rng(1))
    runs = {"a": {0: counts}, "b": {0: bootstrap.Counted(tmp_path / "worse.npz")}, "a again": {0: counts}}
    found = bootstrap.intervals(runs, {"b": "a", "a again": "a"})
    value = bootstrap.average_precision(counts, np.ones((1, 40), int))[1][0]
    own = found["a"]["mAP50-95"]
    assert own.low < value < own.high and own.difference is None
    assert found["a again"]["mAP50-95"].difference == (0, 0)
    assert found["b"]["mAP50-95"].difference[1] < 0


def test_small_on_disk(tmp_path):
    """72 images with 40 detections each stay far below 100 KB."""
    from yolo_lite.compare.evaluate import write_images

    rng = np.random.default_rng(0)
    lists = {
        "tp": [rng.random((40, 10)) < 0.3 for _ in range(72)], "conf": [rng.random(40) for _ in range(72)],
        "pred_cls": [rng.integers(0, 3, 40) for _ in range(72)],
        "target_cls": [rng.integers(0, 3, 9) for _ in range(72)],
    }  # fmt: skip
    write_images(tmp_path / "images.npz", [f"BloodImage_{i:05}.jpg" for i in range(72)], lists)
    assert (tmp_path / "images.npz").stat().st_size < 30_000
    counted = bootstrap.Counted(tmp_path / "images.npz")
    assert counted.right.sum() == sum(tp.sum() for tp in lists["tp"]) and len(counted.objects) == 72 * 9


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b\n\n# c", "a \\| b # c"),
        ("![x](http://a)", "![x]\\(http://a)"),
        ("`a` & b\\", "\\`a\\` &amp; b\\\\"),
        ("yolov8n -0.013 [-0.020, -0.006]", "yolov8n -0.013 [-0.020, -0.006]"),
    ],
)
def test_names_are_text_in_the_summary(text, plain):
    assert data_files.escaped(text) == plain


@pytest.mark.usefixtures("few_plots")
def test_hostile_names_in_the_summary(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    data = {
        "name": f"{evil}|.yaml",
        "classes": [evil, "WBC"],
        "images": {"train": 3, "val": 12},
        "split": "val",
        "digest": "0",
    }
    levels = {"a": 0.4, "b": 0.5}
    folder = write_comparison(
        tmp_path / "c", levels, seeds=(0, 1), epochs=2, classes=(evil, "WBC"), name=evil, data=data
    )
    write_report(folder)
    text = (folder / "summary.md").read_text("utf-8")
    assert "<img" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
