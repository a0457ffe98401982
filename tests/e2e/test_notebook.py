"""The notebook of the documentation runs from top to bottom."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def executed(folder: Path, *, short: bool) -> list[str]:
    """The outputs of every code cell as text, HTML where they have some."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        if short:
            cell.source = re.sub(r"steps=\d+", "steps=3", re.sub(r"limit=\d+", "limit=8", cell.source))
    NotebookClient(book, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return [str(o.data.get("text/html") or o.data) if "data" in o else str(o.get("text")) for o in outputs]


@pytest.mark.slow
def test_the_notebook_runs_in_small(tmp_path: Path) -> None:
    outputs = executed(tmp_path, short=True)
    assert sum("<svg" in output for output in outputs) >= 3, "two topologies and a run are drawn"
    assert sum("<progress" in output and "3 of 3 steps" in output for output in outputs) == 1, "training has a bar"
    assert sum("best constant" in output for output in outputs) == 4
    assert any("out ← 1.1, 1.2" in output for output in outputs)
    assert (tmp_path / "runs" / "notebook_grown" / "metrics.jsonl").is_file()


@pytest.mark.slow
def test_the_notebook_shows_what_its_text_says(tmp_path: Path) -> None:
    outputs = executed(tmp_path, short=False)
    accuracies = [
        float(found[1]) for output in outputs if (found := re.search(r"accuracy</th><td[^>]*>([\d.]+)%", output))
    ]
    trained, blanked, *_ = accuracies
    assert trained > 90 > 50 > blanked
