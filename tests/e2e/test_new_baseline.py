"""A trained baseline is one file and one entry of the registry: that is enough to train, load and compare it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers import binary_backbone, run_config
from neuromas.baselines import BASELINES, RegistryEntry, trained
from neuromas.baselines.load import load_baseline, options_of
from neuromas.compare import work
from neuromas.compare.run import run
from neuromas.compare.spec import Spec
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.evaluate.report import write_report
from neuromas.evaluate.run import evaluate
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits
from neuromas.run.build import load_run
from neuromas.run.loop import train
from neuromas.tasks import load_task

FILE = '''
"""Echo: one role that imitates its own right answers."""

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field

from neuromas.baselines.chat import answer
from neuromas.baselines.trained.team import Team, TeamRunConfig, create_adapters, score
from neuromas.types import Utterance
from neuromas.config import Section
from neuromas.errors import ConfigError
from neuromas.network.sampling import stream_key
from neuromas.results import NodeMetrics
from neuromas.train.metrics import Tally, sampling_metrics
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.train.step import StepResult
from neuromas.train.update import backward, update

ROLE = "speaker"


class EchoConfig(Section):
    weight: float = Field(default=1.0, gt=0)


class EchoRunConfig(TeamRunConfig):
    paper: ClassVar = {"train": {"clip": 0.5}}
    echo: EchoConfig = EchoConfig()

    @property
    def calls(self):
        return 1

    def check(self):
        super().check()
        if self.echo.weight > 9:
            raise ConfigError(f"echo.weight is {self.echo.weight}, which is too much; lower it")


class Echo(Team):
    title, method = "Echo", "echo"

    @classmethod
    def create(cls, config, backbone, task):
        return cls(create_adapters([ROLE], config, backbone, task), [ROLE])

    def dialogue(self, question):
        (text,) = yield [replace(answer(ROLE), role=ROLE)]
        return text


class EchoTraining:
    def __init__(self, config, out, system, task):
        self.config, self.system, self.task = config, system, task
        self.schedule = Schedule(task.questions("train"), config)

    def rate(self, step):
        return learning_rate(self.config, step)

    def step(self, optimizer, step, baseline):
        t, questions = self.config.train, self.schedule.questions(step)
        rows = [(q, g, self.system.dialogue(q)) for q in questions for g in range(t.rollouts)]
        traces = self.system.sample(rows, stream_key(self.config.seed, step), step)
        grades = self.task.grade_many([q for q, _, _ in rows], [trace.answer for trace in traces])
        optimizer.zero_grad(set_to_none=True)
        right = [Utterance.of(trace.calls[0]) for trace, grade in zip(traces, grades) if grade.reward]
        if right:
            backward(-self.config.echo.weight * torch.cat(score(self.system, right)).mean(), step)
        (norm,) = update(self.system.adapters, optimizer, t.clip, step).tolist() if right else [0.0]
        rewards_PG = torch.tensor([grade.reward for grade in grades]).view(len(questions), t.rollouts)
        sampled = sampling_metrics(Tally.of(traces, grades, rewards_PG), step)
        nodes = {ROLE: NodeMetrics(gradient_norm=norm)}
        return StepResult(replace(sampled, nodes=nodes, seconds={"step": 0.1}), traces, grades)
'''


@pytest.fixture(autouse=True)
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file lies beside those of the other trained baselines, as far as Python can tell."""
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "echo.py").write_text(FILE)
    monkeypatch.setattr(trained, "__path__", [*trained.__path__, str(folder)])
    entry = RegistryEntry(
        "trained.echo", "Echo", "imitates itself", "1", "-",
        settings="EchoRunConfig", training="EchoTraining", table="echo",
    )  # fmt: skip
    monkeypatch.setitem(BASELINES, "echo", entry)
    yield
    monkeypatch.delitem(sys.modules, "neuromas.baselines.trained.echo", raising=False)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


def test_it_is_trained_resumed_loaded_and_evaluated(tmp_path: Path, backbone: Backbone) -> None:
    train(run_config(method="echo", train__steps=12), tmp_path / "whole", backbone=backbone)
    train(run_config(method="echo", train__steps=7), tmp_path / "cut", backbone=backbone)
    train(run_config(method="echo", train__steps=12), tmp_path / "cut", backbone=backbone, resume=True)
    system, task, config = load_run(tmp_path / "whole", "last", backbone)
    resumed, _, _ = load_run(tmp_path / "cut", "last", backbone)
    assert all(torch.equal(a, b) for a, b in zip(system.adapters.stacks(), resumed.adapters.stacks(), strict=True))
    lines = read_json_lines(tmp_path / "whole" / "metrics.jsonl")
    assert lines[-1]["reward"] > lines[1]["reward"] + 0.2, "it learns"
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["echo"] == {"weight": 1.0}
    assert config.method == "echo"
    assert evaluate(system, task, "test").result.calls == 1


def test_its_settings_are_its_own() -> None:
    config = RunConfig.make({"method": "echo", "echo": {"weight": 2}})
    assert (config.train.clip, RunConfig.make({}).train.clip) == (0.5, 1.0), "its paper's default"
    assert RunConfig.make(config.model_dump(mode="json")) == config
    assert options_of("echo") == ({"weight": 1.0}, {})
    for wrong, message in (
        ({"echo": {"weight": 0}}, "echo.weight is 0"),
        ({"echo": {"weight": 10}}, "which is too much"),
        ({"echo": {"wait": 1}}, "echo.wait: no such setting"),
        ({"method": "neuromas", "echo": {"weight": 2}}, "of method 'echo', but method is 'neuromas'"),
        ({"topology": "1-1"}, "topology is '1-1', which method 'echo' does not use"),
    ):
        with pytest.raises(ConfigError, match=message):
            RunConfig.make({"method": "echo"} | wrong)


def test_it_answers_from_a_run_folder_alone(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="'echo' is trained before it answers: run `neuromas train --method echo`"):
        load_baseline("echo", backbone, load_task("compositional"), Limits(2, 2))


def spec(**systems: object) -> Spec:
    config = run_config()
    return Spec.make(
        {
            "seeds": [3, 4],
            "learning_rates": [3e-2, 1e-4],
            "tasks": [{"name": "compositional", "questions": 8, "options": config.task.options}],
            "adapter": {"rank": 2},
            "sampling": {"message_tokens": 3, "answer_tokens": 2},
            "train": {"steps": 12, "questions": 4, "rollouts": 4, "validation_questions": 8},
            "systems": systems,
        }
    )


def test_a_comparison_trains_it_at_each_learning_rate(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_backbone", lambda config: backbone)
    monkeypatch.setattr(work, "_ready", {})
    run(spec(mine={"kind": "echo", "options": {"weight": 2}}, direct={}), tmp_path / "out")
    row, _ = write_report(tmp_path / "out")
    assert (row.system, row.calls, row.samples, row.reference) == ("mine", 1, 12 * 4 * 4, True)
    assert row.learning_rate == 3e-2, "chosen by validation"
    runs = sorted(path.name for path in (tmp_path / "out" / "runs" / "mine" / "compositional").iterdir())
    assert runs == ["lr0.0001_s3", "lr0.03_s3", "lr0.03_s4"]


@pytest.mark.parametrize(
    "system, message",
    [
        ({"kind": "echo", "topology": "2"}, "echo has its own; leave it out"),
        ({"kind": "echo", "options": {"depth": 2}}, "has no 'depth'; there is: weight"),
        ({"kind": "ecko"}, "no kind of trained system; did you mean 'echo'"),
        ({"baseline": "echo"}, "systems.mine is trained; give it kind = 'echo'"),
    ],
)
def test_a_spec_knows_what_it_takes(system: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec(mine=system)
