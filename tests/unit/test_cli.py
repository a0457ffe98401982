"""The command line: quick help, lazy commands, mistakes told without a traceback."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import pytest

from neuromas import cli
from neuromas.errors import TopologyError


def exit_code(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_lists_every_command_and_imports_none() -> None:
    code = "import sys; from neuromas.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(cli.COMMANDS)
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert {*cli.COMMANDS} <= modules | {*cli.LISTS}
    loaded = {name for name in done.stderr.split() if name.startswith("neuromas.")}
    assert loaded == {"neuromas.cli", "neuromas.errors", "neuromas.markup"}
    assert not {"torch", "pydantic", "rich", "tyro"} & {*done.stderr.split()}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_shows_no_absent_value(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"usage: neuromas {command} " in shown
    assert "None" not in shown


def test_help_shows_the_defaults_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("draw", "--help") == 0
    assert "(default: text)" in capsys.readouterr().out


def test_unknown_command_suggests_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("trian") == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_a_mistake_is_one_line_on_stderr_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("draw", "2-0") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: layer width 0")
    assert len(shown.err.splitlines()) == 1


def test_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(command: str, args: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert exit_code("draw", "2-2") == 130


def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(command: str, args: list[str]) -> None:
        if command == "compare":
            cli.goes_on()
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    for command, told in (("compare", "; the same command goes on where it stopped"), ("eval", "")):
        assert exit_code(command) == 130
        assert capsys.readouterr().err == f"\ninterrupted{told}\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    """The reader is gone before the first line is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "neuromas", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_python_m_is_the_command() -> None:
    command = [sys.executable, "-m", "neuromas", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("neuromas ")


def test_a_warning_is_one_line_without_its_place_in_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_run", lambda *_: warnings.warn("it is \x1b[2J\nslow", stacklevel=1))
    before = warnings.showwarning
    cli.main(["env"])
    assert capsys.readouterr().err == "warning: it is \ufffd[2J slow\n"
    assert warnings.showwarning is before


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(command: str, args: list[str]) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["draw", "2-2"])


def test_draw_prints_text_and_mermaid(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["draw", "2-2"])
    assert "│ 2.1 │" in capsys.readouterr().out
    cli.main(["draw", "2-2", "--format", "mermaid"])
    assert capsys.readouterr().out.startswith("flowchart LR")


def test_draw_writes_a_picture(tmp_path: Path) -> None:
    cli.main(["draw", "1-1", "--out", str(tmp_path / "deep" / "net.svg")])
    assert "<svg" in (tmp_path / "deep" / "net.svg").read_text()


def test_tasks_lists_and_describes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["tasks", "--json", str(tmp_path / "tasks.json")])
    assert "compositional" in capsys.readouterr().out
    assert "bbh/navigate" in [t["name"] for t in json.loads((tmp_path / "tasks.json").read_text())]
    cli.main(["tasks", "compositional", "--json", str(tmp_path / "one.json")])
    assert "best constant" in capsys.readouterr().out
    assert json.loads((tmp_path / "one.json").read_text())[0]["sizes"].keys() == {"train", "validation", "test"}


def test_env_tells_what_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["env", "--json", str(tmp_path / "env.json")])
    found = json.loads((tmp_path / "env.json").read_text())
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert "pytest" not in found, "packages of the development tell nothing about a fault"
    assert found["torch"] in capsys.readouterr().out


def test_errors_of_the_library_are_what_the_command_line_catches() -> None:
    assert issubclass(TopologyError, ValueError)


@pytest.mark.parametrize("path", ["", "new", "new/x/y", "there", "/proc/no/x.json", "/dev/null/x.json", "x" * 300])
def test_a_place_that_cannot_take_the_results_is_found_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    """ "new" can be written, and nothing is made there by the check."""
    worked: list[Path] = []

    def work(json: Path | None = None) -> None:
        worked.append(json or Path())

    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "function_of", lambda _: work)
    monkeypatch.setattr(cli, "described", lambda function: function)
    with contextlib.suppress(SystemExit):
        cli.main(["eval", "--json", path])
    assert [*map(str, worked)] == ([path] if path.startswith("new") else [])
    assert [*tmp_path.iterdir()] == [tmp_path / "there"]


@pytest.mark.parametrize(
    "command",
    [["train", "--steps", "1", "--out", ""], ["train", "--out="], ["tasks", "--json", " "], ["grow", "x", "--out", ""]],
)
def test_an_empty_place_is_not_the_present_folder(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        cli.main(command)
    assert "is empty; name a file or folder" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def _unread() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def _full() -> TextIO:
    return Path("/dev/full").open("w")


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("place, code, said", [(_unread, 1, ""), (_full, 2, "No space left on device")])
def test_work_goes_on_where_its_output_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: Callable[[], TextIO],
    code: int,
    said: str,
    flush: bool,
) -> None:
    def work(*_: object) -> None:
        for step in range(3):
            print(step, flush=flush)
        (tmp_path / "results").touch()

    monkeypatch.setattr(cli, "_run", work)
    monkeypatch.setattr(sys, "stdout", place())
    with pytest.raises(SystemExit) as end:
        cli.main(["train"])
    assert (tmp_path / "results").exists()
    assert end.value.code == code
    assert said in capsys.readouterr().err
    sys.stdout.close()
