"""MkDocs hook: pages of the site that stand outside docs/, with links that lead where they lead in the repository."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"overview.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
REMOTE_SHIM = "https://unpkg.com/iframe-worker/shim"
PAGES |= {"benchmarks/README.md": "benchmarks/README.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add those pages, and the program and the plots that they lead to."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=without_folder(text, "docs/")))
    shown = [ROOT / "recipes" / "minimal_loop.py", *sorted((ROOT / "benchmarks" / "results").glob("*.png"))]
    for path in shown:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ lead to the pages added above; a link to a folder leads to its final.json."""
    if "/" not in page.file.src_uri:
        markdown = without_folder(markdown, "../").replace("](README.md", "](overview.md")
    if page.file.src_uri == "results/README.md":
        markdown = re.sub(r"\]\((\w[\w-]*)\)", r"](\1/final.json)", markdown)
    return markdown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Nothing is loaded from elsewhere: the search's stand-in for a worker is ours."""
    assert REMOTE_SHIM in output, "the theme no longer loads its stand-in for a worker; drop docs/worker.js"
    here = "../" * page.file.dest_uri.count("/")
    return output.replace(REMOTE_SHIM, f"{here}worker.js")


def without_folder(text: str, folder: str) -> str:
    """Markdown whose links and pictures no longer begin with `folder`."""
    return re.sub(rf'(\]\(|src="){re.escape(folder)}', r"\1", text)
