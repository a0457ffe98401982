"""A critic over the question: the reward to be expected of it, read from the frozen backbone's states.

Ridge regression of the questions' mean rewards on the mean hidden state of the prompt that asks them, adapters off,
fitted in closed form to all steps so far, older ones counting less. What it remembers are the weighted sums of the
normal equations. They lie in `network.extras`, so a checkpoint holds them.

Legend: P question, E width of the hidden state, F = E + 1 (the last feature is 1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from neuromas.network.forward import Network
from neuromas.network.generate import mean_states
from neuromas.types import Question

_MOMENTS, _TARGETS = "critic.moments", "critic.targets"
_DECAY = 0.95  # weight of a step in the next one's eyes: the policy moves on, and with it what is to be expected
_RIDGE = 4.0  # weight of the prior, as a multiple of E: every standardised coefficient is 0


def attach(network: Network) -> None:
    """Give the network a critic that has seen nothing."""
    F = network.backbone.config.hidden_size + 1
    empty = lambda *shape: Parameter(torch.zeros(*shape, dtype=torch.float64), requires_grad=False)
    network.extras |= {_MOMENTS: empty(F, F), _TARGETS: empty(F)}


def features(network: Network, questions: Sequence[Question]) -> Tensor:
    """[P, F] of questions, float64 on the CPU; the prompt is that of the first node, which reads no messages."""
    first = network.topology.position(network.topology.nodes[0])
    prompts = [network.prompt(first, question, []).prefix_ids for question in questions]
    states_PE = mean_states(network.backbone, prompts).double().cpu()
    return torch.cat([states_PE, states_PE.new_ones(len(prompts), 1)], 1)


def values(network: Network, features_PF: Tensor) -> Tensor:
    """Expected rewards [P], in [0, 1]; 0 before the first `observe`."""
    moments_FF, targets_F = network.extras[_MOMENTS].data, network.extras[_TARGETS].data
    weight = moments_FF[-1, -1]
    if weight == 0:
        return features_PF.new_zeros(len(features_PF))
    mean_E, mean_reward = moments_FF[-1, :-1] / weight, targets_F[-1] / weight
    covariance_EE = moments_FF[:-1, :-1] / weight - torch.outer(mean_E, mean_E)
    scale_E = covariance_EE.diagonal().clamp(min=1e-12).sqrt()
    correlation_EE = weight * covariance_EE / torch.outer(scale_E, scale_E)
    with_reward_E = (targets_F[:-1] - mean_E * targets_F[-1]) / scale_E
    prior_EE = _RIDGE * len(mean_E) * torch.eye(len(mean_E), dtype=torch.float64)
    coefficients_E = torch.linalg.solve(correlation_EE + prior_EE, with_reward_E)
    return (mean_reward + (features_PF[:, :-1] - mean_E) / scale_E @ coefficients_E).clamp(0, 1)


def observe(network: Network, features_PF: Tensor, rewards_PG: Tensor) -> None:
    """Learn from a step's rewards; every question counts once, with the mean of its rollouts."""
    network.extras[_MOMENTS].data.mul_(_DECAY).add_(features_PF.T @ features_PF)
    network.extras[_TARGETS].data.mul_(_DECAY).add_(features_PF.T @ rewards_PG.mean(1))
