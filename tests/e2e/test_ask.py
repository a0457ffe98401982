"""Asking: a file of questions, answered once each whatever interrupts it; lines from a pipe; names of runs inside."""

import csv
import io
import json
import os
import pty
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import neuromas as nm
from neuromas import cli
from neuromas.cli import batch

SETTINGS = {"train.questions": 2, "train.rollouts": 2, "train.validation_questions": 2, "sampling.message_tokens": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on a table, `runs/sums`, and the table."""
    home = tmp_path_factory.mktemp("ask")
    (home / "sums.csv").write_text("sum,result\n" + "".join(f"{n}+{n},{2 * n}\n" for n in range(20)))
    nm.train(
        topology="2", task=home / "sums.csv", steps=1, out=home / "runs" / "sums", settings=SETTINGS, progress=False
    )
    return home


@pytest.fixture
def asked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command `ask` on a table; returns the rows that it wrote."""
    monkeypatch.setattr(batch, "_AT_ONCE", 4)

    def ask(table: Path, *options: str, out: str = "answers.csv") -> list[dict[str, str]]:
        cli.main(["ask", str(folder / "runs" / "sums"), "--file", str(table), "--out", str(tmp_path / out), *options])
        return batch.read_file(tmp_path / out)

    return ask


def test_a_file_is_answered_row_by_row_with_messages_and_grades(asked, folder: Path) -> None:
    rows = asked(folder / "sums.csv")
    assert list(rows[0]) == [
        "sum", "result", "answer", "system", "error", "message 1.1", "message 1.2", "reward",
    ]  # fmt: skip
    run = nm.load(folder / "runs" / "sums")
    trace = run.ask("7+7")
    assert [rows[7][name] for name in ("answer", "message 1.1", "message 1.2")] == [
        trace.answer, *(call.text for call in trace.calls[:-1]),
    ]  # fmt: skip
    for row, question in zip(rows, run.task.questions_of("", batch.read_file(folder / "sums.csv")), strict=True):
        assert float(row["reward"]) == run.task.grade(question, row["answer"]).reward


def test_what_was_interrupted_goes_on_and_ends_with_the_same_file(asked, folder, tmp_path, monkeypatch) -> None:
    whole = asked(folder / "sums.csv", "--sampled", out="whole.csv")
    full, calls = nm.Network.answer, []

    def tired(self, questions, **options):
        calls.append([question.text for question in questions])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return full(self, questions, **options)

    monkeypatch.setattr(nm.Network, "answer", tired)
    with pytest.raises(SystemExit):
        asked(folder / "sums.csv", "--sampled")
    assert len(batch.read_file(tmp_path / "answers.csv")) == 8
    assert asked(folder / "sums.csv", "--sampled") == whole
    assert [text for call in calls for text in call] == [f"{n}+{n}" for n in (*range(12), *range(8, 20))]
    assert (tmp_path / "answers.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_other_columns_kinds_and_too_long_rows(asked, tmp_path: Path, capsys) -> None:
    table = tmp_path / "open.jsonl"
    queries = [{"id": n, "query": "1+" * long + "1"} for n, long in enumerate((1, 900))]
    table.write_text("".join(json.dumps(query) + "\n" for query in queries))
    rows = asked(table, out="answers.jsonl")
    assert [row["id"] for row in rows] == [0, 1] and "reward" not in rows[0]
    assert not rows[0]["error"] and "context window" in rows[1]["error"] and rows[1]["answer"] == ""
    for options, message in ((["--column", "sum"], "no column 'sum'"), ([], "no answer to row 1")):
        table.write_text(json.dumps({"query": "5+5"}) + "\n")
        with pytest.raises(SystemExit):
            asked(table, *options, out="answers.jsonl")
        assert message in capsys.readouterr().err


def test_lines_from_a_pipe_are_asked_one_by_one(folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1+1\n\n2+2\n"))
    cli.main(["ask", str(folder / "runs" / "sums")])
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line.startswith("question")] == ["question 1+1", "question 2+2"]


def test_a_folder_of_runs_names_them(folder: Path, capsys) -> None:
    for command in (["serve", str(folder)], ["watch", str(folder)], ["ask", str(folder), "1"]):
        with pytest.raises(SystemExit):
            cli.main(command)
        assert f"it holds the runs {folder / 'runs' / 'sums'}; name one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"), [(["tr"], "train"), (["train", "--st"], "--steps"), (["serve", "--checkpoint", ""], "best")]
)
def test_the_shell_completes_commands_options_and_values(words, found, tmp_path, capsys) -> None:
    cli.main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    code = f"source ./script; COMP_WORDS=(neuromas {shlex.join(words)}); COMP_CWORD={len(words)}; "
    code += '_tyro_neuromas; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found in done.stdout.split(), done.stderr


def test_tab_completes_the_path_of_a_run(tmp_path: Path, capsys) -> None:
    """In a terminal, since it is readline that completes paths; `tyro`'s own script erased them."""
    (tmp_path / "runs" / "a b").mkdir(parents=True)
    cli.main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    outer, inner = pty.openpty()
    command = ["bash", "--norc", "--noprofile", "-i"]
    ends: dict[str, Any] = {"stdin": inner, "stdout": inner, "stderr": inner, "cwd": tmp_path}
    with subprocess.Popen(command, **ends, start_new_session=True, env=os.environ | {"TERM": "dumb"}) as bash:
        os.write(outer, b"source ./script\nneuromas ask ru\ta\t 7\n")
        shown, end = b"", time.monotonic() + 30
        while b"ask runs/a\\ b/ 7" not in shown and time.monotonic() < end and select.select([outer], [], [], 30)[0]:
            shown += os.read(outer, 4096)
        bash.kill()
    assert b"ask runs/a\\ b/ 7" in shown


def test_answers_with_every_kind_of_text_come_back_from_a_table(tmp_path: Path) -> None:
    rows = [{"a": 'x,"y"\nz', "b": "ü\t;"}, {"a": "", "b": " 1"}]
    for kind in ("csv", "tsv", "jsonl"):
        file = tmp_path / f"rows.{kind}"
        file.write_bytes(batch._text(rows, file).encode())
        assert batch.read_file(file) == rows
    assert next(csv.reader(io.StringIO(batch._text(rows, tmp_path / "rows.csv")))) == ["a", "b"]
