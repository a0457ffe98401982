"""Losses of the trained baselines: golden numbers, gradients, and a direct computation through the plain model."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import FirstCharacter, make_backbone, merged, plain_logits, plain_model, run_config
from neuromas.baselines.trained.malt import Malt
from neuromas.baselines.trained.team import score
from neuromas.train.preferences import critic_advantages, critic_loss, dpo_loss, dpo_margins, sft_loss
from neuromas.types import Utterance

# -- golden numbers ----------------------------------------------------------------------------------------


def test_golden_sft_loss_is_the_mean_over_tokens_and_adds_up_over_micro_batches() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5, -0.5])
    assert sft_loss(logprobs, 4).item() == 1.0
    assert (sft_loss(logprobs[:1], 4) + sft_loss(logprobs[1:], 4)).item() == 1.0


def test_golden_dpo_loss() -> None:
    margins = dpo_margins(*map(torch.tensor, ([-1.0, -4.0], [-3.0, -2.0], [-2.0, -4.0], [-2.0, -5.0])))
    assert margins.tolist() == [2.0, -3.0]  # (-1 + 2) - (-3 + 2) and (-4 + 4) - (-2 + 5)
    by_hand = (math.log(1 + math.exp(-0.5 * 2)) + math.log(1 + math.exp(0.5 * 3))) / 2
    assert dpo_loss(margins, 0.5, 2).item() == pytest.approx(by_hand) == pytest.approx(1.0073375)
    assert dpo_loss(torch.zeros(3), 0.1, 3).item() == pytest.approx(math.log(2))
    halves = dpo_loss(margins[:1], 0.5, 2) + dpo_loss(margins[1:], 0.5, 2)
    assert halves.item() == pytest.approx(by_hand)


def test_golden_critic() -> None:
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    values = torch.tensor([0.5, 0.0], dtype=torch.float64)
    assert critic_loss(values, rewards).item() == (0.25 + 0.25 + 1 + 1) / 4
    raw = torch.tensor([[0.5, -0.5], [1.0, 1.0]], dtype=torch.float64)  # mean 0.5, variance 0.375
    torch.testing.assert_close(critic_advantages(rewards, values), (raw - 0.5) / 0.375**0.5)


def test_advantages_of_the_critic_are_normalised_over_the_batch_and_carry_no_gradient() -> None:
    values = torch.rand(5, dtype=torch.float64, requires_grad=True)
    found = critic_advantages(torch.rand(5, 8, dtype=torch.float64), values)
    assert not found.requires_grad
    assert found.mean().item() == pytest.approx(0, abs=1e-12)
    assert found.square().mean().item() == pytest.approx(1)
    assert critic_advantages(torch.ones(2, 3), torch.zeros(2)).tolist() == [[0.0] * 3] * 2


# -- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, shapes",
    [
        (lambda x: sft_loss(x, 7), [(4,)]),
        (lambda a, b: dpo_loss(dpo_margins(a, b, torch.ones_like(a), torch.zeros_like(b)), 0.3, 5), [(3,), (3,)]),
        (lambda v: critic_loss(v, torch.eye(3, dtype=torch.float64)), [(3,)]),
    ],
    ids=["sft", "dpo", "critic"],
)
def test_gradients_are_those_of_finite_differences(
    function: Callable[..., Tensor], shapes: list[tuple[int, ...]]
) -> None:
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(function, inputs)


def test_the_gradient_of_dpo_pushes_the_good_up_and_the_bad_down_by_the_papers_weight() -> None:
    """Equation 7's gradient: β σ(-β margin) of each pair, with opposite signs."""
    good, bad = torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([-1.5, -0.5], requires_grad=True)
    margins = dpo_margins(good, bad, torch.zeros(2), torch.zeros(2))
    dpo_loss(margins, 0.3, 2).backward()
    weight = 0.3 * torch.sigmoid(-0.3 * margins.detach()) / 2
    torch.testing.assert_close(good.grad, -weight)
    torch.testing.assert_close(bad.grad, weight)


@pytest.mark.parametrize("call", [
    lambda: sft_loss(torch.zeros(2, 1), 2), lambda: dpo_loss(torch.zeros(2, 1), 0.1, 2),
    lambda: dpo_margins(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(2, 1)),
    lambda: critic_advantages(torch.zeros(4), torch.zeros(4)),
    lambda: critic_loss(torch.zeros(2, 2), torch.zeros(2, 2)),
])  # fmt: skip
def test_wrong_shapes_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="axes"):
        call()


# -- against a direct computation --------------------------------------------------------------------------

EXAMPLES = [  # in no order of roles; two share a prompt, one has no prompt of its own
    Utterance("refiner", [1, 2, 3], [4, 5], [6, 7, 8]),
    Utterance("generator", [9, 8, 7], [], [6, 5]),
    Utterance("refiner", [1, 2, 3], [4, 5], [9]),
    Utterance("verifier", [1, 2, 3], [6], [2, 2, 2, 2]),
    Utterance("refiner", [5, 5], [1], [3, 2]),
]


def noisy_team() -> Malt:
    config = run_config(method="malt", malt__search=1, malt__sft=1)
    team = Malt.create(config, make_backbone(seed=1), FirstCharacter(""))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for stack in team.adapters.B.values():
            stack.copy_(torch.randn(stack.shape, generator=generator) * 0.3)
    return team


def direct(team: Malt, example: Utterance) -> Tensor:
    """The same through the unmodified model with the role's adapter merged into its weights."""
    model, ids = plain_model(seed=1), [*example.prefix_ids, *example.own_ids, *example.completion_ids]
    weights = merged(team, team.adapters.index[example.node], model)  # pyright: ignore[reportArgumentType]
    logits = plain_logits(model, ids, weights)[-1 - len(example.completion_ids) : -1]
    return logits.log_softmax(-1)[range(len(example.completion_ids)), example.completion_ids]


def test_scores_are_those_of_the_plain_model_with_the_roles_adapter_whatever_the_order() -> None:
    team = noisy_team()
    for found, example in zip(score(team, EXAMPLES), EXAMPLES, strict=True):
        torch.testing.assert_close(found, direct(team, example), atol=1e-4, rtol=1e-4)


def test_sft_and_dpo_gradients_are_those_of_the_direct_computation() -> None:
    team, pair = noisy_team(), [EXAMPLES[0], EXAMPLES[2]]
    gradients: list[list[Tensor]] = []
    for logprobs in (lambda e: score(team, e), lambda e: [direct(team, x) for x in e]):
        parts = logprobs(EXAMPLES)
        good, bad = (part.sum()[None] for part in logprobs(pair))
        loss = sft_loss(torch.cat(parts), 12) + dpo_loss(
            dpo_margins(good, bad, good.detach() * 0, bad.detach() * 0), 0.5, 1
        )
        gradients.append(list(torch.autograd.grad(loss, team.adapters.stacks(), allow_unused=False)))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
    assert all(g.abs().max() > 0 for g in gradients[0])
