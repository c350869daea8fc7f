"""Scripts of the studies, and their findings in the pages."""

import csv
import json
import os
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import pytest
import yaml
from conftest import python
from made_up import make_size_matched, write_comparison
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

from yolo_lite import ConfigError, create_backbone
from yolo_lite.compare.report.data_files import write_files
from yolo_lite.compare.report.results import gather
from yolo_lite.files import between, write, write_json
from yolo_lite.models import digest_of

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture
def study(script):
    return script("study_bccd")


def made_up(folder, preset, matched):
    """A finished study with these levels of mAP50-95, the stock model at 0.5."""
    levels = {"yolov8n": 0.5, "yolo26n": 0.47, "yolo26s-lite": preset, "yolov8n-w0.6": matched}
    write_comparison(folder, levels)
    make_size_matched(folder, "yolov8n-w0.6", "yolo26s-lite")
    write_files(gather(folder), folder)


@pytest.mark.parametrize(
    ("preset", "matched", "reached"),
    [(0.51, 0.45, [True, True, True]), (0.495, 0.52, [False, True, True]), (0.46, 0.45, [True, False, False])],
)
def test_findings_say_what_was_reached(study, tmp_path, preset, matched, reached):
    made_up(tmp_path / "study-lite", preset, matched)
    write_comparison(tmp_path / "study-lite-longer", {"yolo26s-lite": preset + 0.05})
    write_files(gather(tmp_path / "study-lite-longer"), tmp_path / "study-lite-longer")
    found = study.findings(tmp_path)
    assert set(found) == {("README.md", "lite-study"), ("docs/lite.md", "study"), ("docs/lite.md", "recipes")}
    recipes = found["docs/lite.md", "recipes"][2:]
    assert [line.split("|")[1].strip() for line in recipes] == ["40 epochs", "120 epochs"]
    assert float(recipes[1].split("|")[5].split()[0]) == pytest.approx(5, abs=0.5)
    lines = found["docs/lite.md", "study"]
    verdicts = {line.split("`")[1]: line.split("|")[-2].strip() for line in lines if "above 0" in line or "1.0" in line}
    others = ("yolov8n-w0.6", "yolo26n", "yolov8n")
    assert verdicts == {
        other: "reached" if each else "**not reached**" for other, each in zip(others, reached, strict=True)
    }
    means = [float(line.split("|")[6].split("±")[0]) for line in lines if line.count("|") == 9 and " M |" in line]
    assert len(means) == 4 and means == sorted(means, reverse=True)
    (sentence,) = found["README.md", "lite-study"]
    assert [float(each.split("` ")[1].split()[0]) for each in sentence.split(", `")] == means
    assert all(verdict in sentence for verdict in ("`yolo26n` 45.1 ± 0.4 (worse)", "`yolov8n` 47.9 ± 0.4"))


def test_backbones_stand_beside_their_bases_and_the_size_matched_baseline(study, tmp_path):
    folder = tmp_path / "study-bccd"
    levels = {"yolov8n": 0.5, "yolov5n": 0.45, "yolov8n-a": 0.42, "yolov5n-b-aspp": 0.46, "yolov8n-w0.6": 0.44}
    write_comparison(folder, levels)
    record = json.loads((folder / "comparison.json").read_text())
    for label, gflops in {"yolov8n-a": 1.0, "yolov8n-w0.6": 1.01}.items():
        record["models"][label]["gflops"] = gflops
    (folder / "comparison.json").write_text(json.dumps(record))
    make_size_matched(folder, "yolov8n-w0.6", "yolov8n-a")
    times = {"yolov8n": 10.0, "yolov5n": 8.0, "yolov8n-a": 7.5, "yolov5n-b-aspp": 10.0}
    measured = [
        {"model": label, "runtime": runtime, "precision": "fp32", "threads": 1, "p50": p50 * factor, "p90": 1,
         "ratio": 1, "low": 1, "high": 1, "parameters": 1, "gflops": 1, "size": 1}
        for label, p50 in times.items()
        for runtime, factor in (("openvino", 3), ("onnxruntime", 1))
    ]  # fmt: skip
    latency = {"models": {label: label for label in times}, "measurements": measured, "environment": {}, "threads": [1]}
    (folder / "latency.json").write_text(
        json.dumps({**latency, "runtimes": ["onnxruntime"], "imgsz": 64, "classes": 2})
    )
    write_files(gather(folder), folder)
    before = ["model,seed,mAP50,mAP50-95", "yolov8n-a,0,0.5,0.30", "yolov8n-a,1,0.5,0.31", "yolov8n-a,7,0.5,0.9"]
    (folder / "pytorch-start.csv").write_text("\n".join(before))
    found = study.findings(tmp_path)
    start = [cell.strip() for cell in found["docs/study.md", "start"][2].split("|")[1:-1]]
    assert start[:3] == ["`yolov8n-a`", "2", "30.5"] and len(found["docs/study.md", "start"]) == 3
    assert float(start[4].split()[0]) == pytest.approx(float(start[3]) - 30.5, abs=0.11)
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in found["docs/study.md", "study"][2:-2]]
    assert found["README.md", "study"] == found["docs/study.md", "study"][-1:]
    assert [row[0] for row in rows] == ["yolov8n", "yolov8n-w0.6", "yolov8n-a", "yolov5n", "yolov5n-b-aspp"]
    by_model = {row[0]: row for row in rows}
    assert [by_model[each][3] for each in levels] == ["1.00", "1.00", "0.75", "1.25", ""]
    for label, base in (("yolov8n-a", "yolov8n"), ("yolov5n-b-aspp", "yolov5n")):
        assert float(by_model[label][7].split()[0]) == pytest.approx(95 * (levels[label] - levels[base]), abs=0.2)
        assert by_model[label][8] == ("better" if levels[label] > levels[base] else "worse")
    sentence = found["docs/study.md", "study"][-1]
    assert sentence.startswith("1 of 2 models with another backbone are less accurate than their bases on average, by ")
    assert "; 1 of the unadjusted 95 % intervals" in sentence
    assert sentence.endswith("all 3 comparisons (Holm), the losses of `yolov8n-a` are statistically significant.")
    (matched,) = found["docs/study.md", "size-matched"][2:]
    assert matched.startswith("| `yolov8n-a` | 1.00 | `yolov8n-w0.6` | 1.01 | -") and matched.endswith("| worse |")
    assert float(matched.split("|")[5].split()[0]) == pytest.approx(-1.9, abs=0.2)
    header, _, *classes = found["docs/study.md", "classes"]
    assert header == "| mAP50 of | RBC | WBC |" and len(classes) == 5


def test_pages_say_what_was_found(study):
    found = study.findings()
    assert {("docs/lite.md", "study"), ("README.md", "study")} <= set(found)
    for (page, mark), lines in found.items():
        text = (study.ROOT / page).read_text("utf-8")
        assert between(text, mark, lines) == text


def test_what_docs_keep_says_the_same_as_the_whole(study, tmp_path, monkeypatch):
    runs, docs = tmp_path / "runs", tmp_path / "docs"
    made_up(runs / "study-lite", 0.51, 0.45)
    plot = study.STUDIES["lite"]["plot"]
    monkeypatch.setitem(study.STUDIES["lite"], "plot", "gflops")  # latency was not measured
    monkeypatch.setattr(study, "DOCS", docs)
    monkeypatch.setattr(study, "write_findings", lambda: None)
    assert study.main(["collect", "study=lite", f"folder={runs / 'study-lite'}"]) == 0
    kept = docs / "study-lite"
    names = {"comparison.json", "results.json", "results.csv", "summary.md", "gflops.svg"}
    assert {file.name for file in kept.iterdir()} == names and plot != "gflops"
    assert study.findings(docs) == study.findings(runs)
    for name in ("results.csv", "summary.md"):
        assert (kept / name).read_bytes() == (runs / "study-lite" / name).read_bytes()
    whole, small = (json.loads((folder / "results.json").read_text()) for folder in (runs / "study-lite", kept))
    assert whole["runs"][0]["curves"] and whole["comparison"]["samples"]
    for run, full in zip(small["runs"], whole["runs"], strict=True):
        assert not {"curves", "attempts", "settings"} & set(run) and "classes" not in run["metrics"]
        assert {key: run[key] for key in ("seed", "command", "machine", "versions")} == {
            key: full[key] for key in ("seed", "command", "machine", "versions")
        }
    assert (
        small["comparison"]["samples"] == []
        and json.loads((kept / "comparison.json").read_text()) == small["comparison"]
    )


def test_docs_keep_five_small_files_of_a_study(study):
    found = {folder.name: folder for folder in study.DOCS.glob("study-*")}
    of_two = {f"study-{what}-{data}" for what in ("border", "losses") for data in ("aquarium", "bccd")}
    assert set(found) == {"study-bccd", "study-lite", "study-lite-longer", "study-lite-distilled"} | of_two
    plots = {each["folder"]: each["plot"] for each in study.STUDIES.values()} | dict.fromkeys(of_two, "curve-mAP50-95")
    for name, folder in found.items():
        files = {file.name: file for file in folder.rglob("*")}
        names = {"comparison.json", "results.json", "results.csv", "summary.md", f"{plots[name]}.svg"}
        assert set(files) == names | ({"pytorch-start.csv"} if name == "study-bccd" else set())
        assert sum(file.stat().st_size for file in files.values()) <= 300_000
        results = json.loads(files["results.json"].read_text("utf-8"))
        assert results["comparison"] == json.loads(files["comparison.json"].read_text("utf-8"))
        with open(files["results.csv"], encoding="utf-8") as text:
            rows = {(row["model"], int(row["seed"])): float(row["mAP50-95"]) for row in csv.DictReader(text)}
        assert rows == {(run["model"], run["seed"]): run["metrics"]["mAP50-95"] for run in results["runs"]}


def test_no_photograph_is_committed(study):
    """The datasets forbid it: of pictures, docs hold drawings, and one page made from the generated dataset."""
    pages = {file.relative_to(study.DOCS).as_posix() for file in study.DOCS.rglob("*.html")}
    assert pages <= {"example-report/report.html"}
    found = {file.name for kind in ("jpg", "jpeg", "png", "npz") for file in study.DOCS.rglob(f"*.{kind}")}
    # screenshots of that page, taken by scripts/release/pictures.py
    assert found == {"report-light.png", "report-dark.png"}


def test_an_unknown_study_is_refused(study):
    with pytest.raises(ConfigError, match="^study=light: needs one of backbones, lite, "):
        study.main(["study=light"])


def test_the_study_of_losses_trains_the_same_model_with_each(script, tmp_path, monkeypatch):
    losses, asked = script("losses"), []
    monkeypatch.setattr(losses, "compare", lambda settings: asked.append(settings) or SimpleNamespace(failed=[]))
    monkeypatch.chdir(tmp_path)
    assert losses.main([f"data={tmp_path}/bccd.yaml", "model=yolo26s-lite", f"folder={tmp_path}", "epochs=1"]) == 0
    (settings,) = asked
    assert (settings["name"], settings["epochs"], settings["seeds"]) == ("study-losses-bccd", 1, [0, 1, 2])
    loaded = [yaml_model_load(model) for model in settings["models"]]
    assert [{key: d[key] for key in ("class_loss", "box_loss") if key in d} for d in loaded] == [*losses.KEYS.values()]
    assert len({digest_of(d) for d in loaded}) == len(loaded) and {d["scale"] for d in loaded} == {"s"}
    with pytest.raises(ConfigError, match="model=yolo99n: needs one of our configs with its scale letter"):
        losses.main(["data=bccd.yaml", "model=yolo99n"])


@pytest.mark.slow  # collecting another study is tested above
@pytest.mark.usefixtures("few_plots")
def test_the_study_of_losses_is_collected_into_a_page(script, tmp_path, monkeypatch):
    losses = script("losses")
    monkeypatch.setattr(losses, "DOCS", tmp_path / "docs")
    levels = {f"yolov8n-mnv4{suffix}": 0.5 + 0.01 * number for number, suffix in enumerate(losses.KEYS)}
    for data in ("bccd", "aquarium"):
        write_comparison(tmp_path / f"study-losses-{data}", levels)
    assert losses.main(["collect", "data=bccd,aquarium", f"folder={tmp_path}"]) == 0
    page = (tmp_path / "docs/losses.md").read_text("utf-8")
    assert page.count("| `yolov8n-mnv4-siou` |") == 2 and "## bccd" in page and "## aquarium" in page
    assert (tmp_path / "docs/study-losses-aquarium/results.json").is_file()


def test_the_study_of_the_border_trains_the_same_model_with_and_without_an_exact_normalisation(
    script, tmp_path, monkeypatch
):
    import torch

    border, asked = script("border"), []
    reference = create_backbone("efficientnet_lite0")
    torch.save(reference.state_dict(), tmp_path / "lite0.pth")
    monkeypatch.setattr(border, "weights_file", lambda: tmp_path / "lite0.pth")
    monkeypatch.setattr(border, "compare", lambda settings: asked.append(settings) or SimpleNamespace(failed=[]))
    monkeypatch.setenv("PYTHONPATH", "kept")
    monkeypatch.chdir(tmp_path)
    assert border.main([f"data={tmp_path}/bccd.yaml", f"folder={tmp_path}", "epochs=1"]) == 0
    (settings,) = asked
    assert (settings["name"], settings["epochs"], settings["seeds"]) == ("study-border-bccd", 1, [0, 1, 2])
    folded, exact = (YOLO(model).model.double().eval() for model in settings["models"])
    assert [type(row).__name__ for row in exact.model][:2] == ["Normalise", "EfficientNetStage"]
    assert [type(row) for row in exact.model][1:] == [type(row) for row in folded.model]
    mean = torch.tensor(border.IMAGENET_MEAN, dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    reference, normalised = reference.double().eval(), exact.model[0](mean)
    assert normalised.abs().max() < 1e-6
    assert torch.allclose(exact.model[1](normalised), reference(normalised)[0])
    assert (folded.model[0](mean) - exact.model[1](normalised))[..., 3:-3, 3:-3].abs().max() < 1e-6
    code = "from yolo_lite.discovery import specs; print('Normalise' in specs())"
    assert (
        python(code, tmp_path, PYTHONPATH=f"{os.environ['PYTHONPATH']}:{border.DOCS.parent}").stdout.strip() == "True"
    )


def test_the_error_at_the_border_is_there_only(script):
    border = script("border")
    levels = border.errors("efficientnet_lite0", imgsz=128, seeds=1)
    assert len(levels) == 5 and all(largest >= mean for largest, mean, _ in levels)
    assert levels[0][0] > 0.05 and levels[0][2] < 1e-6  # P1: at the border, not in the middle


def test_the_page_says_what_the_study_of_the_border_found(script):
    border = script("border")
    page = border.DOCS / "pretrained.md"
    rows = border.findings()[2:]
    assert len(rows) == 2 and between(page.read_text("utf-8"), "border-study", border.findings()) == page.read_text(
        "utf-8"
    )


def test_the_page_says_what_a_transfer_keeps(script):
    transfer = script("transfer")
    text = (transfer.DOCS / "transfer.md").read_text("utf-8")
    found = transfer.findings()
    assert set(found) == {"retention", "methods", "gain"} and all(len(lines) > 4 for lines in found.values())
    for mark, lines in found.items():
        assert between(text, mark, lines) == text
    shares = {line.split("`")[1]: line.split("|")[-2] for line in found["retention"][3:]}
    assert 85 <= float(shares["yolo26s-lite"].split("(")[1].split()[0]) <= 100


def test_the_page_says_how_well_latency_is_predicted(script):
    study = script("cost_model")
    page = (study.ROOT / "docs" / "choose.md").read_text("utf-8")
    lines = study.findings()
    assert between(page, "cost-model", lines) == page
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[:3] for row in cells if row[1] == "all"] == [["onnxruntime", "all", "60"], ["openvino", "all", "60"]]
    for row in cells:
        assert float(row[3]) >= 0.95 and float(row[5].split()[0]) <= 10


def test_predictions_are_judged_by_rank_and_relative_error(script):
    study = script("cost_model")
    rows = [
        {"runtime": "ncnn", "group": group, "measured": measured, "predicted": predicted, "gflops": gflops}
        for group, measured, predicted, gflops in (("known", 10, 11, 3), ("known", 20, 18, 2), ("new", 40, 60, 1))
    ]
    lines = study.table(rows)
    assert lines[-1] == "| ncnn | all | 3 | 1.000 | -1.000 | 10.0 % | 42.0 % |" and len(lines) == 5


def test_searches_are_collected_into_a_page(script, tmp_path, monkeypatch):
    study, docs = script("search"), tmp_path / "docs"
    monkeypatch.setattr(study, "DOCS", docs)
    (docs / "assets").mkdir(parents=True)
    folder = tmp_path / "runs" / "shapes"
    own = {"base": "yolov8", "scale": "n", "imgsz": 128, "backbone": None, "width": 0.5, "neck": "base", "head": "base"}
    rows = [
        {"candidate": own | {"width": width}, "time": time, "predicted": told, "parameters": 1.0}
        for width, time, told in ((0.5, 1.5, 1.6), (0.75, None, 1.9), (0.875, None, 2.1), (0.625, 2.2, 1.9))
    ]
    write_json(folder / "search" / "field.json", {"budget": 2.0, "error": 0.1, "failed": {}, "candidates": rows})
    write_json(folder / "search" / "choose.json", {"source": None, "train": {"epochs": 6}})
    write_json(folder / "latencies.json", {"yolov8n": 4.0, "yolo26n-mnv4": 1.9})
    within = study.drawn(folder / "search")
    assert {Path(path).stem for path in within} == {"yolov8n-w0p5", "yolov8n-w0p75"}  # the others are over the budget
    for path, levels in (
        ("search/finals", {"yolov8n-w0p5-128": 0.5, "yolo26n-x-128": 0.3}),
        ("rivals", {"yolov8n-w0p5": 0.5, "yolo26n-mnv4": 0.4}),
        ("drawn", {"yolov8n-w0p75": 0.6, "yolov8n-w0p5": 0.1}),
    ):
        seeds = [0] if path == "drawn" else (0, 1, 2)
        train = {"epochs": 6, "imgsz": 128}
        write_files(gather(write_comparison(folder / path, levels, seeds=seeds, train=train)), folder / path)
    tried = [("yolov8n-w0p5-128", 1.5, 4, 0.4, "finalist"), ("yolov8n-w0p625-128", 2.2, 0, None, "over the budget")]
    columns = ("label", "time", "epochs", "score", "outcome")
    plain = [{**dict(zip(columns, row, strict=True)), "parameters": 1.0, "imgsz": 128} for row in tried]
    search = {"budget": 2.0, "way": "", "candidates": 4, "error": 0.1, "data": "", "rows": plain}
    write_json(folder / "search" / "finals" / study.FILE, search)
    write(folder / "search" / "finals" / "plots" / study.PLOT, "<svg/>")
    study.collect(tmp_path / "runs")
    page = (docs / "searches.md").read_text("utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    assert [line[:4] for line in lines] == [
        ["`yolov8n-w0p5`", "128", "1.50", "3"],
        ["`yolo26n-mnv4`", "128", "1.90", "3"],
    ]
    assert lines[0][5] == "**recommended**" and float(lines[1][5].split()[0]) == pytest.approx(-10, abs=0.5)
    assert "Measured: 2 candidates; trained: 1; finalists: 1." in page
    assert (
        "2 candidates within the budget, drawn at random" in page
        and "; 1 other than the recommended one is ahead" in page
    )
    assert (docs / "assets" / "search-shapes.svg").exists() and study.page(docs) == page
    (tmp_path / "other" / "runs").mkdir(parents=True)
    for later in (tmp_path / "runs", tmp_path / "other" / "runs"):  # the same study again; none
        study.collect(later)
        assert (docs / "searches.md").read_text("utf-8") == page


def test_a_search_on_real_images_is_compared_with_what_has_its_latency(script, tmp_path, monkeypatch):
    study = script("search")
    own = {"base": "yolov8", "scale": "n", "imgsz": 256, "backbone": None, "width": 0.5, "neck": "base", "head": "base"}
    rows = [{"candidate": own, "time": 8.0, "predicted": 8.1, "parameters": 1.0}]
    rivals = tmp_path / "bccd-rivals"
    write_comparison(rivals, {"yolo26s-lite": 0.4, "yolo26n": 0.5, "yolov8n-w0.6": 0.3})
    comparison = json.loads((rivals / "comparison.json").read_text("utf-8"))
    comparison["models"]["yolov8n-w0.6"] |= {"size_matched": {"match_for": {"yolo26s-lite": {"ratio": 0.9}}}}
    write_json(rivals / "results.json", {"comparison": comparison, "runs": []})
    monkeypatch.setattr(study, "scores", lambda _: {label: {0: 0.4} for label in comparison["models"]})
    imgsz, found = comparison["train"]["imgsz"], {}
    for like in study.PRESETS:
        folder = tmp_path / f"bccd-{like}"
        write_json(folder / "search/choose.json", {"source": "a/others.pt", "train": {"epochs": 40}})
        write_json(folder / "search/field.json", {"budget": 9.0, "error": 0.1, "failed": {}, "candidates": rows})
        write_json(folder / "latencies.json", {"yolov8n": 20.0, "yolo26n": 15.0, like: 10.0})
        write_json(folder / "search/finals/results.json", {"recommendation": {"model": "yolov8n-w0p5-256"}})
        write_json(folder / "test.json", {"0": 0.5, "1": 0.6})
        every = list(study.runs_of(folder))
        assert {row[:3] for row in every} == {(folder.name, 40, "others")}
        found[like] = {row[3:7] for row in every}
    ours, stock = ("recommended", "yolov8n-w0p5", 256, "8.00"), ("rivals", "yolo26n", imgsz, "15.00")
    near = {("rivals", "yolo26s-lite", imgsz, "10.00"), ("rivals", "yolov8n-w0.6", imgsz, "9.00")}
    assert found == {"yolo26s-lite": {ours, stock} | near, "yolo26n-lite": {ours, stock}}
    assert [study.is_complete(tmp_path / f"bccd-{like}") for like in study.PRESETS] == [True, False]


def test_gains_are_added_to_those_of_earlier_sessions(script, tmp_path, monkeypatch):
    transfer, docs = script("transfer"), tmp_path / "docs"
    monkeypatch.setattr(transfer, "DOCS", docs)
    write(docs / "transfer.md", "<!-- gain -->\n<!-- /gain -->\n")
    monkeypatch.setattr(transfer, "kept", lambda rows, key: [])
    monkeypatch.setattr(transfer, "between", lambda text, mark, lines: "\n".join(lines) if mark == "gain" else text)

    def collect(folder, results):
        for (model, start, seed), score in results.items():
            task = transfer.Task("gain", "bccd.yaml", model, start, seed)
            recipe = {"data": "bccd", "epochs": 40, "precision": "bf16"}
            scores = {split: {"mAP50": 1.0, "mAP50-95": score} for split in ("val", "test")}
            write_json(tmp_path / folder / f"{task}.json", {**task._asdict(), **recipe, **scores})
        transfer.collect(tmp_path / folder)

    collect(
        "one",
        {
            ("yolov8n", start, seed): 0.5 + 0.1 * (start == "transfer")
            for start in ("random", "transfer")
            for seed in (0, 1)
        },
    )
    collect("two", {("yolov8n", "random", 2): 0.5, ("yolov8n", "transfer", 2): 0.6, ("yolov8n", "transfer", 0): 0.6})
    lines = (docs / "transfer.md").read_text("utf-8").splitlines()
    assert [line.split("|")[3:6] for line in lines[2:]] == [
        [" random ", " 3 ", " 50.0 "],
        [" transfer ", " 3 ", " 60.0 "],
    ]
    assert lines[3].split("|")[6].strip().startswith("+10.0 (")
    assert len(lines) == 4  # no other model's gain to compare with the source's
    smaller = {("bccd", "lite", start): {0: level} for start, level in (("random", 0.5), ("transfer", 0.55))}
    source = {("bccd", "yolov8n", start): {0: level} for start, level in (("random", 0.51), ("transfer", 0.61))}
    assert transfer.shares(smaller | source) == [
        "",
        "On bccd, the mean gain of `lite` is 50 % of `yolov8n`'s; its mean accuracy differs from `yolov8n`'s by -1.0 "
        "points from random weights and by -6.0 from the source.",
    ]
    tasks = transfer.gains(["bccd.yaml"], transfer.DEFAULTS | {"models": "yolov8n", "seeds": "0,3"})
    assert [str(task) for task in transfer.left(tasks, tmp_path / "one")] == [
        "bccd-yolov8n-random-3",
        "bccd-yolov8n-transfer-3",
    ]


def test_the_page_says_what_searches_found(script):
    study = script("search")
    page = (study.DOCS / "searches.md").read_text("utf-8")
    assert study.page(study.DOCS) == page
    rows = study.read_rows(study.DOCS / "searches.csv")
    for name in {row["study"] for row in rows}:
        own = [row for row in rows if row["study"] == name]
        (winner,) = study.by_model(own, "recommended").values()
        rivals = study.by_model(own, "rivals").values()
        assert len(winner) >= 3 and rivals
        if name == study.GENERATED:  # at most a point behind the best of our configs within the budget
            assert mean(winner.values()) >= max(mean(seeds.values()) for seeds in rivals) - 0.01


def test_trainings_begin_as_their_start_says(script, tmp_path, monkeypatch):
    transfer = script("transfer")
    monkeypatch.setattr(transfer, "weights_file", lambda: Path("lite0.pth"))
    monkeypatch.setattr(transfer, "moved", lambda *args: args)

    def began(start, model="yolov8n-efficientnet-lite@1.0"):
        return transfer.began(transfer.Task("gain", "/a/bccd.yaml", model, start, 3), transfer.DEFAULTS, tmp_path)

    trained = tmp_path / "source-others-than-bccd" / "weights" / "last.pt"
    assert began("random", "yolov8n") == ("yolov8n.yaml", False)
    assert began("transfer", "yolov8n") == ("yolov8n.yaml", str(trained))
    for start, pretrained in (("imagenet", False), ("imagenet+transfer", str(trained))):
        path, given = began(start)
        assert given == pretrained
        d = yaml.safe_load(Path(path.replace("yolov8n", "yolov8")).read_text("utf-8"))
        assert (d["backbone_width"], d["backbone_weights"]) == (1.0, "lite0.pth")
    path, _ = began("transfer", "yolov8n-w0.625")
    assert yaml.safe_load(Path(path).read_text("utf-8"))["transfer"] is True
    path, _ = began("random")
    assert "backbone_weights: null" in Path(path.replace("yolov8n", "yolov8")).read_text("utf-8")
    for start, minutes, regress in (("mimicked", transfer.MIMICKED, True), ("without-regression", 0, False)):
        made, pretrained = began(start, "yolov8n")
        assert pretrained is True and repr(trained) in made and made.endswith(f", {minutes}, 3)")
        assert f"regress={regress}" in made
    with pytest.raises(SystemExit, match="needed some of random, transfer"):
        transfer.gains(["bccd.yaml"], transfer.DEFAULTS | {"starts": "randm"})
