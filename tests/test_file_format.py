"""The file format: what checkpoints name stays as it is, and checkpoints of earlier code go on living."""

import importlib
import json
from pathlib import Path

import pytest
from conftest import ROOT

FOLDER = Path(__file__).parent / "file_format"


@pytest.fixture
def file_format(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "release"))
    return importlib.import_module("file_format")


@pytest.mark.core
def test_classes_and_tensors_are_as_checkpoints_name_them(file_format):
    moved = file_format.differences(file_format.current(), json.loads(file_format.LIST.read_text("utf-8")))
    assert not moved, "\n".join(moved)
