"""The metrics and the clock of a step. Each worker counts over its questions; the counts are joined, then divided.

Legend: P question, G rollout, N node.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from neuromas.results import NodeMetrics, StepMetrics
from neuromas.train.mismatch import Mismatch
from neuromas.train.objectives import equal_reward_groups
from neuromas.types import Grade, NodeCall, Trace

Counts = dict[str, float]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase] = round(self.laps.get(phase, 0.0) + now - self._last, 4)
        self._last = now


@dataclass
class Measured:
    """The record of calls that were replayed."""

    mismatch: Mismatch  # of sampled with replayed log-probabilities
    kl: list[tuple[str, int, float]] = field(default_factory=list[tuple[str, int, float]])
    """(node, tokens, KL to the backbone summed over them in nats) of each call; empty where it was not computed."""


@dataclass
class Tally:
    """Sums over the rollouts of one worker's questions."""

    rewards_PG: Tensor
    answers: Counter[str | None] = field(default_factory=Counter[str | None])  # None: unreadable
    right: int = 0
    costs: Counter[str] = field(default_factory=Counter[str])  # of calls and tokens
    messages: Counter[bool] = field(default_factory=Counter[bool])  # whether the token limit ended them
    nodes: dict[str, Counts] = field(default_factory=dict[str, Counts])
    mismatch: Mismatch = field(default_factory=Mismatch)  # of sampled with replayed log-probabilities
    learned: bool = False  # whether there is a gradient
    means: Counts = field(default_factory=Counts)  # metrics that are means over the questions
    node_means: dict[str, Counts] = field(default_factory=dict[str, Counts])
    features_PF: Tensor | None = None  # what the critic learns from
    abstained: int = 0  # rollouts without a verdict
    parts: Counts = field(default_factory=Counts)  # named rewards, summed over the rollouts

    @classmethod
    def of(
        cls, traces: Sequence[Trace], grades: Sequence[Grade], rewards_PG: Tensor, ratio_cap: float | None = None
    ) -> "Tally":
        """Answers, costs and messages. ratio_cap: bound of the importance ratios where another engine sampled."""
        calls = [call for trace in traces for call in trace.calls]
        right = sum(grade.reward == 1 and not grade.abstained for grade in grades)
        own = cls(rewards_PG, Counter(g.parsed for g in grades), right, _cost(calls))
        own.abstained = sum(grade.abstained for grade in grades)
        for grade in grades:
            _add(own.parts, grade.parts)
        own.messages.update(call.truncated for trace in traces for call in trace.messages)
        own.mismatch.cap = ratio_cap
        for call in calls:
            _add(own.nodes.setdefault(call.node, {}), _said(call))
        return own

    def branches(self, calls: Sequence[NodeCall]) -> None:
        """Count calls made beside the rollouts'."""
        if calls:
            cost = _cost(calls)
            self.costs.update(cost)
            self.costs.update(branch_calls=cost["calls"], branch_tokens=cost["generated_tokens"])

    def replayed(self, measured: "Measured", *, learned: bool = True) -> None:
        """Count calls that were replayed, for their gradient (`learned`) or only to be measured."""
        self.learned = self.learned or learned
        self.mismatch.add(measured.mismatch)
        for node, tokens, total in measured.kl:
            _add(self.nodes.setdefault(node, {}), {"kl": total, "kl_tokens": tokens})


def join(tallies: Sequence[Tally]) -> Tally:
    """The tally of all workers' questions."""
    whole = Tally(torch.cat([t.rewards_PG for t in tallies]))
    for tally in tallies:
        whole.answers.update(tally.answers)
        whole.right += tally.right
        whole.abstained += tally.abstained
        _add(whole.parts, tally.parts)
        whole.learned = whole.learned or tally.learned
        whole.mismatch.add(tally.mismatch)
        whole.costs.update(tally.costs)
        whole.messages.update(tally.messages)
        share = len(tally.rewards_PG) / len(whole.rewards_PG)
        _add(whole.means, tally.means, share)
        for node, counts in tally.nodes.items():
            _add(whole.nodes.setdefault(node, {}), counts)
        for node, means in tally.node_means.items():
            _add(whole.node_means.setdefault(node, {}), means, share)
    features = [t.features_PF for t in tallies if t.features_PF is not None]
    whole.features_PF = torch.cat(features) if features else None
    return whole


def step_metrics(
    tally: Tally,
    step: int,
    nodes: Iterable[str],
    gradient_norms: Mapping[str, float],
    estimator: str,
    seconds: dict[str, float],
) -> StepMetrics:
    """The metrics of a step of joint training, and of each of `nodes` that spoke.

    gradient_norms: of each node's adapter, before clipping.
    """
    return replace(
        sampling_metrics(tally, step),
        value=tally.means.get("value"),
        value_loss=tally.means.get("value_loss"),
        logprob_gap=tally.mismatch.gap,
        engine=tally.mismatch.metrics(),
        nodes={
            node: _node_metrics(tally.nodes[node], gradient_norms[node], tally.node_means.get(node, {}))
            for node in nodes
            if node in tally.nodes  # A node that was absent from every rollout has no metrics.
        },
        estimator=estimator,
        seconds=seconds,
    )


def sampling_metrics(tally: Tally, step: int) -> StepMetrics:
    """The metrics of a step's rollouts alone, which every way of training reports."""
    n, costs = tally.rewards_PG.numel(), tally.costs
    judged = max(1, n - tally.abstained)
    top, count = tally.answers.most_common(1)[0]
    return StepMetrics(
        step=step,
        reward=tally.rewards_PG.mean().item(),
        accuracy=tally.right / judged,
        parse_rate=(n - tally.answers[None]) / n,
        equal_reward_groups=equal_reward_groups(tally.rewards_PG).double().mean().item(),
        wrong_groups=(tally.rewards_PG == 0).all(1).double().mean().item(),
        right_groups=(tally.rewards_PG == 1).all(1).double().mean().item(),
        top_answer=top,
        top_answer_share=count / n,
        distinct_answers=len(tally.answers),
        messages_cut=tally.messages[True] / tally.messages.total() if tally.messages else None,
        rollouts=n,
        abstained=tally.abstained or None,
        reward_parts={name: total / judged for name, total in tally.parts.items()} or None,
        calls=costs["calls"],
        prompt_tokens=costs["prompt_tokens"],
        generated_tokens=costs["generated_tokens"],
        branch_calls=costs["branch_calls"] or None,
        branch_tokens=costs["branch_tokens"] or None,
    )


def _cost(calls: Sequence[NodeCall]) -> Counter[str]:
    return Counter(
        calls=len(calls),
        prompt_tokens=sum(c.prompt_tokens for c in calls),
        generated_tokens=sum(c.generated_tokens for c in calls),
    )


def _said(call: NodeCall) -> Counts:
    return {
        "calls": 1,
        "tokens": call.generated_tokens,
        "entropy": call.entropy,
        "truncated": call.truncated,
        "dropped": call.dropped_tokens,
    }


def _node_metrics(counts: Counts, gradient_norm: float, means: Counts) -> NodeMetrics:
    calls = counts["calls"]
    return NodeMetrics(
        entropy=counts["entropy"] / counts["tokens"],
        length=counts["tokens"] / calls,
        truncated=counts["truncated"] / calls,
        dropped=counts["dropped"] / calls,
        kl=counts.get("kl", 0.0) / max(1, counts.get("kl_tokens", 0)),
        gradient_norm=gradient_norm,
        decisive=means.get("decisive"),
        value=means.get("value"),
    )


def _add(to: Counts, what: Mapping[str, float], weight: float = 1) -> None:
    for key, value in what.items():
        to[key] = to.get(key, 0) + weight * value
