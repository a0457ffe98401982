"""Credit assignment: from the rewards of a step, and of branches of its rollouts, to an advantage for each node.

Estimators that share one advantage among the nodes need the rewards alone. `critic` asks a regression over the
question. `counterfactual` and `difference` go back to each hidden node and replay what follows
(`network/branching.py`); the calls this takes are counted in the step's figures. No branch leaves at the output node,
whose answer is what was graded: further rollouts tell more of it than further answers to the same messages. It has the
leave-one-out advantage of the group; by `counterfactual` with the branches as further passes.

Legend: P question, G rollout, N node, J hidden node, K draw of a node's message (0: the rollout's), T pass of a tree
(0: the rollout).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neuromas.config import BRANCHING, TrainConfig
from neuromas.network.branching import Branch, alternatives, withheld
from neuromas.network.forward import Network
from neuromas.network.turns import Rollout
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.train import critic
from neuromas.train.metrics import Tally
from neuromas.train.objectives import advantages, counterfactual, difference, leave_one_out, leave_tree_out
from neuromas.train.objectives import critic as critic_advantages
from neuromas.types import NodeCall


@dataclass
class Credit:
    """The advantage of each node's tokens in one step."""

    advantages_PGN: Tensor
    # further on-policy draws of a node, to be replayed beside the rollouts': (question, node) -> [(call, advantage)]
    drawn: dict[tuple[int, int], list[tuple[NodeCall, float]]] = field(default_factory=dict[Any, Any])
    calls: list[NodeCall] = field(default_factory=list[NodeCall])  # made beside the rollouts'
    figures: dict[str, float] = field(default_factory=dict[str, float])  # of the step: means over its questions
    node_figures: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    features_PF: Tensor | None = None  # what the critic is to learn from, once the step's gradient is known

    def counted(self, tally: Tally) -> Tally:
        """`tally` with the figures and the cost of this credit."""
        tally.means, tally.node_means, tally.features_PF = self.figures, self.node_figures, self.features_PF
        tally.branches(self.calls)
        return tally


@dataclass(frozen=True)
class Graded:
    """The rollouts of a step with their rewards."""

    network: Network
    task: Task
    rollouts: Sequence[Rollout]  # question-major
    rewards_PG: Tensor
    kept_PG: Tensor | None = None  # False for rollouts without a verdict; None: all have one

    def branch_rewards(self, branches: Sequence[Branch]) -> Tensor:
        """[P, G, branches of a trace]; only answers that differ from the trace's are graded."""
        rewards = [self.rewards_PG.flatten()[b.row].item() for b in branches]
        new = [i for i, b in enumerate(branches) if b.answer != self.rollouts[b.row].answer]
        asked = [self.rollouts[branches[i].row].ask.question for i in new]
        grades = graded(self.task, asked, [branches[i].answer for i in new], abstain=True)
        for i, grade in zip(new, grades, strict=True):
            rewards[i] = rewards[i] if grade.abstained else grade.reward
        return torch.tensor(rewards, dtype=self.rewards_PG.dtype).view(*self.rewards_PG.shape, -1)


def assign(step: Graded, config: TrainConfig, estimator: str, baseline: float) -> Credit:
    """The step's advantages by `estimator`. baseline: mean reward of earlier steps, for `running_mean`."""
    topology = step.network.topology
    if estimator == "critic":
        return _by_critic(step)
    if estimator not in BRANCHING:
        return Credit(advantages(step.rewards_PG, len(topology.nodes), estimator, baseline, step.kept_PG))
    hidden = [node for node in topology.nodes if node != topology.output]
    if not hidden:  # a single node
        return Credit(leave_one_out(step.rewards_PG)[..., None])
    if estimator == "counterfactual":
        return _by_alternatives(step, hidden, config.alternatives)
    return _by_difference(step, hidden)


def _by_critic(step: Graded) -> Credit:
    network, rewards_PG = step.network, step.rewards_PG
    P, G = rewards_PG.shape
    features_PF = critic.features(network, [rollout.ask.question for rollout in step.rollouts[::G]])
    values_P = critic.values(network, features_PF)
    shared_PG = critic_advantages(rewards_PG, values_P)
    loss = (values_P - rewards_PG.mean(1)).square().mean()
    figures = {"value": values_P.mean().item(), "value_loss": loss.item()}
    shared_PGN = shared_PG[..., None].expand(P, G, len(network.topology.nodes))
    return Credit(shared_PGN, figures=figures, features_PF=features_PF)


def _by_alternatives(step: Graded, hidden: list[str], draws: int) -> Credit:
    network, rewards_PG = step.network, step.rewards_PG
    (P, G), nodes = rewards_PG.shape, network.topology.nodes
    branches = alternatives(network, step.rollouts, hidden, draws)
    other_PGT = step.branch_rewards(branches)
    rewards_PGT = torch.cat([rewards_PG[..., None], other_PGT], 2)
    own_PGJ = rewards_PG[..., None, None].expand(P, G, len(hidden), 1)
    rewards_PGJK = torch.cat([own_PGJ, other_PGT.view(P, G, len(hidden), draws)], 3)
    at_node_PGJK, elsewhere_PGT = counterfactual(rewards_PGJK), leave_tree_out(rewards_PGT)

    credit = Credit(elsewhere_PGT[..., :1].repeat(1, 1, len(nodes)), calls=[c for b in branches for c in b.calls])
    for j, node in enumerate(hidden):
        credit.advantages_PGN[..., nodes.index(node)] = at_node_PGJK[..., j, 0]
        differ_PG = rewards_PGJK[..., j, :].amax(-1) != rewards_PGJK[..., j, :].amin(-1)
        credit.node_figures[node] = {"decisive": differ_PG.double().mean().item()}
    weights = zip(at_node_PGJK[..., 1:].flatten().tolist(), elsewhere_PGT[..., 1:].flatten().tolist(), strict=True)
    for branch, (at_node, elsewhere) in zip(branches, weights, strict=True):
        made = {call.node: call for call in branch.calls}
        p, g = divmod(branch.row, G)
        for n, node in enumerate(nodes):
            if (node,) == branch.nodes or node not in hidden:
                weight = at_node if (node,) == branch.nodes else elsewhere
                if node in made:
                    credit.drawn.setdefault((p, n), []).append((made[node], weight))
                else:  # it said what it says in the rollout
                    credit.advantages_PGN[p, g, n] += weight
    return credit


def _by_difference(step: Graded, hidden: list[str]) -> Credit:
    network, rewards_PG = step.network, step.rewards_PG
    nodes = network.topology.nodes
    branches = withheld(network, step.rollouts, [(node,) for node in hidden])
    without_PGN = rewards_PG.new_zeros(*rewards_PG.shape, len(nodes))  # where it stays 0, nothing is taken off
    without_PGN[..., [nodes.index(n) for n in hidden]] = step.branch_rewards(branches)
    credit = Credit(difference(rewards_PG, without_PGN), calls=[c for b in branches for c in b.calls])
    value = lambda node: (rewards_PG - without_PGN[..., nodes.index(node)]).mean().item()
    credit.node_figures = {node: {"value": value(node)} for node in hidden}
    return credit
