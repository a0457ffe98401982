"""One step of joint training: sample, reward, advantage, replay, loss, update. Read it top to bottom.

REINFORCE with a baseline, all nodes in one update from one final reward (NeuroMAS, arXiv 2605.16757):
`g_v = E[(R - b) Σ_t ∇ log π_v(m_v,t | m_v,<t, prompt_v)]`.

Left out on purpose:
- PPO's clipping and several updates from one batch: every update is on policy, so the ratio to be clipped is 1.
- A reference model: the reference is the backbone with the adapters off, and costs no memory.
- Division by the standard deviation of a group or by a message's length: both bias the gradient.
- Rewards for single nodes or messages: only the final answer is graded; credit is the estimator's business.
- Padding, and encoding generated text a second time: the very ids that were sampled are replayed in one stream.
- Replacing a NaN by a number: a loss or gradient that is not finite ends the run before anything has changed.

Legend: P question, G rollout, N node, L sampled token (all rows of a micro-batch concatenated).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from neuromas.config import TrainConfig
from neuromas.network.forward import Absent, Network
from neuromas.network.turns import Ask, Rollout, asks_of, by_prefix, replay_calls
from neuromas.results import StepMetrics
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.train import critic
from neuromas.train.batching import micro_batches, room_beside
from neuromas.train.credit import Credit, Graded, assign
from neuromas.train.metrics import Clock, Measured, Tally, join, step_metrics
from neuromas.train.mismatch import Mismatch, usual_bound
from neuromas.train.objectives import kl_penalty, kl_to_base, policy_gradient_loss, without_verdicts
from neuromas.train.update import backward, check_finite, update
from neuromas.train.warm import IMITATION, Pool, imitate, right_ones
from neuromas.types import Grade, NodeCall, Question, Trace
from neuromas.workers import ALONE, Workers


@dataclass
class StepResult:
    """The outcome of a step. `metrics` are explained one by one in docs/metrics.md."""

    metrics: StepMetrics
    traces: list[Trace] = field(repr=False)  # of this worker's questions
    grades: list[Grade] = field(repr=False)


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
    more: Callable[[int], Sequence[Question]] | None = None,
    pool: Pool | None = None,
    workers: Workers = ALONE,
) -> StepResult:
    """Sample `config.rollouts` answers to each question, update every node once, and report.

    baseline: mean reward of earlier steps, read by the `running_mean` estimator only. absent: what does not exist, as
    in `Network.forward`; a node learns from the rollouts in which it spoke. more: gives as many further questions,
    which are asked besides those whose rollouts were all wrong (`config.resample`). pool: what a warm start imitates,
    in place of learning from advantages. workers: each takes its share of the questions, of which there must be enough;
    the update and the metrics are those of all. Raises `DivergenceError`, on every worker and before anything is
    changed, when a log-probability, the loss or a gradient is not finite.
    """
    P, G, nodes = len(questions), config.rollouts, network.topology.nodes
    clock = Clock()
    optimizer.zero_grad(set_to_none=True)

    with workers.together():
        # 1. Sample G rollouts of every question, on policy: top-p would sample another one than is differentiated.
        asks = asks_of(questions, G, seed, replace(network.decoding, top_p=1.0), step)
        rollouts, grades = _sample(network, task, workers.share(asks), absent, clock)
        if more is not None and config.resample:
            rollouts, grades = _resample(network, task, rollouts, grades, config, more, absent, clock)
        traces = [rollout.trace() for rollout in rollouts]
        check_finite(traces, step)

        # 2. One reward per rollout, from the final answer alone, and the advantage that it gives each node.
        kept_PG = torch.tensor([not grade.abstained for grade in grades]).view(-1, G)
        rewards_PG = torch.tensor([grade.reward for grade in grades], dtype=torch.float64).view(-1, G)
        rewards_PG = without_verdicts(rewards_PG, kept_PG)
        tally = Tally.of(traces, grades, rewards_PG, _ratio_cap(network, config))
        groups: list[list[_Row]] = []
        if pool is None:
            credit = assign(Graded(network, task, rollouts, rewards_PG, kept_PG), config, config.estimator, baseline)
            credit.advantages_PGN = credit.advantages_PGN * kept_PG[..., None]
            tally = credit.counted(tally)
            silent = config.kl == 0 and config.entropy == 0  # then rows of zero advantage have no gradient at all
            groups = list(_row_groups(network, rollouts, credit, config.micro_tokens, skip_zero=silent))
        clock.lap("credit")

        # 3. Replay the sampled ids: one forward and one backward for all nodes, in as many parts as memory asks for.
        for batch in micro_batches(groups, _size, config.micro_tokens):
            loss, measured = _micro_loss(network, batch, config, P * G)
            backward(loss, step, traces)
            tally.replayed(measured)
        clock.lap("backward")

        # 4. How far each node has drifted from the backbone: where no penalty needed it, on one question a step.
        if config.kl == 0 and (drifting := _question_of(rollouts, step, P, G, workers)):
            tally.replayed(_measure_drift(network, drifting, config, again=not groups), learned=False)
            clock.lap("kl")

    # Or imitate what was right, in this step and before: the warm start.
    if pool is not None:
        shares = workers.gather(right_ones(rollouts, (rewards_PG * kept_PG).flatten().tolist()))
        pool.add(step, [one for share in shares for one in share], join(workers.gather(tally)).rewards_PG.mean().item())
        with workers.together():
            rows = workers.share(pool.batch(P * G))
            imitate(network, rows, config.micro_tokens, step, traces)
            tally.learned = bool(rows)
            clock.lap("backward")

    # 5. From here on all workers hold the same: the metrics of all questions, and the sum of the gradients.
    tally = join(workers.gather(tally))
    if tally.learned:
        workers.add_gradients(network.adapters.stacks())
    if workers.size > 1:
        clock.lap("exchange")
    tally.mismatch.check(config.max_mismatch or usual_bound(network.backbone.dtype), step)

    # 6. Clip each node on its own, then step.
    norms_N = update(network.adapters, optimizer, config.clip, step, traces=traces)
    if tally.features_PF is not None:
        critic.observe(network, tally.features_PF, tally.rewards_PG)
    clock.lap("update")

    norms = {node: norms_N[network.adapters.index[node]].item() for node in nodes}
    estimator = config.estimator if pool is None else IMITATION
    metrics = step_metrics(tally, step, nodes, norms, estimator, clock.laps)
    return StepResult(metrics, traces, grades)


def _sample(
    network: Network, task: Task, asks: Sequence[Ask], absent: Absent, clock: Clock
) -> tuple[list[Rollout], list[Grade]]:
    rollouts = network.forward(asks, absent=absent)
    clock.lap("sample")
    grades = graded(task, [r.ask.question for r in rollouts], [r.answer for r in rollouts], abstain=True)
    clock.lap("grade")
    return rollouts, grades


def _resample(
    network: Network,
    task: Task,
    rollouts: list[Rollout],
    grades: list[Grade],
    config: TrainConfig,
    more: Callable[[int], Sequence[Question]],
    absent: Absent,
    clock: Clock,
) -> tuple[list[Rollout], list[Grade]]:
    """The same and the rollouts of other questions, as many as had no right rollout, `config.resample` times at most.

    Yu et al. 2025, "DAPO", arXiv 2503.14476 (dynamic sampling). All of them count in the metrics; groups that are all
    wrong have no gradient, so the batch that learns grows to its full size and no further.
    """
    G, first = config.rollouts, rollouts[0].ask
    asked, new = [r.ask.question for r in rollouts[::G]], grades
    for _ in range(config.resample):
        wrong = sum(all(grade.reward == 0 for grade in new[i : i + G]) for i in range(0, len(new), G))
        if not wrong:
            break
        asked += more(wrong)
        asks = asks_of(asked, G, first.seed, first.decoding, first.step)[-wrong:]
        drawn, new = _sample(network, task, asks, absent, clock)
        rollouts, grades = [*rollouts, *drawn], [*grades, *new]
    return rollouts, grades


@dataclass
class _Row:
    """One node's turn in one rollout, ready to be replayed."""

    call: NodeCall
    advantage: float
    extra: bool = False  # drawn beside the rollouts: it has a policy gradient, but KL and entropy count rollouts alone
    alone: bool = False  # on the plain path a row reads its prefix by itself

    def own_tokens(self) -> int:
        return self.alone * len(self.call.prefix_ids) + len(self.call.own_ids) + len(self.call.completion_ids)


def _row_groups(
    network: Network, rollouts: Sequence[Rollout], credit: Credit, budget: int, *, skip_zero: bool
) -> Iterator[list[_Row]]:
    """The rows to be replayed, those that share a prefix together: one (question, node) in one effective topology.

    So many rows that they exceed `budget` tokens are divided, each part with the prefix once more. Messages are text,
    so no gradient passes from node to node, and any grouping gives the same sum.
    """
    P, G, _ = credit.advantages_PGN.shape
    row = partial(_Row, alone=network.backbone.proof.path == "plain")
    for n, node in enumerate(network.topology.nodes):
        for p in range(P):
            rows = [
                row(rollout.calls[node], float(credit.advantages_PGN[p, g, n]))
                for g, rollout in enumerate(rollouts[p * G : (p + 1) * G])
                if node in rollout.calls
            ]
            rows = [r for r in rows if r.advantage != 0 or not skip_zero]
            rows += [row(call, a, extra=True) for call, a in credit.drawn.get((p, n), []) if a != 0]
            for _, alike in by_prefix(rows, lambda r: 0, lambda r: r.call.prefix_ids):
                yield from micro_batches(alike, _Row.own_tokens, room_beside(len(alike[0].call.prefix_ids), budget))


def _size(group: list[_Row]) -> int:
    return len(group[0].call.prefix_ids) + sum(map(_Row.own_tokens, group))


def _micro_loss(
    network: Network, batch: list[list[_Row]], config: TrainConfig, rollouts: int
) -> tuple[Tensor, Measured]:
    """The loss of one micro-batch, scaled so that micro-batches add up to the mean over `rollouts` rollouts."""
    index = network.adapters.index
    batch = sorted(batch, key=lambda group: index[group[0].call.node])
    groups = [(index[group[0].call.node], [row.call for row in group]) for group in batch]
    rows = [row for group in batch for row in group]
    calls = [row.call for row in rows]
    backbone, bank, temperature = network.backbone, network.adapters, network.decoding.temperature
    logprobs_L, entropies_L = replay_calls(backbone, bank, groups, temperature, config.entropy != 0)
    lengths = torch.tensor([call.generated_tokens for call in calls])
    spread = lambda values: torch.tensor(values, dtype=torch.float32).repeat_interleave(lengths).to(logprobs_L.device)
    measured = Measured(Mismatch(_ratio_cap(network, config)))
    weights_L = measured.mismatch.weights(logprobs_L.detach(), _sampled(calls, logprobs_L.device))
    advantages_L = spread([row.advantage for row in rows])
    loss = policy_gradient_loss(logprobs_L, weights_L * advantages_L, rollouts)
    own_L = spread([not row.extra for row in rows])

    if config.kl:
        with torch.no_grad():  # adapters off: the reference costs no second model
            base_L, _ = replay_calls(backbone, None, groups, temperature)
        loss = loss + config.kl * (own_L * kl_penalty(logprobs_L, base_L)).sum() / rollouts
        measured.kl = _kl_of(calls, kl_to_base(logprobs_L.detach(), base_L))
    if config.entropy:
        loss = loss - config.entropy * (own_L * entropies_L).sum() / rollouts
    return loss, measured


def _question_of(rollouts: Sequence[Rollout], step: int, P: int, G: int, workers: Workers) -> Sequence[Rollout]:
    """The rollouts of the question whose turn it is in this step; none where another worker has them."""
    mine, p = workers.share(range(P)), step % P
    return rollouts[mine.index(p) * G : (mine.index(p) + 1) * G] if p in mine else []


@torch.no_grad()
def _measure_drift(network: Network, rollouts: Sequence[Rollout], config: TrainConfig, again: bool) -> Measured:
    """KL of the rollouts of one question to the bare backbone: one pass with the adapters off.

    again: where another engine sampled and nothing had to be replayed in this step, one pass with them on too, for the
    engine's mismatch.
    """
    index, temperature = network.adapters.index, network.decoding.temperature
    spoken = [r.calls[node] for node in network.topology.nodes for r in rollouts if node in r.calls]
    groups = by_prefix(spoken, lambda call: index[call.node], lambda call: call.prefix_ids)
    calls = [call for _, members in groups for call in members]
    base_L, _ = replay_calls(network.backbone, None, groups, temperature)
    sampled_L = _sampled(calls, base_L.device)
    measured = Measured(Mismatch(_ratio_cap(network, config)), _kl_of(calls, kl_to_base(sampled_L, base_L)))
    if network.engine is not None and again:
        own_L, _ = replay_calls(network.backbone, network.adapters, groups, temperature)
        measured.mismatch.weights(own_L, sampled_L)
    return measured


def _ratio_cap(network: Network, config: TrainConfig) -> float | None:
    """Bound of the importance ratios where another engine samples; None where the library itself does."""
    return None if network.engine is None else config.ratio_cap


def _sampled(calls: Sequence[NodeCall], device: torch.device) -> Tensor:
    """Log-probabilities [L] under which the calls were sampled."""
    return torch.tensor([x for call in calls for x in call.logprobs], device=device)


def _kl_of(calls: Sequence[NodeCall], kl_L: Tensor) -> list[tuple[str, int, float]]:
    parts = kl_L.split([call.generated_tokens for call in calls])
    return [(call.node, len(part), part.sum().item()) for call, part in zip(calls, parts, strict=True)]
