"""One step of joint training: sample, reward, advantage, replay, loss, update. Read it top to bottom.

REINFORCE with a baseline, all nodes in one update from one final reward (NeuroMAS, arXiv 2605.16757):
`g_v = E[(R - b) Σ_t ∇ log π_v(m_v,t | m_v,<t, prompt_v)]`.

Legend: P question, G rollout, N node, L sampled token (all rows of a micro-batch concatenated).
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from neuromas.config import TrainConfig
from neuromas.errors import DivergenceError
from neuromas.network.arithmetic import flushed
from neuromas.network.asks import Ask
from neuromas.network.branching import Pass
from neuromas.network.forward import Absent, Network, number_rollouts
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.tasks.base import Task
from neuromas.train import critic
from neuromas.train.batching import micro_batches
from neuromas.train.clock import Clock
from neuromas.train.credit import Credit, Rollouts, assign
from neuromas.train.metrics import Tally, join, step_figures
from neuromas.train.mismatch import usual_bound
from neuromas.train.objectives import kl_penalty, kl_to_base, policy_gradient_loss
from neuromas.types import Grade, NodeCall, Question, Trace
from neuromas.workers import ALONE, Workers


@dataclass
class StepResult:
    """What a step did. `metrics` are explained one by one in docs/metrics.md."""

    metrics: dict[str, Any]
    traces: list[Trace] = field(repr=False)  # of this worker's questions
    grades: list[Grade] = field(repr=False)


@dataclass
class _Row:
    """One node's turn in one rollout, ready to be replayed."""

    call: NodeCall
    advantage: float
    extra: bool = False  # drawn beside the rollouts: it has a policy gradient, but KL and entropy count rollouts alone

    def own_tokens(self) -> int:
        return len(self.call.own_ids) + len(self.call.completion_ids)


def train_step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    task: Task,
    questions: Sequence[Question],
    config: TrainConfig,
    *,
    step: int,
    seed: int,
    baseline: float = 0.0,
    absent: Absent = (),
    workers: Workers = ALONE,
) -> StepResult:
    """Sample `config.rollouts` answers to each question, update every node once, and report.

    baseline: mean reward of earlier steps, read by the `running_mean` estimator only. absent: what does not exist, as
    in `Network.forward`; a node learns from the rollouts in which it spoke. workers: each takes its share of the
    questions, of which there must be enough; the update and the metrics are those of all. Raises `DivergenceError`, on
    every worker and before anything is changed, when a log-probability, the loss or a gradient is not finite.
    """
    P, G, nodes = len(questions), config.rollouts, network.topology.nodes
    mine = workers.share(range(P))
    clock = Clock()
    optimizer.zero_grad(set_to_none=True)

    with workers.together():
        # 1. Sample G rollouts of every question, on policy.
        policy = replace(network.decoding, top_p=1.0)  # top-p would sample another policy than the one differentiated
        numbered = workers.share(number_rollouts(questions, G))
        asks = [Ask(question, range(first, first + G), seed, policy) for question, first in numbered]
        traces = network.run(asks, step=step, absent=absent)
        check_finite(traces, step)
        clock.lap("sample")

        # 2. One reward per rollout, from the final answer alone, and what it says of each node.
        asked = [ask.question for ask in asks for _ in range(G)]
        grades = task.grade_many(asked, [trace.answer for trace in traces])
        rewards_PG = torch.tensor([g.reward for g in grades], dtype=torch.float64).view(-1, G)
        clock.lap("grade")
        estimator = "self_distillation" if step <= config.warm_start else config.estimator
        shapes = network.shapes([(trace.question_id, trace.rollout) for trace in traces], absent)
        made = Pass(asked, traces, seed, step, policy, shapes)
        credit = assign(Rollouts(network, task, made, rewards_PG), config, estimator, baseline)
        tally = credit.counted(Tally.of(traces, grades, rewards_PG))
        tally.mismatch.cap = None if network.engine is None else config.ratio_cap
        clock.lap("credit")

        # 3. Replay the sampled ids: one forward and one backward for all nodes, in as many parts as memory asks for.
        silent = config.kl == 0 and config.entropy == 0  # then rows of zero advantage have no gradient at all
        groups = list(_row_groups(network, traces, credit, config.micro_tokens, skip_zero=silent))
        for batch in micro_batches(groups, _size, config.micro_tokens):
            loss = _micro_loss(network, batch, config, P * G, tally)
            if not torch.isfinite(loss):
                raise DivergenceError(
                    f"step {step}: the loss is {loss.item()}; lower train.learning_rate or train.clip", traces
                )
            with flushed():
                loss.backward()
        clock.lap("backward")

        # 4. How far each node has drifted from the backbone: where no penalty needed it, on one question a step.
        if config.kl == 0 and step % P in mine:
            p = mine.index(step % P)
            _measure_drift(network, traces[p * G : (p + 1) * G], tally)
            clock.lap("kl")

    # 5. From here on all workers hold the same: the figures of all questions, and the sum of the gradients.
    tally = join(workers.gather(tally))
    if tally.learned:
        workers.add_gradients(network.adapters.stacks())
    if workers.size > 1:
        clock.lap("exchange")
    tally.mismatch.check(config.max_mismatch or usual_bound(network.backbone.dtype), step)

    # 6. Clip each node on its own, then step.
    norms_N = network.adapters.gradient_norms()
    if not bool(torch.isfinite(norms_N).all()):
        bad = [n for n, x in zip(network.adapters.names, norms_N.tolist(), strict=True) if not math.isfinite(x)]
        raise DivergenceError(f"step {step}: the gradient of {bad} is not finite; lower train.learning_rate", traces)
    scale_N = (config.clip / norms_N.clamp(min=1e-12)).clamp(max=1.0)
    for stack in network.adapters.stacks():
        if stack.grad is not None:
            stack.grad.mul_(scale_N.view(-1, 1, 1))
    optimizer.step()
    if tally.features_PF is not None:
        critic.observe(network, tally.features_PF, tally.rewards_PG)
    clock.lap("update")

    norms = {node: norms_N[network.adapters.index[node]].item() for node in nodes}
    metrics = step_figures(tally, nodes, norms) | {"estimator": estimator, "seconds": clock.laps}
    return StepResult(metrics, traces, grades)


def check_finite(traces: list[Trace], step: int) -> None:
    """Equal rewards skip the replay, so a network that has turned to NaN must be noticed where it samples."""
    bad = {c.node for t in traces for c in t.calls if not all(map(math.isfinite, c.logprobs))}
    if bad:
        raise DivergenceError(
            f"step {step}: a log-probability of {sorted(bad)} is not finite; lower the learning rate", traces
        )


def _row_groups(
    network: Network, traces: list[Trace], credit: Credit, budget: int, *, skip_zero: bool
) -> Iterator[list[_Row]]:
    """What is to be replayed, as rows that share a prefix: those of one (question, node).

    So many rows that they exceed `budget` are divided, each part with the prefix once more. Messages are text, so no
    gradient passes from node to node, and any grouping gives the same sum.
    """
    P, G, _ = credit.advantages_PGN.shape
    spoken = [{call.node: call for call in trace.calls} for trace in traces]
    for n, node in enumerate(network.topology.nodes):
        for p in range(P):
            rows = [
                _Row(calls[node], float(credit.advantages_PGN[p, g, n]))
                for g, calls in enumerate(spoken[p * G : (p + 1) * G])
                if node in calls
            ]
            rows = [row for row in rows if row.advantage != 0 or not skip_zero]
            rows += [_Row(call, a, extra=True) for call, a in credit.drawn.get((p, n), []) if a != 0]
            for alike in _by_prefix(rows):
                yield from micro_batches(alike, _Row.own_tokens, budget - len(alike[0].call.prefix_ids))


def _by_prefix(rows: list[_Row]) -> list[list[_Row]]:
    """Rows of one (question, node), apart where the node stood in different effective topologies."""
    groups: dict[tuple[int, ...], list[_Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.call.prefix_ids), []).append(row)
    return list(groups.values())


def _size(group: list[_Row]) -> int:
    return len(group[0].call.prefix_ids) + sum(map(_Row.own_tokens, group))


def _micro_loss(network: Network, batch: list[list[_Row]], config: TrainConfig, rollouts: int, tally: Tally) -> Tensor:
    """The loss of one micro-batch, scaled so that micro-batches add up to the mean over `rollouts` rollouts."""
    batch = sorted(batch, key=lambda rows: network.adapters.index[rows[0].call.node])
    rows = [row for group in batch for row in group]
    groups, ids = _packed(network, [[row.call for row in group] for group in batch])
    bank, temperature = network.adapters, network.decoding.temperature
    logprobs_L, entropies_L = replay(network.backbone, bank, groups, ids, temperature, config.entropy != 0)
    lengths = torch.tensor([len(i) for i in ids])
    spread = lambda values: torch.tensor(values, dtype=torch.float32).repeat_interleave(lengths).to(logprobs_L.device)
    sampled_L = torch.tensor([x for row in rows for x in row.call.logprobs], device=logprobs_L.device)
    weights_L = tally.mismatch.weights(logprobs_L.detach(), sampled_L)
    loss = policy_gradient_loss(logprobs_L, weights_L * spread([row.advantage for row in rows]), rollouts)
    own_L = spread([not row.extra for row in rows])

    if config.kl:
        with torch.no_grad():  # adapters off: the reference costs no second model
            base_L, _ = replay(network.backbone, None, groups, ids, temperature)
        loss = loss + config.kl * (own_L * kl_penalty(logprobs_L, base_L)).sum() / rollouts
        kl_L = kl_to_base(logprobs_L.detach(), base_L)
        _add_kl(tally, [row.call for row in rows], kl_L)
    if config.entropy:
        loss = loss - config.entropy * (own_L * entropies_L).sum() / rollouts
    tally.learned = True
    return loss


def _packed(network: Network, batch: list[list[NodeCall]]) -> tuple[list[Group], list[list[int]]]:
    """Groups to replay and their completions, for calls grouped by (question, node) and sorted by adapter."""
    index = network.adapters.index
    groups = [Group(index[calls[0].node], calls[0].prefix_ids, [c.own_ids for c in calls]) for calls in batch]
    return groups, [call.completion_ids for calls in batch for call in calls]


@torch.no_grad()
def _measure_drift(network: Network, traces: list[Trace], tally: Tally) -> None:
    """KL of the rollouts of one question to the bare backbone: one pass with the adapters off; and where nothing had to
    be replayed in this step, one with them on, for an engine's mismatch."""
    unread_PGN = torch.zeros(1, len(traces), len(network.topology.nodes))
    groups = _row_groups(network, traces, Credit(unread_PGN), sys.maxsize, skip_zero=False)
    batch = [[row.call for row in rows] for rows in groups]
    batch.sort(key=lambda calls: network.adapters.index[calls[0].node])
    groups, ids = _packed(network, batch)
    calls = [call for group in batch for call in group]
    base_L, _ = replay(network.backbone, None, groups, ids, network.decoding.temperature)
    sampled_L = torch.tensor([x for call in calls for x in call.logprobs], device=base_L.device)
    _add_kl(tally, calls, kl_to_base(sampled_L, base_L))
    if network.engine is not None and tally.mismatch.tokens == 0:
        own_L, _ = replay(network.backbone, network.adapters, groups, ids, network.decoding.temperature)
        tally.mismatch.weights(own_L, sampled_L)


def _add_kl(tally: Tally, calls: list[NodeCall], kl_L: Tensor) -> None:
    for call, value in zip(calls, kl_L.split([len(c.completion_ids) for c in calls]), strict=True):
        tally.kl(call.node, len(value), value.sum().item())
