"""Asking many questions: a table answered row by row into another one, and a conversation in the terminal."""

import contextlib
import csv
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuromas.cli.systems import Loaded
from neuromas.errors import ConfigError
from neuromas.evaluate.room import too_long
from neuromas.files import write_text
from neuromas.network.forward import Network
from neuromas.tasks.guess import question_column
from neuromas.tasks.own import OwnTask
from neuromas.tasks.reward import graded
from neuromas.tasks.tables import RawRow, kind_of, read_file
from neuromas.types import Question, Trace

_AT_ONCE = 64  # questions between two writings of the output
_KINDS = (".csv", ".tsv", ".jsonl")


def answer_file(
    loaded: Loaded,
    table: Path,
    out: Path,
    column: str | None,
    decoding: Mapping[str, Any],
    progress: Callable[[int, int], None],
) -> int:
    """Answer the rows of a table that `out` does not hold yet; returns how many rows it then has.

    `out` gets the table's own columns, then `answer`, `message NODE` of every node, `system`, and `reward` where the
    table has the columns of the run's own task; a row whose prompt is too long has the reason in `error`. It is written
    whole after every 64 rows, and a second call goes on after the last of them.
    column: of the questions; None: that of the run's task, else a guess. decoding: options of the system's `answer`.
    Raises ConfigError where `out` holds something else, TaskError for a table that cannot be read.
    """
    if kind_of(out) not in _KINDS:
        raise ConfigError(f"--out is {out}, and answers are written to files that end with {', '.join(_KINDS)}")
    rows = read_file(table)
    questions, graded_rows = _questions(loaded, table, rows, column)
    done = read_file(out) if out.exists() else []
    name = column or question_column(table, rows)
    for number, (row, old) in enumerate(zip(rows, done, strict=False), 1):
        if "system" not in old or str(old.get(name)) != str(row.get(name)):
            raise ConfigError(f"{out}, row {number}, is no answer to row {number} of {table}; choose another --out")
    network = loaded.system if isinstance(loaded.system, Network) else None
    long = {} if network is None else {q.id: str(error) for q, error in too_long(network, questions[len(done) :])}
    progress(len(done), len(rows))
    while len(done) < len(rows):
        span = slice(len(done), len(done) + _AT_ONCE)
        asked = [question for question in questions[span] if question.id not in long]
        answered = loaded.system.answer(asked, **decoding) if asked else []
        traces = {trace.question_id: trace for trace in answered}
        for row, question in zip(rows[span], questions[span], strict=True):
            trace = traces.get(question.id)
            made: RawRow = {"answer": "", "system": loaded.system.name, "error": long.get(question.id, "")}
            if trace is not None:
                made |= {"answer": trace.answer, **_messages(trace)}
                if graded_rows:
                    made["reward"] = graded(loaded.task, [question], [trace.answer], abstain=True)[0].reward
            done.append({**row, **made})
        write_text(out, _text(done, out))
        progress(len(done), len(rows))
    return len(done)


def _questions(loaded: Loaded, table: Path, rows: list[RawRow], column: str | None) -> tuple[list[Question], bool]:
    """The question of each row, and whether the task can grade its answer."""
    task = loaded.task
    if column is None and isinstance(task, OwnTask) and task.fits(rows):
        return task.questions_of(str(table), rows), True
    name = column or question_column(table, rows)
    if any(name not in row for row in rows):
        raise ConfigError(f"{table} has no column {name!r}; it has {', '.join(map(str, rows[0]))}")
    asked = [loaded.asked(str(row[name] or "")) for row in rows]
    return [Question(f"asked-{n}", q.text, "", q.instruction, q.answer_prefix) for n, q in enumerate(asked, 1)], False


def _messages(trace: Trace) -> dict[str, str]:
    """The text of every call but the last, under its node's name; the second call of a node gets a number."""
    texts: dict[str, str] = {}
    for call in trace.calls[:-1]:
        name, number = f"message {call.node}", 2
        while name in texts:
            name, number = f"message {call.node} ({number})", number + 1
        texts[name] = call.text
    return texts


def _text(rows: Sequence[RawRow], out: Path) -> str:
    kind = kind_of(out)
    if kind == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, delimiter="\t" if kind == ".tsv" else ",", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def typed_questions() -> Iterator[str]:
    """The questions that a person types, or that come from a pipe, line by line; empty lines are none."""
    if not sys.stdin.isatty():
        yield from filter(None, map(str.strip, sys.stdin))
        return
    with contextlib.suppress(ImportError):  # not on Windows
        importlib.import_module("readline")  # gives `input` its history and editing
    print("Type a question; an empty line ends.")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        if not line:
            return
        yield line
