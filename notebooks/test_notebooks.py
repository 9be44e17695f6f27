"""Every notebook runs from its first cell to its last, and ends in a picture or a table."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
EXECUTED = Path(__file__).parents[1] / "runs" / "notebooks"
"""Copies with outputs, to look at."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_ends_in_a_picture_or_a_table(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    EXECUTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, EXECUTED / path.name)
    *_, last = (cell for cell in notebook.cells if cell.cell_type == "code")
    shown = last.outputs[-1].get("data", {})
    assert "image/png" in shown or "|---" in shown.get("text/markdown", "")
