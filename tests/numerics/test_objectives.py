"""Estimators: golden numbers, and their exact expectation on a network small enough to enumerate."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers import FirstCharacter, make_network, questions
from neuromas.config import TrainConfig
from neuromas.train import objectives
from neuromas.train.objectives import (
    ESTIMATORS,
    advantages,
    equal_reward_groups,
    kl_penalty,
    kl_to_base,
    policy_gradient_loss,
)
from neuromas.train.step import train_step

TABLE = Path(__file__).parents[2] / "docs" / "estimators.md"
REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


# -- golden numbers ----------------------------------------------------------------------------------------


def test_golden_advantages() -> None:
    third = 1 / 3
    expected = {
        "leave_one_out": [[2 * third, -2 * third, -2 * third, 2 * third], [third, third, third, -1], [0, 0, 0, 0]],
        "group_normalised": [[1, -1, -1, 1], [3**-0.5, 3**-0.5, 3**-0.5, -(3**0.5)], [0, 0, 0, 0]],
        "running_mean": [[0.75, -0.25, -0.25, 0.75], [0.75, 0.75, 0.75, -0.25], [-0.25] * 4],
    }
    assert expected.keys() == ESTIMATORS.keys()
    for name, table in expected.items():
        found = advantages(REWARDS, 2, name, 0.25)
        assert found.shape == (3, 4, 2)
        for node in range(2):
            torch.testing.assert_close(found[..., node], torch.tensor(table, dtype=torch.float64), atol=1e-5, rtol=0)


def test_leave_one_out_is_each_reward_minus_the_mean_of_the_others() -> None:
    rewards = torch.rand(5, 7, dtype=torch.float64)
    others = torch.stack([rewards[:, [j for j in range(7) if j != i]].mean(1) for i in range(7)], 1)
    torch.testing.assert_close(objectives.leave_one_out(rewards), rewards - others)


def test_golden_loss_and_kl() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5])
    assert policy_gradient_loss(logprobs, torch.tensor([1.0, -1.0, 2.0]), 4).item() == 0.0
    assert policy_gradient_loss(logprobs, torch.tensor([2.0, 0.0, 0.0]), 4).item() == 0.5
    kl = kl_to_base(torch.tensor([-1.0, -1.0, -2.0]), torch.tensor([-1.0, -2.0, -1.0]))
    torch.testing.assert_close(kl, torch.tensor([0.0, 0.3678794, 0.7182818]))


def test_the_kl_estimate_averages_to_the_divergence() -> None:
    node, base = torch.randn(2, 9, dtype=torch.float64).log_softmax(-1)
    exact = (node.exp() * (node - base)).sum()
    torch.testing.assert_close((node.exp() * kl_to_base(node, base)).sum(), exact)


def test_the_kl_penalty_has_on_average_the_gradient_of_the_divergence() -> None:
    """That of KL(node || base), which the gradient of the estimate itself has not."""
    theta, base = torch.randn(2, 9, dtype=torch.float64).requires_grad_()
    node, base = theta.log_softmax(-1), base.detach().log_softmax(-1)
    gradient = lambda y: torch.autograd.grad(y, theta, retain_graph=True)[0]
    exact = gradient((node.exp() * (node - base)).sum())
    chance = node.exp().detach()
    torch.testing.assert_close(gradient((chance * kl_penalty(node, base)).sum()), exact)
    assert (gradient((chance * kl_to_base(node, base)).sum()) - exact).norm() > 0.1 * exact.norm()


def test_equal_rewards_are_told_apart_from_unequal_ones() -> None:
    assert equal_reward_groups(REWARDS).tolist() == [False, False, True]


def test_wrong_shapes_and_a_single_rollout_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rollouts"):
        objectives.leave_one_out(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="expected 2 axes"):
        objectives.group_normalised(torch.zeros(3))
    with pytest.raises(ValueError, match="expected 1 axes"):
        policy_gradient_loss(torch.zeros(3, 1), torch.zeros(3), 1)


# -- equal rewards -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["leave_one_out", "group_normalised"])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 0.7, 1 / 3])
@pytest.mark.parametrize("rollouts", [2, 3, 6, 7])
def test_equal_rewards_give_advantages_of_exactly_zero(estimator: str, reward: float, rollouts: int) -> None:
    rewards = torch.full((2, rollouts), reward, dtype=torch.float64)
    assert (advantages(rewards, 1, estimator, 0.0) == 0).all()


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1])
def test_equal_rewards_leave_no_gradient_and_change_no_weight(reward: float) -> None:
    class Constant(FirstCharacter):
        def grade(self, question, text):
            return type(super().grade(question, text))(reward, text)

    network = make_network("2")
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=0.1, weight_decay=0.0)
    before = [p.detach().clone() for p in network.adapters.stacks()]
    config = TrainConfig(rollouts=3)
    result = train_step(network, optimizer, Constant(""), questions(2), config, step=1, seed=0)
    assert result.metrics.equal_reward_groups == 1.0
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in network.adapters.stacks())
    assert all(torch.equal(a, b) for a, b in zip(before, network.adapters.stacks(), strict=True))


# -- exact expectations ------------------------------------------------------------------------------------


class Toy:
    """Two nodes: one says a message of 3, the other reads it and gives an answer of 3; each pair has a reward."""

    rewards_MA = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.25, 1.0, 0.0]], dtype=torch.float64)

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(2)
        self.theta = torch.randn(12, dtype=torch.float64, generator=generator).requires_grad_()
        self.pairs = list(itertools.product(range(3), range(3)))

    def logprobs(self) -> Tensor:
        """[outcome, node]"""
        message, answer = self.theta[:3].log_softmax(0), self.theta[3:].view(3, 3).log_softmax(1)
        return torch.stack([torch.stack([message[m], answer[m, a]]) for m, a in self.pairs])

    def exact_gradient(self) -> Tensor:
        (gradient,) = torch.autograd.grad((self.logprobs().sum(1).exp() * self.rewards_MA.flatten()).sum(), self.theta)
        return gradient

    def moments(self, estimator: str, G: int, baseline: float) -> tuple[Tensor, float]:
        """Mean and total variance of the library's gradient over every group of G rollouts."""
        logp = self.logprobs()
        groups = torch.tensor(list(itertools.product(range(9), repeat=G)))
        chance = logp.detach().sum(1).exp()[groups].prod(1)
        found = advantages(self.rewards_MA.flatten()[groups], 2, estimator, baseline)
        score = torch.stack([torch.autograd.grad(p, self.theta, retain_graph=True)[0] for p in logp.sum(1)])
        each = torch.einsum("xg,xgt->xt", found[..., 0], score[groups]) / G
        one = torch.randint(len(groups), (1,)).item()  # the library's own loss has this gradient
        loss = policy_gradient_loss(logp[groups[one]].flatten(), found[one].flatten(), G)
        torch.testing.assert_close(-torch.autograd.grad(loss, self.theta)[0], each[one])
        mean = (chance[:, None] * each).sum(0)
        return mean, ((chance[:, None] * (each - mean).square()).sum()).item()


@pytest.mark.parametrize("G", [2, 3, 4])
def test_leave_one_out_and_running_mean_are_unbiased(G: int) -> None:
    toy = Toy()
    exact = toy.exact_gradient()
    for estimator, baseline in (("leave_one_out", 0.0), ("running_mean", 0.0), ("running_mean", 0.4)):
        torch.testing.assert_close(toy.moments(estimator, G, baseline)[0], exact, atol=1e-12, rtol=1e-10)


def test_running_mean_is_unbiased_for_a_single_rollout_too() -> None:
    toy = Toy()
    torch.testing.assert_close(toy.moments("running_mean", 1, 0.4)[0], toy.exact_gradient())


@pytest.mark.parametrize("G", [2, 3, 4])
def test_group_normalised_points_elsewhere(G: int) -> None:
    """Even its direction is not that of the gradient, so no learning rate makes up for it."""
    toy = Toy()
    mean, exact = toy.moments("group_normalised", G, 0.0)[0], toy.exact_gradient()
    assert torch.cosine_similarity(mean, exact, dim=0) < 0.9999
    assert (mean - exact).norm() > 0.05 * exact.norm()


def table() -> list[str]:
    """The rows of docs/estimators.md, computed."""
    toy = Toy()
    exact = toy.exact_gradient()
    mean_reward = (toy.logprobs().sum(1).exp() * toy.rewards_MA.flatten()).sum().item()
    rows: list[str] = []
    kinds = [(e, 0.0, e) for e in ("leave_one_out", "group_normalised")]
    kinds += [("running_mean", mean_reward, "running_mean, b = E[R]"), ("running_mean", 0.0, "running_mean, b = 0")]
    for name, baseline, label in kinds:
        for G in (2, 4):
            mean, variance = toy.moments(name, G, baseline)
            length, angle = mean.norm() / exact.norm(), torch.cosine_similarity(mean, exact, dim=0)
            noise = variance / mean.norm().item() ** 2
            rows.append(f"| {label} | {G} | {length:.3f} | {angle:.4f} | {variance:.4f} | {noise:.2f} |")
    return rows


def test_the_published_table_of_estimators_is_the_computed_one() -> None:
    """Remake it with: python -c "from test_objectives import table; print(*table(), sep='\\n')"."""
    lines = TABLE.read_text(encoding="utf-8").split("## Telling nodes apart")[0].splitlines()
    published = [line for line in lines if line.startswith(("| l", "| g", "| r"))]
    assert published == table()
