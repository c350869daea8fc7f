"""Atomic writing of files, and messages that are printed only once."""

import pytest

from yolo_lite import ConfigError, files, output


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failure_leaves_what_was_there_and_nothing_else(kind, tmp_path):
    target = tmp_path / "made"
    files.write(target, "before")
    with pytest.raises(KeyboardInterrupt), files.replacing(target) as draft:
        if kind == "folder":
            draft.mkdir()
            draft /= "part"
        draft.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [target] and target.read_text() == "before"


def test_a_file_that_cannot_take_its_place_leaves_no_draft(tmp_path):
    (tmp_path / "taken" / "by a folder").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"taken cannot be written: Is a directory$"):
        files.write(tmp_path / "taken", "text")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_what_json_has_no_word_for_is_null(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [1.0, float("inf")], "b": (float("nan"), "c")})
    assert files.read_json(tmp_path / "a.json") == {"a": [1.0, None], "b": [None, "c"]}
    (tmp_path / "torn.json").write_text('{"a": ')
    assert files.read_json(tmp_path / "torn.json") is files.read_json(tmp_path / "none.json") is None


def test_a_line_is_said_once(monkeypatch):
    from ultralytics.utils import LOGGER

    said = []
    monkeypatch.setattr(LOGGER, "info", said.append)
    monkeypatch.setattr(output, "_said", set())
    for line in ("one", "two", "one"):
        output.say_once(line)
    assert said == ["one", "two"]
