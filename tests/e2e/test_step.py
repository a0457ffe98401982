"""One step of training: it learns, it reports, it refuses to go on with numbers that are none."""

import gc
import math
import re
from pathlib import Path

import pytest
import torch

from helpers import FirstCharacter, make_backbone, make_network, questions, unchanged
from neuromas.config import TrainConfig
from neuromas.errors import DivergenceError
from neuromas.train.optimizer import NodeAdamW
from neuromas.train.step import train_step
from neuromas.types import Grade

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"
HALF = "".join(map(chr, range(64)))


@pytest.mark.parametrize(
    "topology, estimator",
    [
        ("single", "leave_one_out"),
        ("2", "group_normalised"),
        ("2", "running_mean"),
        pytest.param("single", "group_normalised", marks=pytest.mark.slow),
        pytest.param("single", "running_mean", marks=pytest.mark.slow),
        pytest.param("2", "leave_one_out", marks=pytest.mark.slow),
    ],
)
def test_training_raises_the_reward_of_a_learnable_task(topology: str, estimator: str) -> None:
    network, task = make_network(topology, make_backbone(seed=3), noise=0.0, tokens=2), FirstCharacter(HALF)
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=5e-2, betas=(0.9, 0.95), weight_decay=0.0)
    config, rewards = TrainConfig(questions=8, rollouts=8, estimator=estimator), []
    with unchanged(network.backbone.model):
        for step in range(1, 17):
            baseline = sum(rewards[-5:]) / 5 if rewards else 0.0
            done = train_step(network, optimizer, task, task.asked, config, step=step, seed=0, baseline=baseline)
            rewards.append(done.metrics.reward)
    before, after = sum(rewards[:3]) / 3, sum(rewards[-3:]) / 3
    assert before < 0.4
    assert after > before + 0.25


def a_step(network=None, good: str = HALF, **settings):
    network = network or make_network("2")
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=1e-3)
    config = TrainConfig(**({"questions": 4, "rollouts": 4} | settings))
    return train_step(network, optimizer, FirstCharacter(good), questions(config.questions), config, step=1, seed=0)


def test_a_step_reports_every_documented_figure_of_every_node() -> None:
    metrics = a_step(kl=0.1).metrics.to_dict()
    assert metrics.keys() == {
        "step",
        "reward", "accuracy", "parse_rate", "equal_reward_groups", "top_answer", "top_answer_share",
        "wrong_groups", "right_groups", "distinct_answers", "logprob_gap", "prompt_tokens", "generated_tokens", "nodes",
        "seconds", "estimator", "rollouts", "calls", "messages_cut",
    }  # fmt: skip
    assert metrics["nodes"].keys() == {"1.1", "1.2", "out"}
    for figures in metrics["nodes"].values():
        assert figures.keys() == {"gradient_norm", "entropy", "length", "truncated", "dropped", "kl"}
        assert all(math.isfinite(v) for v in figures.values())
        assert figures["gradient_norm"] > 0
        assert figures["kl"] > 0
    assert metrics["seconds"].keys() == {"sample", "grade", "credit", "backward", "update"}
    assert a_step().metrics.seconds.keys() == {"sample", "grade", "credit", "backward", "update", "kl"}
    documented = set(re.findall(r"`([a-z_]+)`", DOCUMENTED.read_text(encoding="utf-8")))
    missing = (metrics.keys() | metrics["nodes"]["out"].keys()) - documented - {"nodes"}
    assert not missing, f"docs/metrics.md does not explain {missing}"


def held_bytes(width: int) -> tuple[int, int]:
    """Bytes of the tensors that a network of `width` + 1 nodes and one step leave behind; those of a node's state."""
    backbone = make_backbone()

    def alive() -> int:
        gc.collect()
        found = [x for x in gc.get_objects() if type(x) in (torch.Tensor, torch.nn.Parameter)]
        found += [x.grad for x in found if x.grad is not None]
        return sum({s.data_ptr(): s.nbytes() for s in (x.untyped_storage() for x in found)}.values())

    before = alive()
    network = make_network(f"{width}", backbone)
    optimizer = NodeAdamW(network.adapters, lr=1e-3)
    task, config = FirstCharacter(HALF), TrainConfig(questions=4, rollouts=4)
    train_step(network, optimizer, task, questions(4), config, step=1, seed=0)
    weights, steps = network.trainable_parameters // (width + 1), len(network.adapters.stacks())
    state = 16 * weights + 4 * steps  # float32: weights, gradient, two moments; a count of steps for each tensor
    return alive() - before, state


@pytest.mark.slow
def test_a_node_more_takes_the_memory_of_its_weights_gradient_and_two_moments_and_no_more() -> None:
    sizes = {width: held_bytes(width) for width in (2, 3, 9)}
    state = sizes[2][1]
    assert sizes[3][0] - sizes[2][0] == state
    assert sizes[9][0] - sizes[3][0] == 6 * state


def test_the_kl_is_measured_without_a_penalty_too_and_is_the_same() -> None:
    untrained = a_step(make_network("2", noise=0)).metrics.nodes
    assert all(abs(node.kl) < 1e-6 for node in untrained.values())
    of = lambda kl: a_step(make_network("2"), questions=1, kl=kl).metrics.nodes
    measured, penalised = of(0.0), of(1e-9)
    for node, found in measured.items():
        assert found.kl > 1e-4
        assert found.kl == pytest.approx(penalised[node].kl, rel=1e-3)


def test_the_figures_of_a_step_are_those_of_its_traces() -> None:
    result = a_step()
    metrics, traces, grades = result.metrics, result.traces, result.grades
    rewards = [g.reward for g in grades]
    assert len(traces) == len(grades) == 16
    assert metrics.reward == pytest.approx(sum(rewards) / 16)
    assert metrics.generated_tokens == sum(len(c.completion_ids) for t in traces for c in t.calls)
    assert metrics.prompt_tokens == sum(len(c.prefix_ids) + len(c.own_ids) for t in traces for c in t.calls)
    assert metrics.messages_cut == sum(c.truncated for t in traces for c in t.calls[:-1]) / 32
    assert metrics.equal_reward_groups == sum(len(set(rewards[i : i + 4])) == 1 for i in range(0, 16, 4)) / 4
    for node, found in metrics.nodes.items():
        calls = [c for t in traces for c in t.calls if c.node == node]
        assert found.length == pytest.approx(sum(len(c.completion_ids) for c in calls) / 16)
        assert found.truncated == sum(c.truncated for c in calls) / 16
        entropies = [e for c in calls for e in c.entropies]
        assert found.entropy == pytest.approx(sum(entropies) / len(entropies))


def test_replayed_and_sampled_logprobs_agree_so_the_step_is_on_policy() -> None:
    assert a_step().metrics.logprob_gap < 1e-4


def test_groups_of_equal_rewards_are_counted() -> None:
    assert a_step(good="").metrics.equal_reward_groups == 1.0
    everything = "".join(map(chr, range(0x110000)))

    class Half(FirstCharacter):
        def grade(self, question, text):
            return Grade(float(len(text) % 2), text) if question.id in ("q0", "q1") else Grade(1.0, text)

    network = make_network("2")
    optimizer = torch.optim.AdamW(network.adapters.stacks())
    config = TrainConfig(rollouts=8)
    result = train_step(network, optimizer, Half(everything), questions(4), config, step=1, seed=0)
    assert result.metrics.equal_reward_groups == 0.5


@pytest.mark.parametrize("good", ["", HALF], ids=["equal rewards", "unequal rewards"])
@pytest.mark.parametrize("node", ["1.1", "out"])
def test_a_nan_weight_stops_the_step_before_it_changes_anything(node: str, good: str) -> None:
    network = make_network("2")
    with torch.no_grad():
        network.adapters.stacks()[0][network.adapters.index[node], 0, 0] = math.nan
    before = [p.detach().clone() for p in network.adapters.stacks()]
    with pytest.raises(DivergenceError, match=r"step 1: .*" + re.escape(node)):
        a_step(network, good)
    for old, new in zip(before, network.adapters.stacks(), strict=True):
        assert torch.equal(old.nan_to_num(9.0), new.nan_to_num(9.0))


def test_an_overflow_in_the_gradient_alone_stops_the_step_too() -> None:
    network = make_network("2", noise=0)  # B is zero, so A is not heard; the gradient of B is as large as A
    with torch.no_grad():
        for A in network.adapters.A.values():
            A[0].fill_(1e30)
    with pytest.raises(DivergenceError, match=r"step 1: the gradient of \['1.1'\] is not finite"):
        a_step(network)
