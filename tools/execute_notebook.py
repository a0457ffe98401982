"""Executes the notebook of the documentation and keeps what its cells showed, as the site shows it.

usage: python tools/execute_notebook.py    (a few minutes; needs the extra dev)
"""

import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def main() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(book, timeout=3600, resources={"metadata": {"path": folder}}).execute()
    for cell in book.cells:
        cell.metadata = {}  # when it began and ended
        if cell.cell_type == "code":
            cell.outputs = [kept(output) for output in cell.outputs if output.get("name") != "stderr"]
    book.metadata.language_info = {"name": "python"}
    nbformat.write(book, NOTEBOOK)


def kept(output: Any) -> Any:
    """An output as HTML alone where it has some, without the date of a drawing."""
    if html := output.get("data", {}).get("text/html"):
        output.data = {"text/html": re.sub(r"<metadata>.*?</metadata>\s*", "", html, flags=re.DOTALL)}
    return output


if __name__ == "__main__":
    main()
