"""A report as Markdown and as one HTML page without anything from outside. Every text is escaped: models wrote some."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromas.markup import visible


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Table:
    """Cells are plain text. `strong`: rows to be set off. A column of numbers is aligned to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset({0})  # columns of words, aligned to the left
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    path: Path  # PNG
    about: str


Block = Heading | Text | Table | Picture


def to_markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_md(text)}"
        case Text(text):
            return _md(text)
        case Picture(path, about):
            return f"![{_md(about)}]({path.name})"
        case Table(head, rows, words, strong):
            rule = ["---" if i in words else "---:" for i in range(len(head))]
            body = [[f"**{_md(c)}**" if i in strong and c else _md(c) for c in row] for i, row in enumerate(rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in ([_md(c) for c in head], rule, *body))


def _md(text: str) -> str:
    """Text that Markdown, and the HTML within it, leaves as it is; on one line."""
    text = html.escape(plain(text), quote=False)
    text = re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", text)
    return re.sub(r"(?i)(https?|ftp|mailto|www)([:.])", r"\1&#8203;\2", text)  # else some readers make links


def plain(text: str) -> str:
    """Text without characters that steer a terminal or the direction of writing; each run of white space is a blank."""
    return re.sub(" +", " ", visible("".join(" " if c.isspace() else c for c in text))).strip()


_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --page: #fff; --line: #d5d9de; --soft: #f3f5f7; --dim: #59636e }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --page: #14171a; --line: #343a41; --soft: #1f2429; --dim: #9aa4af }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 76rem;
  margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem }
p { max-width: 48rem; margin: .5rem 0; overflow-wrap: anywhere }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .75rem 0 }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; width: 100% }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { color: var(--dim); font-weight: 600; background: var(--soft) } tr:last-child td { border-bottom: 0 }
.words { text-align: left; white-space: normal; min-width: 8rem; max-width: 30rem; overflow-wrap: anywhere }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--page); max-width: 12rem }
th:first-child { background: var(--soft) } .strong td { font-weight: 650; background: var(--soft) }
img { display: block; width: 100%; min-width: 36rem; max-width: 56rem; margin: 0 auto; background: #fff }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def to_html(blocks: Sequence[Block], title: str) -> str:
    """One page: pictures within it, no script, and a policy that forbids to load anything."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_html(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            *map(_element, blocks),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _element(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_html(text)}</h{level}>"
        case Text(text):
            return f"<p>{_html(text)}</p>"
        case Picture(path, about):
            data = base64.b64encode(path.read_bytes()).decode()
            return _wide(f'<img alt="{_html(about)}" src="data:image/png;base64,{data}">')
        case Table(head, rows, words, strong):
            kind = [' class="words"' if i in words else "" for i in range(len(head))]
            top = "".join(f"<th{kind[i]}>{_html(cell)}</th>" for i, cell in enumerate(head))
            cells = ["".join(f"<td{kind[i]}>{_html(cell)}</td>" for i, cell in enumerate(row)) for row in rows]
            opened = ['<tr class="strong">' if n in strong else "<tr>" for n in range(len(rows))]
            body = [f"{start}{row}</tr>" for start, row in zip(opened, cells, strict=True)]
            table = f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n</table>"
            return _wide(table)


def _wide(inner: str) -> str:
    """An element that may be wider than the page: it scrolls by itself, by keyboard too."""
    return f'<div class="wide" tabindex="0">{inner}</div>'


def _html(text: str) -> str:
    return html.escape(plain(text), quote=True)
