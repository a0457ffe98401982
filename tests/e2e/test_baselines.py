"""Every baseline on the embedded backbone: reproducible, whatever the batches; and from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuromas import cli
from neuromas.baselines import BASELINES, names
from neuromas.baselines.fitted import Fitted
from neuromas.baselines.load import load_baseline
from neuromas.evaluate.run import evaluate
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits
from neuromas.tasks import load_task
from neuromas.tasks.base import Task
from neuromas.types import System, Trace

OPTIONS: dict[str, dict[str, Any]] = {
    "untrained": {"topology": "2-2"},
    "self-consistency": {"votes": 3},
    "self-refine": {"rounds": 2, "fused": False},
    "self-check-steps": {"samples": 2, "steps": 2},
    "moa": {"rounds": 2, "agents": 2},
    "gptswarm": {"agents": 3},
}
CALLS = {  # of a question, (at least, at most)
    "direct": (1, 1), "untrained": (5, 5), "logit": (1, 1), "self-consistency": (3, 3), "self-refine": (5, 5),
    "self-check": (3, 3),
    "self-check-steps": (4, 2 * (2 + 4 * 2)), "moa": (5, 5), "goa": (6, 11), "agentnet": (2, 5), "gptswarm": (4, 4),
}  # fmt: skip
FIT: dict[str, dict[str, Any]] = {"agentnet": {"questions": 12}, "gptswarm": {"iterations": 3}}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("compositional", train_size=64, test_size=6)


def make(name: str, backbone: Backbone, task: Task, rows: int = 512) -> System:
    return load_baseline(name, backbone, task, Limits(8, 6, rows), **OPTIONS.get(name, {}))


def said(traces: list[Trace]) -> list[Any]:
    return [(t.question_id, t.rollout, t.answer, [(c.node, c.text) for c in t.calls]) for t in traces]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("direct", "untrained", "moa", "goa") else pytest.mark.slow)
        for name in names(trained=False)
        if name != "logit"  # it samples nothing
    ],
)
def test_sampled_answers_depend_on_the_seed_and_on_no_batch(name: str, backbone: Backbone, task: Task) -> None:
    system, asked = make(name, backbone, task), task.questions("test")[:3]
    if isinstance(system, Fitted):
        system.fit(task, **FIT[name])
    whole = said(system.answer(asked, greedy=False, seed=5))
    assert [said(system.answer([q], greedy=False, seed=5))[0] for q in asked] == whole
    assert said(system.answer(asked, greedy=False, seed=6)) != whole
    small = make(name, backbone, task, rows=2)
    if isinstance(small, Fitted):
        small.fit(task, **FIT[name])
        assert isinstance(system, Fitted)
        assert small.state() == system.state(), "fitted alike in small batches"
    assert said(small.answer(asked, greedy=False, seed=5)) == whole


@pytest.mark.parametrize("name", names(trained=False))
def test_calls_and_tokens_of_an_evaluation_are_those_of_the_formula(name: str, backbone: Backbone, task: Task) -> None:
    system = make(name, backbone, task)
    found = evaluate(system, task, seed=1)
    least, most = CALLS[name]
    assert all(least <= len(t.calls) <= most for t in found.traces)
    assert least <= found.result.calls <= most
    assert found.result.generated_tokens == pytest.approx(sum(t.generated_tokens for t in found.traces) / 6)
    assert found.result.parse_rate == 1, "answers are in the form that the grader reads"
    assert evaluate(system, task, seed=1).records == found.records
    assert (found.result.fit is not None) == BASELINES[name].fitted


def run(tmp_path: Path, *args: str) -> dict[str, Any]:
    cli.main(["eval", *args, "--limit", "4", "--threads", "1", "--json", str(tmp_path / "out.json")])
    return json.loads((tmp_path / "out.json").read_text())


def test_a_baseline_is_measured_with_its_options_from_the_command_line(tmp_path: Path) -> None:
    found = run(tmp_path, "moa", "--task", "compositional", "--backbone", "tiny", "--options", "rounds=2", "agents=2")
    assert (found["system"], found["n"], found["calls"], found["sequential_calls"]) == ("moa (tiny)", 4, 5, 3)
    assert found["decoding"] == "greedy, proposals sampled"


@pytest.mark.parametrize("name", FIT)
def test_what_was_learned_is_kept_in_a_file_and_its_cost_told(name: str, tmp_path: Path, capsys: Any) -> None:
    state = tmp_path / "deep" / "state.json"
    options = [f"{k}={v}" for k, v in {**FIT[name], "agents": 3}.items()]
    fresh = run(tmp_path, name, "--state", str(state), "--options", *options)
    assert "train questions" in capsys.readouterr().out
    assert fresh["fit"]["questions"] == 12
    assert fresh["fit"]["calls"] > fresh["fit"]["questions"]
    written = state.read_bytes()
    again = run(tmp_path, name, "--state", str(state), "--options", "agents=3")
    assert again == fresh
    assert state.read_bytes() == written
    run(tmp_path, name, "--seed", "1", "--state", str(tmp_path / "other.json"), "--options", *options)
    learned = lambda path: json.loads(path.read_text())["state"]
    assert learned(tmp_path / "other.json") != learned(state), "the seed chooses the questions"
    cli.main(["ask", name, "(a(3+5)*b(2*7))", "--state", str(state), "--options", "agents=3", "--threads", "1"])
    assert "answer" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args, message",
    [
        (["eval", "moa", "--options", "agents"], "option 'agents' has no value; write name=value"),
        (["eval", "moa", "--options", "people=3"], "'moa' has no option 'people'; its options: rounds, agents"),
        (["eval", "moa", "--blank"], "--blank silences the nodes of a network, and moa (tiny) is none"),
        (["eval", "moa", "--state", "x.json"], "learns nothing before it answers; leave out --state"),
        (["eval", "mao"], "those are: direct, untrained, logit, self-consistency"),
        (["ask", "gptswarm", "1+1"], "is not fitted; fit it with `neuromas eval"),
        (["baselines", "mao"], "'mao' is no baseline"),
    ],
)
def test_mistakes_are_told_with_a_remedy(args: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(args)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_baselines_are_listed_with_calls_and_sources(tmp_path: Path, capsys: Any) -> None:
    cli.main(["baselines", "--json", str(tmp_path / "all.json")])
    assert "self-refine" in capsys.readouterr().out
    listed = json.loads((tmp_path / "all.json").read_text())
    assert [b["name"] for b in listed] == list(BASELINES)
    assert all(b["calls"] and b["source"] for b in listed)
    cli.main(["baselines", "gptswarm", "--json", str(tmp_path / "one.json")])
    assert "iterations=200" in capsys.readouterr().out
    (one,) = json.loads((tmp_path / "one.json").read_text())
    assert one["options"] == {"agents": 10, "decide": "call"}
    assert one["fit"] == {"iterations": 200, "batch": 4, "rate": 0.1}
