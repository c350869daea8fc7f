"""The script of the studies, and what the pages say of them."""

import json

import pytest
from conftest import ROOT
from made_up import write_comparison

from yolo_lite.compare.tables import gather

KINDS = {"lite": "study-lite", "backbones": "study-bccd"}


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
    return gather(folder)


@pytest.mark.parametrize(
    ("preset", "rival", "reached"),
    [(0.51, 0.45, [True, True, True]), (0.495, 0.52, [False, True, True]), (0.46, 0.45, [True, False, False])],
)
def test_findings_say_what_was_reached(study, tmp_path, preset, rival, reached):
    results = made_up(tmp_path / "study", preset, rival)
    page = study.with_findings("a\n<!-- study -->\nold\n<!-- /study -->\nb\n", "lite", results)
    assert page.startswith("a\n<!-- study -->\n| model") and page.endswith("<!-- /study -->\nb\n") and "old" not in page
    lines = page.splitlines()
    verdicts = {line.split("`")[1]: line.split("|")[-2].strip() for line in lines if "above 0" in line or "1.0" in line}
    others = ("yolov8n-w0.6", "yolo26n", "yolov8n")
    assert verdicts == {
        other: "reached" if each else "**not reached**" for other, each in zip(others, reached, strict=True)
    }
    means = [float(line.split("|")[6].split("±")[0]) for line in lines if line.count("|") == 9 and " M |" in line]
    assert len(means) == 4 and means == sorted(means, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_say_what_was_found(study, kind):
    file = ROOT / "docs" / KINDS[kind] / "results.json"
    if not file.exists():
        pytest.skip(f"no runs of {kind} yet")
    page = study.PAGES[kind].read_text("utf-8")
    assert study.with_findings(page, kind, json.loads(file.read_text("utf-8"))) == page
