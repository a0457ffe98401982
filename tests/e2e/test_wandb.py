"""`neuromas train --wandb`: every line's numbers reach the board once, under the same run when resumed."""

import json
import sys
import types
from importlib.machinery import ModuleSpec

import pytest

from neuromas import cli
from neuromas.files import read_json_lines

RECIPE = """
topology = "1"
[task]
name = "compositional"
[train]
steps = 2
questions = 2
rollouts = 4
validation_questions = 4
"""


class Board:
    """What `wandb.init` returns."""

    def __init__(self, **settings) -> None:
        self.settings, self.lines, self.summary, self.ended = settings, [], {}, False

    def log(self, numbers, step) -> None:
        self.lines.append((step, numbers))

    def finish(self) -> None:
        self.ended = True


@pytest.mark.slow
def test_every_line_reaches_the_board_and_a_resumed_run_goes_on_there(tmp_path, monkeypatch) -> None:
    boards: list[Board] = []
    init = lambda **settings: boards.append(Board(**settings)) or boards[-1]
    fake = types.ModuleType("wandb")
    fake.__spec__, fake.init = ModuleSpec("wandb", None), init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    (tmp_path / "short.toml").write_text(RECIPE)
    command = ["train", str(tmp_path / "short.toml"), "--test-limit", "4", "--wandb", "p", "--out", str(tmp_path / "r")]
    cli.main(command)
    cli.main([*command, "--resume", "--steps", "3"])
    first, second = boards
    assert [step for step, _ in first.lines + second.lines] == [0, 1, 2, 3]
    assert (first.settings["project"], first.settings["config"]["train"]["steps"]) == ("p", 2)
    assert first.settings["id"] == second.settings["id"] and second.settings["resume"] == "allow"
    for (_, sent), line in zip(
        first.lines + second.lines, read_json_lines(tmp_path / "r" / "metrics.jsonl"), strict=True
    ):
        assert sent.get("reward") == line.get("reward")
        if line["step"]:
            assert sent["nodes/1.1/entropy"] == line["nodes"]["1.1"]["entropy"]
    final = json.loads((tmp_path / "r" / "final.json").read_text())
    best = next(row for row in final["results"] if row["checkpoint"] == "best" and row["decoding"] == "greedy")
    assert second.summary["test/best/greedy/as sent/accuracy"] == best["accuracy"] and second.ended


def test_without_the_package_the_remedy_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SystemExit):
        cli.main(["train", "--task", "compositional", "--wandb", "p", "--out", str(tmp_path / "r")])
    assert "pip install wandb" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
