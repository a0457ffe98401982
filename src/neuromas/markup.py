"""Small pieces of HTML by which objects show themselves in notebooks. All text is escaped."""

import io
from collections.abc import Sequence
from html import escape
from typing import Any


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
