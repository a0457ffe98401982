"""Questions that do not fit into the context window are found before anything is asked, named or left out."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from neuromas.config import RunConfig
from neuromas.errors import ConfigError, TaskError
from neuromas.evaluate.room import check_prompts, fitting, too_long
from neuromas.evaluate.run import evaluate
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.run.session import Session
from neuromas.tasks import SPLITS, Task, load_task
from neuromas.tasks.compositional import Compositional
from neuromas.types import Question

LONG = "9" * 900


@pytest.fixture(scope="module")
def network(tiny: Backbone) -> Network:
    return Network.create("2", tiny)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return Backbone.load("tiny")


def own(folder: Path, *, long_rows: tuple[int, ...] = (57,)) -> str:
    rows = [{"q": f"{n}+1={LONG if n in long_rows else ''}", "a": n + 1} for n in range(1, 121)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {
        "data": "rows.jsonl",
        "question": "q",
        "answer": "a",
        "grader": "number",
        "test_size": 20,
        "validation_size": 8,
    }
    (folder / "own.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    return str(folder / "own.toml")


def every(file: str) -> tuple[Task, list[Question]]:
    task = load_task(file)
    return task, [question for split in SPLITS for question in task.questions(split)]


def test_a_long_row_is_named_with_file_row_and_tokens(network: Network, tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"rows.jsonl, row 57: .*needs 9\d\d prompt tokens.*window is \d+.*task.drop_long"
    ):
        check_prompts(network, *every(own(tmp_path)))
    with pytest.raises(TaskError, match="and 2 more of the questions"):
        check_prompts(network, *every(own(tmp_path, long_rows=(3, 57, 90))))
    check_prompts(network, *every(own(tmp_path, long_rows=())))


def test_an_evaluation_with_a_long_row_asks_nothing(network: Network, tmp_path: Path) -> None:
    task = load_task(own(tmp_path, long_rows=tuple(range(1, 121))))
    with pytest.raises(TaskError, match=r"rows.jsonl, row \d+: .*and 19 more"):
        evaluate(network, task, "test", progress=lambda done, all: pytest.fail("something was asked"))


def test_what_is_left_out_is_counted_and_the_rest_stays(network: Network, tmp_path: Path) -> None:
    task = load_task(own(tmp_path, long_rows=(3, 57, 90)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kept = fitting(network, task)
        questions = {split: kept.questions(split) for split in SPLITS}
    assert sum(map(len, questions.values())) == 117 and all(LONG not in q.text for qs in questions.values() for q in qs)
    assert sum(int(str(w.message).split(": ")[1].split(" of ")[0]) for w in told) == 3
    assert kept.describe()["sizes"] == {split: len(found) for split, found in questions.items()}
    assert sum(len(task.questions(split)) for split in SPLITS) == 120


def test_only_prompts_of_many_bytes_are_encoded(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Compositional(train_size=50).questions("train")
    rendered: list[str] = []
    real = Network.prompt
    monkeypatch.setattr(Network, "prompt", lambda self, *given: rendered.append(given[1].id) or real(self, *given))
    assert too_long(network, asked) == [] and set(rendered) == {""}


def test_a_run_with_a_long_row_does_not_begin(tmp_path: Path, tiny: Backbone) -> None:
    def config(**more: Any) -> RunConfig:
        return RunConfig.make({"topology": "2", "task": {"name": own(tmp_path), **more}, "train": {"steps": 1}})

    with pytest.raises(TaskError, match="row 57"):
        Session.open(config(), tmp_path / "run", resume=False, backbone=tiny)
    assert not (tmp_path / "run").exists()
    with pytest.warns(UserWarning, match="1 of .* questions are left out"):
        session = Session.open(config(drop_long=True), tmp_path / "run", resume=False, backbone=tiny)
    assert sum(len(session.task.questions(split)) for split in SPLITS) == 119
    with pytest.raises(ConfigError, match="task.drop_long"):
        given = {"method": "malt", "task": {"drop_long": True}}
        Session.open(RunConfig.make(given), tmp_path / "team", resume=False, backbone=tiny)
