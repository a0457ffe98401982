"""Losses of training from examples and from preferences, and of an actor with a critic. Pure functions, as in
objectives.py; each names its source.

Legend: P question, G rollout, L token (all rows concatenated), B pair.
"""

import torch.nn.functional as F
from torch import Tensor

from neuromas.train.objectives import check_rank


def sft_loss(logprobs_L: Tensor, tokens: int) -> Tensor:
    """-(1 / tokens) Σ_t log π(token t): the cross-entropy of given completions, in nats a token.

    Ouyang et al. 2022, arXiv 2203.02155. `tokens` is the number of tokens of the whole update, so that micro-batches
    add up.
    """
    check_rank("logprobs_L", logprobs_L, 1)
    return -logprobs_L.sum() / tokens


def dpo_margins(
    chosen_B: Tensor, rejected_B: Tensor, reference_chosen_B: Tensor, reference_rejected_B: Tensor
) -> Tensor:
    """The margins by which the policy prefers the chosen completion more than the reference does [B], in nats.

    All four are log-probabilities of whole completions, summed over their tokens.
    """
    four = (chosen_B, rejected_B, reference_chosen_B, reference_rejected_B)
    for name, x in zip(("chosen_B", "rejected_B", "reference_chosen_B", "reference_rejected_B"), four, strict=True):
        check_rank(name, x, 1)
    return (chosen_B - reference_chosen_B) - (rejected_B - reference_rejected_B)


def dpo_loss(margins_B: Tensor, beta: float, pairs: int) -> Tensor:
    """-(1 / pairs) Σ_b log σ(β margin_b), for the margins of `dpo_margins`.

    Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290, equation 7. `pairs` is the number of
    pairs of the whole update, so that micro-batches add up.
    """
    check_rank("margins_B", margins_B, 1)
    return -F.logsigmoid(beta * margins_B).sum() / pairs


def critic_advantages(rewards_PG: Tensor, values_P: Tensor, eps: float = 1e-8) -> Tensor:
    """A = r - V(question), then minus the batch's mean and divided by its standard deviation [P, G].

    Liu et al., CoLLM-CC, arXiv 2601.21972. No gradient flows into the critic. A batch of equal advantages gives 0.
    """
    check_rank("rewards_PG", rewards_PG, 2)
    check_rank("values_P", values_P, 1)
    raw = rewards_PG - values_P.detach()[:, None]
    centred = raw - raw.mean()
    return centred / (centred.square().mean().sqrt() + eps)


def critic_loss(values_P: Tensor, rewards_PG: Tensor) -> Tensor:
    """Mean of (r - V(question))² over the batch. Konda & Tsitsiklis 1999, "Actor-Critic Algorithms"."""
    check_rank("values_P", values_P, 1)
    check_rank("rewards_PG", rewards_PG, 2)
    return (rewards_PG - values_P[:, None]).square().mean()
