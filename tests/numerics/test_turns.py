"""Turns with an environment: its tokens are read and never scored, and the update is the one computed by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import neuromas as nm
from helpers import FirstCharacter, make_backbone, make_network, merged, plain_logits, plain_model, questions
from neuromas.baselines.load import load_baseline
from neuromas.baselines.trained.team import create_adapters
from neuromas.config import TrainConfig
from neuromas.errors import ConfigError
from neuromas.network.endpoint import Endpoint
from neuromas.network.forward import Limits, Network
from neuromas.network.turns import asks_of
from neuromas.recipe import settings_class
from neuromas.run.folder import read_metrics
from neuromas.tasks.calculator import Calculator
from neuromas.train.objectives import leave_one_out
from neuromas.train.step import train_step
from neuromas.types import NodeCall, Question, Trace


class Oracle(FirstCharacter):
    """Answers every printable character but a few, so that a model of random bytes asks often."""

    turns, pauses = 3, tuple(map(chr, range(32, 127)))

    def __init__(self) -> None:
        super().__init__("".join(map(chr, range(100))))

    def respond(self, question: Question, text: str) -> str | None:
        return None if text[-1:] in "aeiou" else f"<{text[-1:]}>"


def asking(topology: str = "1", **options: Any) -> Network:
    return make_network(topology, tokens=6, environment=Oracle(), **options)


def traces_of(network: Network) -> list[Trace]:
    return [r.trace() for r in network.forward(asks_of(questions(3), 4, 0, network.decoding))]


def segments(call: NodeCall) -> int:
    """Runs of tokens that the environment wrote."""
    return sum(place - 1 not in call.given for place in call.given)


def logprobs_by_hand(network: Network, plain: Any, call: NodeCall) -> torch.Tensor:
    """Of the sampled tokens of a call [generated tokens], row by row, by the unmodified model."""
    prompt = call.prefix_ids + call.own_ids
    weights = merged(network, network.adapters.index[call.node], plain)
    logp = plain_logits(plain, prompt + call.completion_ids[:-1], weights)[len(prompt) - 1 :].log_softmax(-1)
    chosen = logp.gather(1, torch.tensor(call.completion_ids)[:, None])[:, 0]
    return chosen[[place for place in range(len(call.completion_ids)) if place not in call.given]]


def test_a_node_reads_the_answer_and_writes_on_and_only_what_it_wrote_counts() -> None:
    network, plain = asking(), plain_model()
    calls = [call for trace in traces_of(network) for call in trace.calls]
    decode = network.backbone.template.decode
    assert {segments(call) for call in calls} == {0, 1, 2}, "never asked, once, and as often as there are turns"
    for call in calls:
        assert len(call.logprobs) == len(call.entropies) == call.generated_tokens == len(call.sampled_ids) <= 6
        assert call.prompt_tokens == len(call.prefix_ids) + len(call.own_ids) + len(call.given)
        for place in call.given:
            if place - 1 not in call.given:
                before = decode(call.completion_ids[:place])
                assert decode(call.completion_ids[place : place + 3]) == f"<{before[-1]}>"
        expected = logprobs_by_hand(network, plain, call).detach()
        torch.testing.assert_close(torch.tensor(call.logprobs), expected, atol=1e-4, rtol=1e-4)
    for call, logprobs in zip(calls, network.replay(calls), strict=True):
        torch.testing.assert_close(logprobs, torch.tensor(call.logprobs), atol=1e-4, rtol=1e-4)


def test_what_the_environment_said_is_part_of_the_message() -> None:
    trace = next(trace for trace in traces_of(asking()) if trace.calls[0].given)
    assert f"<{trace.calls[0].text.partition('<')[0][-1:]}>" in trace.calls[0].text


@pytest.mark.parametrize("micro_tokens", [1, 8192])
def test_the_gradient_of_a_step_is_the_one_computed_by_hand_over_sampled_tokens_alone(micro_tokens: int) -> None:
    """g = 1/(PG) Σ_rows -(r - mean of the others) Σ_{t sampled} ∇ log π."""
    network, plain = asking(), plain_model()
    config = TrainConfig(questions=3, rollouts=4, clip=1e9, micro_tokens=micro_tokens)
    recorder = torch.optim.SGD(network.adapters.stacks(), lr=0.0)
    result = train_step(network, recorder, Oracle(), questions(3), config, step=1, seed=0)
    mine = [p.grad.clone() for p in network.adapters.stacks()]
    network.adapters.zero_grad(set_to_none=True)
    calls = [call for trace in result.traces for call in trace.calls]
    assert result.metrics.generated_tokens == sum(len(call.logprobs) for call in calls)
    assert any(call.given for call in calls)
    advantages = leave_one_out(torch.tensor([g.reward for g in result.grades]).view(3, 4)).flatten().tolist()
    assert len(set(advantages)) > 2
    for trace, advantage in zip(result.traces, advantages, strict=True):
        for call in trace.calls:
            (-advantage / 12 * logprobs_by_hand(network, plain, call).sum()).backward()
    for a, b in zip(mine, (p.grad for p in network.adapters.stacks()), strict=True):
        assert b is not None
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-9


@pytest.mark.parametrize("changes", [{"kl": 0.1, "entropy": 0.01}, {"estimator": "counterfactual"}])
def test_penalties_and_branches_go_with_an_environment(changes: dict[str, Any]) -> None:
    network = asking("2")
    config = TrainConfig(questions=3, rollouts=4, **changes)
    optimizer = torch.optim.SGD(network.adapters.stacks(), lr=0.01)
    metrics = train_step(network, optimizer, Oracle(), questions(3), config, step=1, seed=0).metrics
    assert metrics.logprob_gap < 1e-4
    assert all(node.length <= 6 for node in metrics.nodes.values())


def test_a_call_without_room_to_go_on_is_truncated() -> None:
    network = asking()
    network.limits = replace(network.limits, message_tokens=1, answer_tokens=1)
    calls = [call for trace in traces_of(network) for call in trace.calls]
    asked = [call for call in calls if call.text in Oracle.pauses]
    assert asked and not any(call.given for call in calls)
    assert all(call.truncated for call in asked if call.text not in "aeiou")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("calc(12*34)=", "408"),
        ("so calc( 2 - (3+4)*-5 )=", "37"),
        ("calc(1/0)=", None),
        ("calc(2**9)=", "?"),
        ("calc(()=", "?"),
        ("calc(" + "9*" * 25 + "9)=", str(9**26)),
        ("calc(" + "9" * 30 + "*" + "9" * 29 + ")=", "?"),
        ("calc(007)=", "?"),
        ("12*34=", None),
    ],
)
def test_the_calculator_answers_what_it_can(text: str, answer: str | None) -> None:
    task = Calculator(train_size=5, validation_size=2, test_size=2)
    assert task.respond(task.questions("train")[0], text) == answer


def test_the_calculator_is_a_task_that_trains(tmp_path: Path) -> None:
    sizes = {"train_size": 8, "validation_size": 4, "test_size": 4}
    task = nm.load_task("calculator", **sizes)
    asked = [q for split in ("train", "validation", "test") for q in task.questions(split)]
    assert len({q.text for q in asked}) == 16
    assert all(eval(q.text) == int(q.answer) for q in asked)
    assert task.grade(asked[0], f"calc(1*1)=1, so {asked[0].answer}").reward == 1
    settings = {
        "task.options": sizes, "train.questions": 2, "train.rollouts": 2, "sampling.message_tokens": 4,
        "sampling.answer_tokens": 4,
    }  # fmt: skip
    run = nm.train(topology="1", task="calculator", steps=1, out=tmp_path / "run", settings=settings, progress=False)
    assert [m.step for m in read_metrics(run.folder)] == [0, 1]
    assert run.network.environment is run.task


@pytest.mark.parametrize("name", ["direct", "self-consistency", "self-refine", "moa"])
def test_the_calls_of_a_frozen_baseline_ask_too(name: str) -> None:
    backbone = make_backbone()
    system = load_baseline(name, backbone, Oracle(), Limits(6, 6))
    calls = [call for trace in system.answer(questions(3), seed=1) for call in trace.calls]
    assert max(segments(call) for call in calls) == 2
    assert all(call.generated_tokens == len(call.logprobs) <= 6 for call in calls)
    alone = load_baseline(name, backbone, FirstCharacter("1"), Limits(6, 6))
    assert not any(call.given for trace in alone.answer(questions(3), seed=1) for call in trace.calls)


def test_who_cannot_ask_is_refused_where_a_task_answers() -> None:
    task = Oracle()
    with pytest.raises(ConfigError, match="answers calls while they are written, which the endpoint .* cannot do"):
        load_baseline("direct", Endpoint("openai:http://127.0.0.1:1/v1#m"), task, Limits(6, 6))
    config = settings_class("malt").make({"method": "malt"})
    with pytest.raises(ConfigError, match="method 'malt' does not train on task"):
        create_adapters(("generator",), config, make_backbone(), task)
