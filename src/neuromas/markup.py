"""Text of users and models as it is shown: without what steers a terminal, and escaped in pieces of HTML."""

import io
import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Any, TextIO

_STEERING = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # Unicode's categories of what is not shown


def visible(text: str) -> str:
    """Text without characters that steer a terminal or the direction of writing; its lines and tabs stay."""
    shown = lambda c: c in "\n\t" or unicodedata.category(c) not in _STEERING
    return "".join(c if shown(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(*lines: str, file: TextIO | None = None) -> None:
    """Print lines, to standard output by default, without what would steer a terminal."""
    print(*map(visible, lines), sep="\n", file=file, flush=True)


def html_table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and values, the values with their line breaks."""
    cell = '<td style="text-align:left;white-space:pre-wrap">'
    lines = "".join(f"<tr><th>{escape(name)}</th>{cell}{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(title)}</caption>{lines}</table>"


def html_grid(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a head line."""
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><tr>{titles}</tr>{lines}</table>"


def svg(figure: Any) -> str:
    """A matplotlib figure as inline SVG."""
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]
