"""Runs the examples of a page of the documentation, in order, in one folder.

- A fenced block with a title is a file of that name.
- ```python without a title runs as it stands; all of a page share their names.
- ```sh holds lines that start with `neuromas`, or with `python FILE`; `&` at the end starts a server.
- `<!-- not run: reason -->` in the line before a block leaves it out.

Numbers are made small before anything runs, by replacements that must each be found on the page.
"""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from neuromas.cli import main

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SKIP = re.compile(r"<!-- not run: \S.* -->\n\Z")
_SHOWN = ("text",)  # what only shows


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str  # "" where it is no file
    code: str
    line: int  # of the page, for messages


def blocks(page: str) -> list[Block]:
    """What of a page is run. Raises AssertionError for a block that is neither run, nor only shown, nor left out with a
    reason."""
    found: list[Block] = []
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        language, title, code = match[1], match[2] or "", match[3]
        if language in _SHOWN or _SKIP.search(page[: match.start()]):
            continue
        assert title or language in ("python", "sh"), (
            f"line {line}: a {language} block is a file with a title, or is left out with <!-- not run: reason -->"
        )
        found.append(Block(language, title, code, line))
    assert len(re.findall(r"^```\w", page, re.MULTILINE)) == len(_BLOCK.findall(page)), "a block that is not read"
    return found


def small(page: str, replacements: Mapping[str, str]) -> str:
    """The page with other numbers. Raises AssertionError where one of them is not on it."""
    for old, new in replacements.items():
        assert old in page, f"{old!r} is not on the page"
        page = page.replace(old, new)
    return page


class Reader:
    """Follows a page: writes its files, runs its code, starts its servers; works in the present folder."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {}
        self.servers: list[subprocess.Popen[str]] = []

    def follow(self, name: str, found: list[Block]) -> None:
        for block in found:
            place = f"{name}:{block.line}"
            if block.title:
                Path(block.title).write_text(block.code, encoding="utf-8")
            elif block.language == "python":
                exec(compile("\n" * block.line + block.code, name, "exec"), self.names)
            else:
                for line in block.code.splitlines():
                    self._command(place, line)

    def _command(self, place: str, line: str) -> None:
        words = shlex.split(line, comments=True)
        if not words:
            return
        print(f"$ {line}", flush=True)
        if words[-1] == "&":
            self._serve(words[1:-1])
        elif words[0] == "neuromas":
            main(words[1:])
        else:
            assert words[0] == "python", f"{place}: only neuromas and python are run, not {words[0]!r}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", words[1:])
                runpy.run_path(words[1], run_name="__main__")

    def _serve(self, words: list[str]) -> None:
        """Start a server and wait until it says its address."""
        code = "from neuromas.cli import main; main()"
        server = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout is not None
        assert "http://" in server.stdout.readline(), f"{words}: the server did not start"

    def close(self) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.communicate(timeout=120)
