"""`neuromas train --track`: every line's numbers reach the tracker once, under the same run when resumed."""

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
        self.settings, self.lines, self.config, self.ended = settings, [], {}, False

    def log(self, numbers, step, **_) -> None:
        self.lines.append((step, numbers))

    def finish(self) -> None:
        self.ended = True


@pytest.mark.slow
def test_every_line_reaches_the_board_and_a_resumed_run_goes_on_there(tmp_path, monkeypatch) -> None:
    boards: list[Board] = []
    init = lambda **settings: boards.append(Board(**settings)) or boards[-1]
    fake = types.ModuleType("wandb")
    fake.__spec__, fake.init = ModuleSpec("wandb", None), init
    fake.config = types.SimpleNamespace(update=lambda values, **_: boards[-1].config.update(values))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    (tmp_path / "short.toml").write_text(RECIPE)
    command = [
        "train",
        str(tmp_path / "short.toml"),
        "--test-limit",
        "4",
        "--track",
        "wandb",
        "--project",
        "p",
        "--out",
        str(tmp_path / "r"),
    ]
    cli.main(command)
    cli.main([*command, "--resume", "--steps", "3"])
    first, second = boards
    assert [step for step, _ in first.lines + second.lines] == [0, 1, 2, 2, 3, 3], "test figures are last"
    assert (first.settings["project"], first.config["train.steps"]) == ("p", 2)
    assert first.settings["id"] == second.settings["id"] and second.settings["resume"] == "allow"
    lines = read_json_lines(tmp_path / "r" / "metrics.jsonl")
    for (_, sent), line in zip(first.lines[:-1] + second.lines[:-1], lines, strict=True):
        assert sent.get("reward") == line.get("reward")
        if line["step"]:
            assert sent["entropy/1.1"] == line["nodes"]["1.1"]["entropy"]
    final = json.loads((tmp_path / "r" / "final.json").read_text())
    best = next(row for row in final["results"] if row["checkpoint"] == "best" and row["decoding"] == "greedy")
    assert second.lines[-1][1]["test/best/greedy/as sent/accuracy"] == best["accuracy"] and second.ended


@pytest.mark.parametrize(
    ("name", "missing", "remedy"),
    [("wandb", "wandb", "pip install wandb"), ("wandb", "accelerate.tracking", "[track]"), ("wb", None, "wandb")],
)
def test_what_is_missing_is_told_before_anything_is_written(
    name, missing, remedy, tmp_path, monkeypatch, capsys
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit):
        cli.main(["train", "--task", "compositional", "--track", name, "--out", str(tmp_path / "r")])
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
