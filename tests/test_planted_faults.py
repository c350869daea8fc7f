"""The fault list of scripts/release/plant_faults.py; the script itself checks whether the tests detect them."""

import pytest


@pytest.fixture
def plant(script):
    return script("plant_faults")


def test_the_list_is_true_and_has_every_room(plant):
    assert plant.unfound() == []
    rooms = {fault.file.rpartition("/")[0] for fault in plant.FAULTS}
    assert rooms == plant.rooms()
    assert len(plant.FAULTS) >= 20 and all(fault.text != fault.fault for fault in plant.FAULTS)


def test_what_is_not_there_is_said(plant, tmp_path):
    for folder in ("yolo_lite", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "yolo_lite" / "a.py").write_text("x = 1\nx = 1\ny = 2\n")
    (tmp_path / "tests" / "test_a.py").touch()
    faults = [
        plant.Fault("a.py", "y = 2", "y = 3", ("test_a.py", "y")),
        plant.Fault("a.py", "x = 1", "x = 3", ("test_a.py", "x")),
        plant.Fault("b.py", "y = 2", "y = 3", ("test_b.py", "y")),
    ]
    twice, missing, tests = plant.unfound(faults, tmp_path)
    assert twice.startswith("a.py: 'x = 1' is there 2 times") and missing.startswith("b.py: 'y = 2' is there 0 times")
    assert tests == "b.py: there is no tests/test_b.py"


HALF = "def half(x):\n    return x / 2\n"


@pytest.mark.parametrize(
    ("tested", "fault", "outcome"),
    [(3, "return x // 2", "killed "), (4, "return x // 2", "SURVIVED "), (3, "return (", "NOT RUN, ")],
)
def test_what_became_of_a_fault(plant, tmp_path, monkeypatch, capsys, tested, fault, outcome):
    for folder in ("yolo_lite", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "yolo_lite" / "__init__.py").write_text(HALF)
    test = f"from yolo_lite import half\n\n\ndef test_half():\n    assert half({tested}) == {tested / 2}\n"
    (tmp_path / "tests" / "test_half.py").write_text(test)
    monkeypatch.setattr(plant, "ROOT", tmp_path)
    monkeypatch.setattr(plant, "FAULTS", [plant.Fault("__init__.py", "return x / 2", fault, ("test_half.py", "half"))])
    assert plant.main() == (0 if outcome == "killed " else 1)
    said = capsys.readouterr().out
    assert said.startswith(outcome) and f"{int(outcome == 'killed ')} of 1 faults are killed" in said
    assert (tmp_path / "yolo_lite" / "__init__.py").read_text() == HALF  # the fault was planted in a copy only


def test_tests_that_fail_anyway_are_said(plant, tmp_path, monkeypatch, capsys):
    for folder in ("yolo_lite", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "yolo_lite" / "__init__.py").write_text(HALF)
    (tmp_path / "tests" / "test_half.py").write_text("def test_half():\n    assert False\n")
    monkeypatch.setattr(plant, "ROOT", tmp_path)
    monkeypatch.setattr(plant, "FAULTS", [plant.Fault("__init__.py", "x / 2", "x", ("test_half.py", "half"))])
    assert plant.main() == 1
    assert "have to pass before a fault is planted" in capsys.readouterr().out
