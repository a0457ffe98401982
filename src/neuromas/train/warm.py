"""A warm start: the network imitates its own right rollouts, those of earlier steps too, before it is reinforced.

Rejection sampling: Dong et al. 2023, "RAFT", arXiv 2304.06767. It is for tasks on which right rollouts are rare, so
each is imitated again in the steps that follow. No gradient pushes anything away, and there is no KL or entropy term.

Legend: L token (all rows concatenated).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from neuromas.files import append_json_line, read_json_lines
from neuromas.network.forward import Network
from neuromas.network.turns import Rollout, by_prefix, replay_calls
from neuromas.train.batching import micro_batches, room_beside
from neuromas.train.update import backward
from neuromas.types import Trace, Utterance

IMITATION = "self_distillation"  # what the metrics call the estimator of such a step


@dataclass(frozen=True)
class RightRollout:
    """A rollout that earned something."""

    question: str  # its id
    reward: float
    said: list[Utterance]


def right_ones(rollouts: Sequence[Rollout], rewards: Sequence[float]) -> list[RightRollout]:
    """Those of some graded rollouts that earned something."""
    said = lambda rollout: [Utterance.of(call) for call in rollout.calls.values()]
    pairs = zip(rollouts, rewards, strict=True)
    return [RightRollout(r.ask.question.id, reward, said(r)) for r, reward in pairs if reward > 0]


def _kept(line: Any) -> tuple[list[RightRollout], float]:
    right = [RightRollout(r["question"], r["reward"], [Utterance(**u) for u in r["said"]]) for r in line["right"]]
    return right, float(line["reward"])


class Pool:
    """The right rollouts of a warm start, a line a step in a file of the run folder, for a run that is resumed."""

    def __init__(self, file: Path, *, write: bool = True) -> None:
        """write: False for workers but the first."""
        self._file = file if write else None
        self._rollouts: list[RightRollout] = []  # the newest last
        self.best = 0.0  # highest mean reward of a step
        for right, reward in read_json_lines(file, _kept):
            self._take(right, reward)

    def add(self, step: int, right: list[RightRollout], reward: float) -> None:
        """Keep the right rollouts of a step. reward: the mean over all of its rollouts."""
        self._take(right, reward)
        if self._file is not None:
            append_json_line(self._file, {"step": step, "reward": reward, "right": [asdict(r) for r in right]})

    def _take(self, right: list[RightRollout], reward: float) -> None:
        self._rollouts += right
        self.best = max(self.best, reward)

    def batch(self, limit: int) -> list[tuple[Utterance, float]]:
        """The utterances of the newest `limit` rollouts, with weights: questions weigh alike, altogether 1."""
        chosen = self._rollouts[-limit:]
        earned: dict[str, float] = {}
        for one in chosen:
            earned[one.question] = earned.get(one.question, 0.0) + one.reward
        return [(u, one.reward / earned[one.question] / len(earned)) for one in chosen for u in one.said]


def imitate(
    network: Network, rows: Sequence[tuple[Utterance, float]], budget: int, step: int, traces: Sequence[Trace]
) -> None:
    """Add the gradient of the weighted cross-entropy of what was said, in passes of at most `budget` tokens.

    Raises `DivergenceError`, with `traces`, where the loss is not finite.
    """
    index = network.adapters.index
    alike = by_prefix(rows, lambda row: index[row[0].node], lambda row: row[0].prefix_ids)
    groups = [
        (adapter, part)
        for adapter, members in alike
        for part in micro_batches(
            members, lambda row: row[0].own_tokens, room_beside(len(members[0][0].prefix_ids), budget)
        )
    ]
    size = lambda group: len(group[1][0][0].prefix_ids) + sum(row[0].own_tokens for row in group[1])
    for batch in micro_batches(groups, size, budget):
        calls = [(adapter, [utterance for utterance, _ in members]) for adapter, members in batch]
        logprobs_L, _ = replay_calls(network.backbone, network.adapters, calls, network.decoding.temperature)
        weighted = [(w, len(said.completion_ids) - len(said.given)) for _, members in batch for said, w in members]
        weights_L = torch.tensor([weight for weight, length in weighted for _ in range(length)])
        backward(-(logprobs_L * weights_L.to(logprobs_L.device)).sum(), step, traces)
