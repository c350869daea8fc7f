"""The script that tests user environments: Pythons it finds, results it counts and writes, and docs that match them."""

import csv
import json
import sys
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><skipped/></testcase>
<testcase name="c"><failure/></testcase><testcase name="d"><error/></testcase><testcase name="e"/>
</testsuite></testsuites>"""


@pytest.fixture
def environments(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "release"))
    import environments

    return environments


def test_docs_show_the_rows_as_they_ran(environments):
    with open(ROOT / "docs" / "environments.csv", newline="", encoding="utf-8") as file:
        entries = list(csv.DictReader(file))
    assert [entry["environment"] for entry in entries] == [row.name for row in environments.ROWS]
    assert environments.table(entries) in (ROOT / "docs" / "environments.md").read_text("utf-8")
    for entry in entries:
        assert entry["passed"] or entry["note"], f"{entry['environment']}: neither run nor a reason"


def test_workflow_runs_every_row(environments):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    rows = {each["row"]: each["python"] for each in workflow["jobs"]["environments"]["strategy"]["matrix"]["include"]}
    assert {"floors": "3.10", **rows} == {row.name: row.python for row in environments.ROWS}


def test_floors_are_the_bounds_of_setup_cfg(environments):
    text = (ROOT / "setup.cfg").read_text("utf-8")
    floors = environments.ROWS[0]
    assert f"python_requires = >={floors.python}" in text
    for requirement in floors.first:
        name, _, version = requirement.partition("==")
        assert name == "torchvision" or any(
            f"\n    {name}>={v}\n" in text for v in (version, version.rpartition(".")[0])
        )


def test_a_missing_python_is_named_and_not_run(environments, monkeypatch):
    monkeypatch.setattr(environments, "find_python", lambda version: None)
    row = environments.Row("one", "9.9", ("torch",))
    assert environments.run(row, False, []) == {
        "environment": "one",
        "Python": "9.9",
        "note": "not run: no Python 9.9 found",
    }
    assert not environments.good(environments.run(row, False, []))


def test_finds_pythons_that_work(environments, monkeypatch, tmp_path):
    stand_in, real = tmp_path / "bin" / "python9.9", tmp_path / "versions" / "9.9.1" / "bin" / "python"
    for path, content in ((stand_in, "#!/bin/sh\nexit 127\n"), (real, f'#!/bin/sh\nexec {sys.executable} "$@"\n')):
        path.parent.mkdir(parents=True)
        path.write_text(content)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=":")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert environments.find_python("9.9") == str(real)
    assert environments.find_python("9.8") is None


def test_counts_and_goes_on(environments, monkeypatch, tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    counted = environments.count(tmp_path / "report.xml")
    assert counted == {"passed": 2, "failed": 2, "skipped": 1, "note": "c, d"}
    rows, ran = [environments.Row(name, "3.10", ()) for name in "xy"], []
    fine = {"replaced": "nothing", "epoch": "ok", "failed": 0}
    monkeypatch.setattr(environments, "ROWS", rows)
    monkeypatch.setattr(environments, "run", lambda row, *_: ran.append(row.name) or {"environment": row.name, **fine})
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps({"environment": "x", **fine}) + "\n")
    assert environments.main(results=results, docs="") == 0 and ran == ["y"]
    assert environments.main(rows="x", results=results, docs="") == 0 and ran == ["y", "x"]
    monkeypatch.setattr(environments, "run", lambda row, *_: {"environment": row.name, **fine, "replaced": "torch"})
    assert environments.main(rows="x", results=results, docs="") == 1


def test_a_failure_is_told_by_its_own_line(environments, monkeypatch):
    done = SimpleNamespace(returncode=1, stdout="", stderr="WARNING: a\nERROR: no such version\nWARNING: b\n")
    monkeypatch.setattr(environments.subprocess, "run", lambda *args, **kwargs: done)
    with pytest.raises(environments.Failure, match="^fails at pip install torch: ERROR: no such version$"):
        environments.call("/somewhere/pip", "install", "torch")
