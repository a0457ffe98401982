"""What an engine's rounding does to a step: measured, corrected by truncated ratios, refused above a bound."""

import math
from typing import Any

import pytest
import torch

from helpers import FirstCharacter, make_network
from neuromas.config import TrainConfig
from neuromas.errors import EngineError
from neuromas.network.forward import Network
from neuromas.network.generate import Completion, generate
from neuromas.train.mismatch import Mismatch
from neuromas.train.objectives import truncated_ratios
from neuromas.train.optimizer import NodeAdamW
from neuromas.train.step import StepResult, train_step

OWN = torch.tensor([-1.0, -2.0, -3.0]).log_softmax(0)
SAMPLED = OWN - torch.tensor([math.log(4), 0.0, -math.log(2)])  # ratios 4, 1, 1/2


def test_ratios_are_those_of_the_probabilities_and_end_at_the_cap() -> None:
    assert truncated_ratios(OWN, SAMPLED, 10.0).tolist() == pytest.approx([4, 1, 0.5])
    assert truncated_ratios(OWN, SAMPLED, 2.0).tolist() == pytest.approx([2, 1, 0.5])
    with pytest.raises(ValueError, match="axes"):
        truncated_ratios(OWN[None], SAMPLED, 2.0)


def test_golden_figures_add_up_over_parts() -> None:
    found = Mismatch(cap=2.0)
    weights = [found.weights(OWN[:1], SAMPLED[:1]), found.weights(OWN[1:], SAMPLED[1:])]
    assert torch.cat(weights).tolist() == pytest.approx([2, 1, 0.5])
    assert found.gap == pytest.approx(math.log(4), rel=1e-6)
    metrics = found.metrics()
    assert metrics is not None and metrics.to_dict() == {
        "tokens": 3,
        "kl": pytest.approx((4 - 1 - math.log(4) + 0 + 0.5 - 1 - math.log(0.5)) / 3, rel=1e-5),
        "ratio_mean": pytest.approx(5.5 / 3, rel=1e-6),
        "ratio_max": pytest.approx(4, rel=1e-6),
        "capped": pytest.approx(1 / 3),
    }


def test_kl_is_estimated_without_bias() -> None:
    """The figure's expectation under μ is KL(μ ‖ π), by summing over all tokens."""
    log_mu, log_pi = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.2]).log()
    expected = 0.0
    for k in range(3):
        found = Mismatch(cap=9.0)
        found.weights(log_pi[k : k + 1], log_mu[k : k + 1])
        expected += log_mu[k].exp().item() * found.kl
    assert expected == pytest.approx((log_mu.exp() * (log_mu - log_pi)).sum().item(), rel=1e-5)


def test_nothing_is_weighed_where_the_trainer_sampled() -> None:
    found = Mismatch(cap=None)
    assert found.weights(OWN, SAMPLED) == 1.0
    assert found.metrics() is None and found.gap == pytest.approx(math.log(4), rel=1e-6)


@pytest.mark.parametrize("cap", [2.0, None], ids=["an engine", "the trainer itself"])
def test_a_mismatch_above_the_bound_is_refused_and_so_is_one_that_is_no_number(cap: float | None) -> None:
    found = Mismatch(cap=cap)
    found.weights(OWN, SAMPLED)
    per_token = found.kl / 3
    found.check(bound=per_token * 1.001, step=4)
    with pytest.raises(EngineError, match=r"step 4: .*KL 0.\d+ nats a token.*train.max_mismatch"):
        found.check(bound=per_token * 0.999, step=4)
    found.weights(OWN, SAMPLED * float("nan"))
    with pytest.raises(EngineError):
        found.check(bound=1e9, step=5)


class Tilted:
    """An engine that samples as the library does, from other weights: `tilt` is added to every B. It tells its own
    log-probabilities, or with `lie` those plus a number."""

    def __init__(self, network: Network, tilt: float = 0.0, lie: float = 0.0) -> None:
        self.network, self.tilt, self.lie = network, tilt, lie

    def generate(self, bank: Any, groups: Any, keys: Any, max_tokens: int, how: Any) -> list[Completion]:
        stacks = list(bank.B.values())
        kept = [stack.data.clone() for stack in stacks]
        for stack in stacks:
            stack.data += self.tilt
        done = generate(self.network.backbone, bank, groups, keys, max_tokens, how)
        for stack, old in zip(stacks, kept, strict=True):
            stack.data.copy_(old)
        return [Completion(c.ids, [x + self.lie for x in c.logprobs], [], c.truncated) for c in done]

    def close(self) -> None: ...


def stepped(
    engine: dict[str, float] | None, good: str = "0123456789abcdef", **settings: Any
) -> tuple[Network, StepResult]:
    network = make_network("1")
    if engine is not None:
        network.engine = Tilted(network, **engine)
    task = FirstCharacter("".join(map(chr, range(32, 80))) if good else "", size=4)
    config = TrainConfig(questions=4, rollouts=8, **settings)
    optimizer = NodeAdamW(network.adapters, lr=1e-3)
    return network, train_step(network, optimizer, task, task.questions("train"), config, step=1, seed=0)


def gradients(network: Network) -> list[torch.Tensor]:
    return [stack.grad.clone() for stack in network.adapters.stacks() if stack.grad is not None]


def test_an_engine_that_agrees_changes_nothing() -> None:
    (plain, before), (same, after) = stepped(None), stepped({})
    assert before.metrics.reward == after.metrics.reward
    assert 0 < before.metrics.reward < 1
    for a, b in zip(gradients(plain), gradients(same), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert before.metrics.engine is None
    assert after.metrics.engine.kl < 1e-9
    assert after.metrics.engine.ratio_mean == pytest.approx(1, abs=1e-4)
    assert after.metrics.engine.tokens > 0
    entropy = lambda result: result.metrics.nodes["out"].entropy
    assert entropy(after) == pytest.approx(entropy(before), rel=0.5)


def test_gradients_are_weighed_by_the_ratios_up_to_the_cap() -> None:
    """An engine that understates every log-probability by log 3 has ratios of 3 everywhere."""
    plain, _ = stepped(None, clip=1e9)
    for cap, factor in ((4.0, 3.0), (2.0, 2.0)):
        network, result = stepped({"lie": -math.log(3)}, ratio_cap=cap, max_mismatch=9, clip=1e9)
        for a, b in zip(gradients(plain), gradients(network), strict=True):
            torch.testing.assert_close(a * factor, b, rtol=1e-3, atol=1e-5)
        assert result.metrics.engine.ratio_mean == pytest.approx(3, rel=1e-3)
        assert result.metrics.engine.capped == float(cap < 3)


@pytest.mark.parametrize("tilt", [0.2, 0.01])
def test_an_engine_with_other_weights_is_refused_before_anything_changes(tilt: float) -> None:
    """0.01 is a few steps of AdamW at the default learning rate."""
    network = make_network("1")
    before = [stack.detach().clone() for stack in network.adapters.stacks()]
    network.engine = Tilted(network, tilt=tilt)
    task = FirstCharacter("".join(map(chr, range(32, 80))), size=4)
    optimizer = NodeAdamW(network.adapters, lr=1e-3)
    with pytest.raises(EngineError, match="step 1: the engine sampled from another policy"):
        train_step(network, optimizer, task, task.questions("train"), TrainConfig(), step=1, seed=0)
    for old, new in zip(before, network.adapters.stacks(), strict=True):
        assert torch.equal(old, new)


def test_a_step_without_anything_to_replay_is_compared_all_the_same() -> None:
    """Equal rewards give no gradient; the adapters may be wrong ones nevertheless."""
    _, result = stepped({}, good="")
    assert result.metrics.equal_reward_groups == 1
    assert result.metrics.engine.tokens > 0
    with pytest.raises(EngineError, match="another policy"):
        stepped({"tilt": 0.2}, good="")
