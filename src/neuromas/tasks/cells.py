"""Reads the cells of a table that are not plain text: conversations as questions, and options in every usual form."""

import ast
import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
from typing import Any, NamedTuple, TypeVar

from neuromas.tasks.parsing import LETTERS

ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant"}
ROLES |= {"gpt": "assistant", "model": "assistant"}

Cell = TypeVar("Cell")
_LONGEST = 100_000  # Characters of a literal of Python.


class Options(NamedTuple):
    """The options of a question, and the labels that its table gives them."""

    texts: list[str]
    labels: list[str] | None = None


def conversation(turns: Iterable[tuple[str, str]]) -> str:
    """One question of (role, text): the system's messages, then a lone user message, each as it is.

    If there are more turns, each stands on a line of its own as `User: …` or `Assistant: …`. Nothing but text reaches
    the nodes: a role is a word, never a marker.
    """
    said = [(ROLES[role], text) for role, text in turns]
    frame, turns = [t for r, t in said if r == "system"], [(r, t) for r, t in said if r != "system"]
    lone = len(turns) == 1 and turns[0][0] == "user"
    return "\n".join([*frame, *(text if lone else f"{role.capitalize()}: {text}" for role, text in turns)])


def plain(cell: Any) -> str:
    """The text of a cell with text, a finite number, or a date or time (ISO 8601). Raises ValueError for any other."""
    if isinstance(cell, date | time):
        return str(cell).removesuffix(" 00:00:00")
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, int | float) and not isinstance(cell, bool) and math.isfinite(cell):
        return str(cell)
    raise ValueError(f"is {shown(cell)}, which is neither text nor a number")


def question(cell: Any) -> str:
    """The text of a question: text, or a list of turns, `role` and `content` or `from` and `value` each, also as a
    literal of JSON or Python.

    Turns of the assistant at the end are left out: they are the answer. Raises ValueError for anything else.
    """
    if isinstance(cell, str) and re.match(r"\s*\[\s*\{\s*[\"'](?:role|from|content|value)[\"']\s*:", cell):
        with contextlib.suppress(ValueError):
            cell = _literal(cell)  # tables without nested cells keep conversations so
    if isinstance(cell, list | tuple) and cell and all(isinstance(turn, dict) for turn in cell):
        turns: list[tuple[str, str]] = []
        for turn in cell:
            role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
            if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
                content = "".join(str(part.get("text", "")) for part in content)
            if role not in ROLES or not isinstance(content, str):
                raise ValueError(f"has the turn {shown(turn)}; a turn has a role ({', '.join(ROLES)}) and a text")
            turns.append((role, content.strip()))
        while turns and ROLES[turns[-1][0]] == "assistant":
            turns.pop()
        if not any(text for role, text in turns if ROLES[role] == "user"):
            raise ValueError("has no turn of a user")
        return conversation(turns)
    text = plain(cell)
    if not text:
        raise ValueError("is empty")
    return text


def options(cell: Any) -> Options:
    """Options given as a list of texts, as {"text": […], "label": […]}, as [{"label": …, "text": …}, …], as {"A": …,
    "B": …}, as {"1": …, "2": …}, or as one of these in a literal of JSON or Python.

    Raises ValueError for anything else.
    """
    found = cell
    if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        try:
            found = _literal(cell)
        except ValueError as error:
            raise ValueError(f"is {shown(cell)}, which is no list in JSON or Python ({error})") from error
    if isinstance(found, list | tuple) and found and all(isinstance(option, dict) for option in found):
        found = {"text": [o.get("text") for o in found], "label": [o.get("label", o.get("key")) for o in found]}
    labels = None
    if isinstance(found, dict):
        if {"text", "label"} <= found.keys():
            found, labels = found["text"], found["label"]
        else:  # by letter; a table of records fills the letters that a row lacks with nulls
            kept = {str(key): text for key, text in sorted(found.items()) if text is not None}
            found, labels = list(kept.values()), list(kept)
            if labels not in [[chr(ord(first) + place) for place in range(len(labels))] for first in "Aa01"]:
                raise ValueError(
                    f"is {shown(cell)}; the keys of options are text and label, or A, B, C and so on, or 1, 2, 3"
                )
    if not isinstance(found, list | tuple) or (labels is not None and len(labels) != len(found)):
        raise ValueError(f"is {shown(cell)}, which is no list of options")
    if not 2 <= len(found) <= len(LETTERS):
        raise ValueError(f"has {len(found)} options, and must have 2 to {len(LETTERS)}")
    texts = [plain(option) for option in found]
    if not all(texts):
        raise ValueError(f"is {shown(cell)}, where an option is empty")
    return Options(texts, None if labels is None else [plain(label) for label in labels])


def native(cell: Any) -> Any:
    """A cell as Python has it, where it is NumPy's: numbers by their shortest numerals, arrays as lists."""
    if isinstance(cell, dict):
        return {key: native(value) for key, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [native(value) for value in cell]
    if type(cell).__module__ != "numpy":
        return cell
    if cell.shape:
        return [native(value) for value in cell]
    return float(str(cell)) if isinstance(cell.item(), float) else cell.item()


def missing(row: Mapping[str, Any], column: str) -> str:
    """The words of an error about a row without this cell, with the remedy."""
    has = f"(it has {', '.join(row)})"
    if column in row:
        return f"has no {column!r}: the cell is empty; write it, or remove the row"
    if deep := next((name for name, cell in row.items() if _holds(cell, column)), None):
        return f"has no {column!r} {has}, but inside {deep!r} there is one; write a row for each question"
    return f"has no {column!r} {has}; name the columns with question, answer, choices and difficulty, or remove the row"


def _holds(cell: Any, column: str) -> bool:
    """True where a record with this column lies somewhere inside a cell, as in SQuAD's own file."""
    if isinstance(cell, dict):
        return column in cell or any(_holds(value, column) for value in cell.values())
    return isinstance(cell, list) and any(_holds(value, column) for value in cell[:10])


def _literal(text: str) -> Any:
    """The value of a literal of JSON, or of Python as pandas writes nested cells. Raises ValueError for neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(text.strip()[:_LONGEST])
        raise ValueError(str(error)) from error


def options_in(row: Mapping[str, Any], columns: Sequence[str]) -> Options:
    """Options of which each has a column; the last columns may be empty. Raises ValueError where another is."""
    texts = ["" if row.get(column) is None else plain(row[column]) for column in columns]
    while texts and not texts[-1]:
        texts.pop()
    if len(texts) < 2 or not all(texts):
        raise ValueError(f"the options in {', '.join(columns)} are {shown(texts)}, where one is missing")
    return Options(texts, list(columns[: len(texts)]))


def shown(cell: Any) -> str:
    """A cell as an error names it."""
    text = repr(cell)
    return text if len(text) <= 80 else f"{text[:77]}…"


def in_column(column: str, row: Mapping[str, Any], read: Callable[[Any], Cell]) -> Cell:
    """A row's cell through `read`. Raises ValueError that names the column."""
    try:
        return read(row[column])
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {column!r} {error}") from error


def finite(cell: Any) -> float:
    """The number in a cell. Raises ValueError where it is not finite."""
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(f"is {cell!r}, and must be a finite number")
    return number
