"""Execute the notebook without its installation cell and with less training."""

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
SHORT = {"EPOCHS, IMGSZ = 20, 128": "EPOCHS, IMGSZ = 1, 32"}


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", [])]
    assert len(cells) == len(notebook.cells) - 1
    for cell in cells:
        for long, short in SHORT.items():
            cell.source = cell.source.replace(long, short)
    assert any("EPOCHS, IMGSZ = 1, 32" in cell.source for cell in cells)
    notebook.cells = cells
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    runs = tmp_path / "runs"
    for made in ("mnv3/weights/best.pt", "transferred/weights/best.onnx", "compared/report.html"):
        assert (runs / made).is_file(), [cell.get("outputs") for cell in cells if cell.cell_type == "code"]
    kinds = [kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert kinds.count("image/png") == 4 and "text/html" in kinds
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    assert "transferred" in said and "not on Colab" in said


def test_the_notebook_has_no_outputs():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert len(cells) > 10 and not any(cell.get("outputs") for cell in cells)
