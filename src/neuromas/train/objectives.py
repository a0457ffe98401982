"""Estimators of advantages and the losses made of them. Pure functions; each names its source.

Legend: P question, G rollout, N node, L sampled token (all rows concatenated).
"""

from collections.abc import Callable

import torch
from torch import Tensor


def check_rank(name: str, x: Tensor, rank: int) -> None:
    """Raises ValueError unless `x` has `rank` axes."""
    if x.ndim != rank:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {rank} axes")


def _centred(rewards_PG: Tensor) -> Tensor:
    """Rewards minus their group's mean [P, G]; of exactly 0 where they are equal, whatever their mean rounds to."""
    shifted = rewards_PG - rewards_PG[:, :1]
    return shifted - shifted.mean(1, keepdim=True)


def leave_one_out(rewards_PG: Tensor) -> Tensor:
    """A = r - mean of the other rollouts' rewards [P, G]. Unbiased: the baseline never saw the rollout.

    Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!". Needs G ≥ 2.
    """
    check_rank("rewards_PG", rewards_PG, 2)
    G = rewards_PG.shape[1]
    if G < 2:
        raise ValueError("leave_one_out needs at least 2 rollouts a question; raise rollouts or use running_mean")
    return _centred(rewards_PG) * (G / (G - 1))


def group_mean(rewards_PG: Tensor) -> Tensor:
    """A = r - mean of the group [P, G]: (G - 1) / G of `leave_one_out`, hence its gradient is that much too short."""
    check_rank("rewards_PG", rewards_PG, 2)
    return _centred(rewards_PG)


def group_normalised(rewards_PG: Tensor, eps: float = 1e-6) -> Tensor:
    """A = (r - mean) / standard deviation of the group [P, G]; Shao et al. 2024 (GRPO), arXiv 2402.03300.

    Not unbiased: it weighs a question by how unsure the policy is on it. Groups of equal rewards give 0.
    """
    check_rank("rewards_PG", rewards_PG, 2)
    centred = _centred(rewards_PG)
    return centred / (centred.square().mean(1, keepdim=True).sqrt() + eps)


def running_mean(rewards_PG: Tensor, baseline: float) -> Tensor:
    """A = r - baseline [P, G], with the mean reward of earlier steps. Unbiased; Williams 1992, REINFORCE."""
    check_rank("rewards_PG", rewards_PG, 2)
    return rewards_PG - baseline


def self_distillation(rewards_PG: Tensor) -> Tensor:
    """A = r / sum of the group's rewards [P, G]: with 0/1 rewards, cross-entropy on a network's own right rollouts.

    Dong et al. 2023, "RAFT", arXiv 2304.06767. No policy gradient: nothing is pushed away. For a warm start.
    """
    check_rank("rewards_PG", rewards_PG, 2)
    return rewards_PG * rewards_PG.shape[1] / rewards_PG.sum(1, keepdim=True).clamp(min=1e-12)


ESTIMATORS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "leave_one_out": lambda r, _: leave_one_out(r),
    "group_mean": lambda r, _: group_mean(r),
    "group_normalised": lambda r, _: group_normalised(r),
    "running_mean": running_mean,
    "self_distillation": lambda r, _: self_distillation(r),
}


def advantages(rewards_PG: Tensor, nodes: int, estimator: str, baseline: float) -> Tensor:
    """Advantages [P, G, N]. One terminal reward gives every node the same one."""
    return ESTIMATORS[estimator](rewards_PG, baseline)[..., None].expand(-1, -1, nodes)


def policy_gradient_loss(logprobs_L: Tensor, advantages_L: Tensor, rollouts: int) -> Tensor:
    """-(1 / rollouts) Σ_t A log π(token t): its gradient is minus REINFORCE's (Williams 1992), all nodes at once.

    `rollouts` is the number of rollouts of the whole update (P × G), so that micro-batches add up.
    """
    check_rank("logprobs_L", logprobs_L, 1)
    check_rank("advantages_L", advantages_L, 1)
    return -(logprobs_L * advantages_L).sum() / rollouts


def kl_to_base(logprobs_L: Tensor, base_logprobs_L: Tensor) -> Tensor:
    """Per-token estimate of KL(node || base) [L], never negative: exp(d) - d - 1 with d = log base - log node.

    Schulman 2020, "Approximating KL Divergence" (the k3 estimator).
    """
    check_rank("logprobs_L", logprobs_L, 1)
    d = base_logprobs_L - logprobs_L
    return torch.expm1(d) - d


def kl_penalty(logprobs_L: Tensor, base_logprobs_L: Tensor) -> Tensor:
    """Per-token loss [L] whose expected gradient, at sampled tokens, is that of KL(node || base): d² / 2.

    Schulman 2020 (k2). The gradient of `kl_to_base` itself would be that of the reverse, KL(base || node).
    """
    check_rank("logprobs_L", logprobs_L, 1)
    return (base_logprobs_L - logprobs_L).square() / 2


def equal_reward_groups(rewards_PG: Tensor) -> Tensor:
    """Whether all rollouts of a question got the same reward [P]; such a group carries no policy gradient."""
    check_rank("rewards_PG", rewards_PG, 2)
    return rewards_PG.amax(1) == rewards_PG.amin(1)
