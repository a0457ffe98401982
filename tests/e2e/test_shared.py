"""What is shared runs elsewhere: exports of every kind of task in other folders, through a hub, on renamed models."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

import neuromas as nm
from hub import hub
from neuromas import cli
from neuromas.errors import CheckpointError, TaskError
from neuromas.network.builtin import TINY_FOLDER
from neuromas.run.carry import adapter_names, base_of
from neuromas.tasks.base import Split, Task
from neuromas.types import Grade, Question

SETTINGS = {
    "train.questions": 2,
    "train.rollouts": 2,
    "train.validation_questions": 2,
    "train.learning_rate": 0.01,
    "sampling.message_tokens": 3,
    "adapter.rank": 2,
}
REWARD = "def score(question, reply):\n    return len(reply) / 100\n"
ROWS = [{"question": f"{n}+{n}", "answer": str(2 * n)} for n in range(20)]


class Halves(Task):
    """A task that only the program has."""

    name, version, max_answer_tokens = "halves", 1, 4

    def questions(self, split: Split) -> list[Question]:
        return [Question(f"{split}-{n}", f"{2 * n}/2", str(n), "Halve.", "=") for n in range(4)]

    def grade(self, question: Question, text: str) -> Grade:
        return Grade(float(text.strip("= ") == question.answer), text)


def trained(folder: Path, more: dict[str, Any] | None = None, **arguments: Any) -> nm.Run:
    return nm.train(
        topology="1", steps=1, out=folder / "run", settings=SETTINGS | (more or {}), progress=False, **arguments
    )


def elsewhere(run: nm.Run, folder: Path, **options: Any) -> Path:
    """An export of a run, moved to a folder where nothing of the exporter's is left."""
    run.export(folder / "out", **options)
    there = folder / "elsewhere" / "shared"
    there.parent.mkdir()
    shutil.move(folder / "out", there)
    return there


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[nm.Run, Path]:
    """A run on a table of the user's with a reward function, and its export, once table and function are gone."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "sums.csv").write_text("sum,result\n" + "".join(f"{n}+{n},{2 * n}\n" for n in range(20)))
    (home / "reward.py").write_text(REWARD)
    (home / "sums.toml").write_text(
        'data = "sums.csv"\nquestion = "sum"\nanswer = "result"\ngrader = "reward.py:score"\ntest_size = 4\n'
        'validation_size = 4\ninstruction = "Add."\nanswer_prefix = "="\nmax_answer_tokens = 3\n'
    )
    monkeypatch.chdir(tmp_path)
    run = trained(tmp_path, task=home / "sums.toml")
    there = elsewhere(run, tmp_path)
    shutil.move(home, tmp_path / "gone")
    return run, there


def test_an_own_task_travels_with_wording_reward_and_limits_and_without_rows_and_paths(own, tmp_path, capsys) -> None:
    run, there = own
    texts = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if str(tmp_path).encode() in text]
    assert not [path for path, text in texts.items() if b"19+19" in text]
    loaded = nm.load(there)
    assert loaded.network.limits == run.network.limits
    asked, before = loaded.task.asked("3+3"), run.network.answer([run.task.asked("3+3")])[0]
    assert (asked.instruction, asked.answer_prefix) == ("Add.", "=")
    assert loaded.ask("3+3").to_dict() | {"seconds": 0} == before.to_dict() | {"seconds": 0}
    assert loaded.task.grade(asked, "x" * 50).reward == 0.5
    with pytest.raises(TaskError, match=r"rows do not travel with an export: .* --task"):
        loaded.evaluate()
    rows = tmp_path / "gone" / "sums.csv"
    cli.main(["eval", str(there), "--task", str(rows), "--json", str(tmp_path / "result.json")])
    assert json.loads((tmp_path / "result.json").read_text())["n"] == 4
    cli.main(["ask", str(there), "[b]3+3"])
    assert "[b]3+3" in capsys.readouterr().out


def test_rows_given_in_python_travel_as_a_task_of_a_table(tmp_path: Path) -> None:
    run = trained(tmp_path, task=ROWS)
    there = elsewhere(run, tmp_path)
    loaded = nm.load(there)
    assert loaded.ask("3+3").answer == run.ask("3+3").answer
    (there / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    task = nm.load(there).task
    question = task.questions("test")[0]
    assert task.grade(question, f"**{question.answer}**").reward == 1


def test_a_task_that_only_the_program_has_is_asked_and_says_what_it_cannot_do(tmp_path: Path) -> None:
    run = trained(tmp_path, task=Halves())
    for folder in (tmp_path / "run", elsewhere(run, tmp_path)):
        loaded = nm.load(folder)
        assert loaded.ask("8/2").calls[-1].prefix_ids == run.ask("8/2").calls[-1].prefix_ids
        for ask in (loaded.evaluate, lambda loaded=loaded: loaded.task.parse(loaded.task.asked("x"), "y")):
            with pytest.raises(TaskError, match=r"given in Python.*neuromas.load\(folder, task="):
                ask()
        assert nm.load(folder, task=Halves()).evaluate().n == 4


def test_a_task_without_test_questions_is_trained_and_asked(tmp_path: Path) -> None:
    sizes = {"task.options": {"test_size": 0, "train_size": 8, "validation_size": 4}}
    run = trained(tmp_path, task="compositional", more=sizes)
    assert run.task.asked("1+1").instruction == run.task.questions("train")[0].instruction != ""


def test_an_export_of_a_built_in_task_asks_without_its_data(tmp_path: Path, monkeypatch) -> None:
    rows = [
        {"id": str(n), "question": f"q {n}", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"}
        for n in range(9)
    ]
    for split in ("train", "validation", "test"):
        (tmp_path / f"arc_challenge_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("NEUROMAS_DATA", str(tmp_path))
    (tmp_path / "arc_challenge_train.jsonl").write_text(
        "".join(json.dumps(row | {"question": f"t {n}", "id": f"t{n}"}) + "\n" for n, row in enumerate(rows))
    )
    run = trained(tmp_path, task="arc-challenge", more={"task.options": {"validation_size": 2}})
    there = elsewhere(run, tmp_path)
    monkeypatch.setenv("NEUROMAS_DATA", str(tmp_path / "elsewhere"))
    assert nm.load(there).task.asked("x").answer_prefix == "The answer is"


def test_a_base_model_that_was_a_folder_is_named_at_export_and_asked_for_where_it_is_missing(tmp_path, capsys) -> None:
    shutil.copytree(TINY_FOLDER, tmp_path / "models" / "mine")
    run = trained(tmp_path, task="compositional", backbone=tmp_path / "models" / "mine")
    cli.main(["export", str(run.folder), "--out", str(tmp_path / "shared")])
    assert "the base model mine is a folder here" in capsys.readouterr().out
    there, base = tmp_path / "shared", base_of(tmp_path / "shared")
    assert base is not None and (base.name, base.local) == ("mine", True)
    assert not [p for p in there.rglob("*") if p.is_file() and str(tmp_path).encode() in p.read_bytes()]
    assert "--backbone FOLDER" in (there / "README.md").read_text()
    with pytest.raises(CheckpointError, match=f"{base.fingerprint}.*--backbone NAME"):
        nm.load(there)
    (tmp_path / "models" / "mine").rename(tmp_path / "models" / "renamed")
    assert nm.load(there, backbone=tmp_path / "models" / "renamed").ask("1").answer == run.ask("1").answer
    cli.main(["export", str(run.folder), "--out", str(tmp_path / "public"), "--base-model", "someone/mine"])
    assert "is a folder here" not in capsys.readouterr().out
    assert nm.load(tmp_path / "public", backbone="tiny").config.backbone.name == "tiny"
    assert json.loads((tmp_path / "public" / "config.json").read_text())["backbone"]["name"] == "someone/mine"


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> nm.Run:
    return nm.train(
        topology="1-1",
        task="compositional",
        steps=1,
        out=tmp_path_factory.mktemp("c") / "run",
        settings=SETTINGS,
        progress=False,
    )


def test_the_snippet_of_the_card_speaks_as_every_node(chain: nm.Run, tmp_path, monkeypatch) -> None:
    chain.export(tmp_path / "shared")
    monkeypatch.chdir(tmp_path)
    code = (tmp_path / "shared" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    model = names["model"].float()
    assert isinstance(model, PeftModel)
    assert list(names["adapters"]) == list(chain.network.topology.nodes) == ["1.1", "2.1", "out"]
    for call in chain.ask("(a(3+5)*b(2*7))").calls:
        model.set_adapter(names["adapters"][call.node])
        ids = torch.tensor([[*call.prefix_ids, *call.own_ids, *call.completion_ids]])
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)[-len(call.completion_ids) - 1 : -1]
        picked = logprobs.gather(1, torch.tensor(call.completion_ids)[:, None])[:, 0]
        torch.testing.assert_close(picked, torch.tensor(call.logprobs), atol=1e-4, rtol=0)


def test_adapter_names_are_distinct_names_of_modules() -> None:
    names = adapter_names(["1.1", "1_1", "1-1", "out", "ä b"])
    assert len(set(names.values())) == 5
    for name in names.values():
        torch.nn.Module().add_module(name, None)


@pytest.mark.slow
def test_a_push_comes_back_from_the_hub_and_is_asked_there(chain: nm.Run, tmp_path) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}
    with hub() as (address, files):
        environment |= {"HF_ENDPOINT": address}
        command = ["export", str(chain.folder), "--out", str(tmp_path / "out"), "--push", "someone/net"]
        ask = ["ask", "someone/net", "(a(3+5)*b(2*7))", "--json", str(tmp_path / "trace.json")]
        code = f"from neuromas import cli\nfor words in {[command, ask, ['ask', 'someone/else', 'x']]}: cli.main(words)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and "error: someone/else is no folder here" in done.stderr
        assert {"README.md", "task.json", "best/nodes/1.1/adapter_model.safetensors"} <= files["someone/net"].keys()
        assert json.loads((tmp_path / "trace.json").read_text())["answer"] == chain.ask("(a(3+5)*b(2*7))").answer
