"""The notebooks: small, without outputs, and run from top to bottom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hub_stand_in import HubStandIn

from .blocks import ROOT

nbformat = pytest.importorskip("nbformat", reason="install the extra dev")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_small_and_stripped(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert 3 <= len(code) <= 8
    assert not any(cell.outputs or cell.execution_count for cell in code), "strip the outputs before you commit"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, hub: HubStandIn, inputs: Path, monkeypatch):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(inputs / "ipython")}
    environment = os.environ | hub.environment(inputs / "home") | settings
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(inputs)}}
    )
    client.execute(env=environment)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
