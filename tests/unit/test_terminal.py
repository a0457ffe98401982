"""No text of users and models gives orders to the terminal, the tables or their markup."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from neuromas import cli
from neuromas.cli import show
from neuromas.markup import say, visible
from neuromas.types import NodeCall, Question, Trace

TITLE = "\x1b]0;owned\x07"  # sets the title of a window
COLOURED = "\x1b[31mred\x1b[0m"
TURNED = "right \u202eto left"
MARKED = "[bold]strong[/bold] [/nothing] [link=x]"
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f\u2028]")
TEXTS = [TITLE, COLOURED, TURNED, MARKED, "a\rb", "c\x08d", "\x9b2J", "line\u2028end", "\ud800"]


def test_lines_and_letters_stay_and_what_steers_goes() -> None:
    for text in ("plain", "two\nlines\tand tabs", "ünï ☃ 漢字 🎉", "Ω ≤ ½", "a\u00a0b", "e\u0301"):
        assert visible(text) == text
    for text in TEXTS:
        assert not STEERING.search(visible(text))
    assert visible(TURNED) == "right \N{REPLACEMENT CHARACTER}to left"


def call(text: str) -> NodeCall:
    return NodeCall("1.1", [1], [], [1], [0.0], [0.0], text, False)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(
        show, "console", show.PlainConsole(file=text, width=300, force_terminal=True, color_system=None)
    )
    return text


def without_styles(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.mark.parametrize("text", TEXTS)
def test_traces_and_tables_show_every_text_and_obey_none(console: io.StringIO, text: str) -> None:
    trace = Trace("q", 0, [call(text)], text, 1, sequential_tokens=1)
    show.print_trace(Question("q", text, text), trace, decode=lambda ids: text)
    table = show.grid("name", "number", title=text)
    table.add_row(show.escape(text), "1")
    show.console.print(table)
    with show.bar(text) as update:
        update(1, 2)
    shown = without_styles(console.getvalue())
    said = re.sub(r"\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\r", "", shown)  # of the bar: its cursor, and going back
    assert not STEERING.search(said), repr(said)
    assert said.count(re.sub("\N{REPLACEMENT CHARACTER}.*", "", visible(text))) >= 5
    assert not STEERING.search(str(trace))


def test_lines_and_errors_go_through_the_same_door(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"folder {TITLE}", MARKED)
    with pytest.raises(SystemExit):
        cli.main(["draw", f"2{TITLE}\nmore"])
    out, err = capsys.readouterr()
    assert not STEERING.search(out + err)
    assert MARKED in out
    assert err.count("\n") == 1


OWN = """data = "rows.jsonl"
question = "q"
answer = "a"
grader = "exact"
test_size = 4
validation_size = 4
"""


RECIPE = """topology = "2"
backbone.name = "tiny"
task.name = TASK
sampling = { message_tokens = 2, answer_tokens = 2 }
train = { steps = 1, warmup = 0, questions = 2, rollouts = 2, validation_questions = 2, silence_questions = 2 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder and a task whose names and texts are hostile."""
    folder = tmp_path / "a["
    folder.mkdir()
    rows = [{"q": f"{n} {COLOURED} {MARKED}", "a": f"[/x] {TITLE}"} for n in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "own].toml").write_text(OWN)
    return folder


@pytest.mark.slow
def test_commands_show_hostile_names_and_texts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own: Any = str(folder / "own].toml")
    run = str(folder / "run]")
    recipe = str(folder / "r].toml")
    Path(recipe).write_text(RECIPE.replace("TASK", json.dumps(own)))
    for command in (
        ["train", recipe, "--out", run],
        ["eval", run, "--limit", "2"],
        ["ask", run, f"what? {TITLE}{MARKED}"],
        ["tasks", own],
        ["ask", "direct", f"what? {TITLE}{MARKED}", "--recipe", recipe],
        ["eval", "direct", "--task", own, "--backbone", "tiny", "--limit", "2"],
        ["draw", "2-2", "--out", str(folder / "x].svg")],
    ):
        with contextlib.suppress(SystemExit):
            cli.main(command)
        out, err = capsys.readouterr()
        print(command, out, err)
        assert "error" not in err, err
        assert not STEERING.search(re.sub(r"\r", "", out)), (command, out)
        assert "Traceback" not in err
