"""Estimators of advantages and the losses made of them. Pure functions; each names its source.

Legend: P question, G rollout, N node, K draw of one node's message in one context, T pass of a tree (the
rollout and its branches), L sampled token (all rows concatenated).
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


def critic(rewards_PG: Tensor, values_P: Tensor) -> Tensor:
    """A = r - V(question) [P, G], with a critic fitted to earlier steps. Unbiased: V never saw these rollouts.

    Sutton et al. 1999, policy gradients with a value baseline; Liu et al. 2026 (CoLLM-CC), arXiv 2601.21972.
    """
    check_rank("rewards_PG", rewards_PG, 2)
    check_rank("values_P", values_P, 1)
    return rewards_PG - values_P[:, None]


def counterfactual(rewards_PGNK: Tensor) -> Tensor:
    """A = (r - mean of the node's other draws in the same context) / K [P, G, N, K]; draw 0 is the rollout's own.

    Foerster et al. 2018 (COMA), arXiv 1705.08926, with the mean over actions replaced by that over fresh draws as in
    C3, arXiv 2603.06859. Unbiased: given the context and the other nodes' random streams the draws are independent,
    so the others are a baseline. Each draw is an on-policy sample; K of them count as one rollout, hence 1 / K.
    """
    check_rank("rewards_PGNK", rewards_PGNK, 4)
    K = rewards_PGNK.shape[3]
    if K < 2:
        raise ValueError("counterfactual needs at least 2 draws a node: the rollout's own and one alternative")
    return leave_one_out(rewards_PGNK.flatten(0, 2)).view_as(rewards_PGNK) / K


def leave_tree_out(rewards_PGT: Tensor) -> Tensor:
    """A = (r - mean reward of the question's other trees) / T [P, G, T]; a tree is a rollout and its branches.

    For nodes that no branch leaves at: each branch is one more pass for them, not independent of its rollout, hence the
    baseline of other trees alone; T passes count as one rollout. `leave_one_out` where T = 1. Unbiased. Needs G ≥ 2.
    """
    check_rank("rewards_PGT", rewards_PGT, 3)
    _, G, T = rewards_PGT.shape
    if G < 2:
        raise ValueError("leave_tree_out needs at least 2 rollouts a question; raise rollouts")
    shifted = rewards_PGT - rewards_PGT[:, :1, :1]  # so that equal rewards give exactly 0
    tree_PG = shifted.mean(2)
    others_PG = (tree_PG.sum(1, keepdim=True) - tree_PG) / (G - 1)
    return (shifted - others_PG[..., None]) / T


def difference(rewards_PG: Tensor, without_PGN: Tensor) -> Tensor:
    """A = D - mean of the other rollouts' D, with D = r - reward without the node's message [P, G, N].

    Wolpert & Tumer 2002, "Optimal payoff functions for members of collectives". Unbiased where what follows is
    replayed with the random streams of the rollout: the reward without the message then depends on nothing that the
    node drew, and is a baseline. Centring takes out what the message is worth on average, whatever its words.
    """
    check_rank("rewards_PG", rewards_PG, 2)
    check_rank("without_PGN", without_PGN, 3)
    P, G, N = without_PGN.shape
    differences = rewards_PG[..., None] - without_PGN
    return leave_one_out(differences.transpose(1, 2).reshape(P * N, G)).view(P, N, G).transpose(1, 2)


ESTIMATORS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "leave_one_out": lambda r, _: leave_one_out(r),
    "group_normalised": lambda r, _: group_normalised(r),
    "running_mean": running_mean,
}


def advantages(
    rewards_PG: Tensor, nodes: int, estimator: str, baseline: float, kept_PG: Tensor | None = None
) -> Tensor:
    """Advantages [P, G, N]. One terminal reward gives every node the same one; `credit.py` knows of others.

    kept_PG: False for rollouts without a verdict, which have none and are in no other's baseline; None: all count.
    """
    estimate = ESTIMATORS[estimator]
    if kept_PG is None or kept_PG.all():
        return estimate(rewards_PG, baseline)[..., None].expand(-1, -1, nodes)
    shared_PG = torch.zeros_like(rewards_PG)
    for p, kept_G in enumerate(kept_PG):
        if kept_G.sum() > (estimator != "running_mean"):  # nothing to compare a single one with
            shared_PG[p, kept_G] = estimate(rewards_PG[p, kept_G][None], baseline)[0]
    return shared_PG[..., None].expand(-1, -1, nodes)


def without_verdicts(rewards_PG: Tensor, kept_PG: Tensor) -> Tensor:
    """The rewards, with the mean of the question's others, else of all, where there is no verdict."""
    if kept_PG.all():
        return rewards_PG
    known = rewards_PG.where(kept_PG, torch.nan)
    means_P1 = known.nanmean(1, keepdim=True)
    return known.where(kept_PG, means_P1.where(~means_P1.isnan(), known.nanmean())).nan_to_num(0.0)


def policy_gradient_loss(logprobs_L: Tensor, advantages_L: Tensor, rollouts: int) -> Tensor:
    """-(1 / rollouts) Σ_t A log π(token t): its gradient is minus REINFORCE's (Williams 1992), all nodes at once.

    `rollouts` is the number of rollouts of the whole update (P × G), so that micro-batches add up.
    """
    check_rank("logprobs_L", logprobs_L, 1)
    check_rank("advantages_L", advantages_L, 1)
    return -(logprobs_L * advantages_L).sum() / rollouts


def truncated_ratios(logprobs_L: Tensor, sampled_L: Tensor, cap: float) -> Tensor:
    """min(π / μ, cap) of each token [L], for advantages of tokens that were sampled from μ and not from π.

    Truncated importance sampling (Ionides 2008) token by token, between a trainer and its inference engine: Yao et al.
    2025, "Your efficient RL framework secretly brings you off-policy RL training"; TRL's `token_truncate`.
    """
    check_rank("logprobs_L", logprobs_L, 1)
    check_rank("sampled_L", sampled_L, 1)
    return (logprobs_L - sampled_L).exp().clamp(max=cap)


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
    """True for each question whose rollouts all got the same reward [P]; such a group carries no policy gradient."""
    check_rank("rewards_PG", rewards_PG, 2)
    return rewards_PG.amax(1) == rewards_PG.amin(1)
