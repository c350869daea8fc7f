"""The script of the studies, and what the pages say of them."""

import json

import pytest
from made_up import write_comparison

from yolo_lite import ConfigError
from yolo_lite.bench_report import between
from yolo_lite.compare.tables import gather, write


@pytest.fixture
def study(script):
    return script("study_bccd")


def made_up(folder, preset, rival):
    """A finished study with these levels of mAP50-95, the stock model at 0.5."""
    levels = {"yolov8n": 0.5, "yolo26n": 0.47, "yolo26s-lite": preset, "yolov8n-w0.6": rival}
    write_comparison(folder, levels)
    record = json.loads((folder / "comparison.json").read_text())
    record["models"]["yolov8n-w0.6"]["rival_of"] = ["yolo26s-lite"]
    (folder / "comparison.json").write_text(json.dumps(record))
    write(gather(folder), folder)


@pytest.mark.parametrize(
    ("preset", "rival", "reached"),
    [(0.51, 0.45, [True, True, True]), (0.495, 0.52, [False, True, True]), (0.46, 0.45, [True, False, False])],
)
def test_findings_say_what_was_reached(study, tmp_path, preset, rival, reached):
    made_up(tmp_path / "study-lite", preset, rival)
    write_comparison(tmp_path / "study-lite-longer", {"yolo26s-lite": preset + 0.05})
    write(gather(tmp_path / "study-lite-longer"), tmp_path / "study-lite-longer")
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


def test_pages_say_what_was_found(study):
    found = study.findings()
    assert ("docs/lite.md", "study") in found
    for (page, mark), lines in found.items():
        text = (study.ROOT / page).read_text("utf-8")
        assert between(text, mark, lines) == text


def test_an_unknown_study_is_refused(study):
    with pytest.raises(ConfigError, match="^study=light: needs one of backbones, lite, "):
        study.main(["study=light"])
