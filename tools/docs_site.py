"""MkDocs hook: pages of the site that stand outside docs/, with links that lead where they lead in the repository."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"overview.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
PAGES |= {"benchmarks/README.md": "benchmarks/README.md"}
NOTEBOOK = "notebook.ipynb"
REMOTE_SHIM = "https://unpkg.com/iframe-worker/shim"
UNNAMED = '<div class="md-search" data-md-component="search" role="dialog">'


def on_config(config: Any) -> None:
    """The site is read from the disk, where no server shows a page for addresses that do not exist."""
    config.theme.static_templates.discard("404.html")


def on_files(files: Files, config: Any) -> Files:
    """Add those pages, the notebook as one, and the program and the plots that they lead to."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=without_folder(text, "docs/")))
    book = (ROOT / "docs" / NOTEBOOK).read_text(encoding="utf-8")
    files.append(File.generated(config, "notebook.md", content=notebook_page(json.loads(book))))
    shown = [ROOT / "recipes" / "minimal_loop.py", *sorted((ROOT / "benchmarks" / "results").glob("*.png"))]
    for path in shown:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), content=path.read_bytes()))
    return files


def notebook_page(book: dict[str, Any]) -> str:
    """A notebook as Markdown: its code, each with what it showed when it was last executed."""
    parts: list[str] = []
    for cell in book["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [shown for output in cell.get("outputs", ()) if (shown := _output(output))]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    """HTML where there is some, else text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        rows = [line for line in "".join(data["text/html"]).splitlines() if line.strip()]  # a blank line would end it
        return "\n".join(['<div class="output">', *rows, "</div>"])
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ lead to the pages added above; a link to a folder leads to its final.json."""
    if "/" not in page.file.src_uri:
        markdown = without_folder(markdown, "../").replace("](README.md", "](overview.md")
        markdown = markdown.replace(f"]({NOTEBOOK})", "](notebook.md)")
    if page.file.src_uri == "results/README.md":
        markdown = re.sub(r"\]\((\w[\w-]*)\)", r"](\1/final.json)", markdown)
    return markdown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Nothing is loaded from elsewhere: the search's stand-in for a worker is ours. Its dialog gets a name."""
    for expected in (REMOTE_SHIM, UNNAMED):
        assert expected in output, f"the theme no longer has {expected}; drop what mends it here"
    here = "../" * page.file.dest_uri.count("/")
    return output.replace(REMOTE_SHIM, f"{here}worker.js").replace(UNNAMED, UNNAMED[:-1] + ' aria-label="Search">')


def without_folder(text: str, folder: str) -> str:
    """Markdown whose links and pictures no longer begin with `folder`."""
    return re.sub(rf'(\]\(|src="){re.escape(folder)}', r"\1", text)
