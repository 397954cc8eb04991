"""The example notebook runs from its first cell to its last."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support import REPOSITORY, pace

EXAMPLES = REPOSITORY / "examples"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_every_cell_of_the_notebook_runs(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(own_state))
    notebook = nbformat.read(EXAMPLES / "walk.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(
        notebook, timeout=round(180 * pace()), resources={"metadata": {"path": str(EXAMPLES)}}
    ).execute()
    printed = str([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert "204 of 204 rows labelled" in printed
    assert "model 'kind-walk'" in printed
    assert "mtl: " not in printed  # no command ended with an error
