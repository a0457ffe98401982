"""Seconds of a step, by arithmetic: FLOPs over a rate, and a fixed cost for every pass of the backbone. Pure functions.

FLOPs are those of benchmarks/floor.py, and attention's: 2 for each weight and token, 4 for each score and value of a
head. Frozen weights need no gradient of their own, so an update is two forward passes' worth, three with checkpointing.
A step also measures KL once, a forward pass over the rollouts of one question. Validation and checkpoints are not
counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from neuromas.plan.model import Model
from neuromas.plan.work import Pass, Work


@dataclass(frozen=True)
class Rates:
    """How fast a machine is at one model."""

    sample_pass: float  # seconds of a pass that do not grow with its rows: reading weights, Python
    sample_flops: float  # FLOP/s
    update_pass: float  # seconds of a forward and backward pass likewise
    update_flops: float

    def to_dict(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass(frozen=True)
class Seconds:
    sample: float
    update: float  # every group replayed; groups of equal reward are left out, so this is the most
    measure: float

    @property
    def step(self) -> float:
        return self.sample + self.update + self.measure

    def to_dict(self) -> dict[str, float]:
        return {**vars(self), "step": self.step}


def seconds(model: Model, work: Work, rates: Rates) -> Seconds:
    """What one step takes."""
    replays = list(work.replays())
    measure = 0.0 if work.kl else rates.update_pass / 2 + forward_flops(model, [work.measured()]) / rates.update_flops
    return Seconds(
        sample=sample_passes(work) * rates.sample_pass + sample_flops(model, work) / rates.sample_flops,
        update=len(replays) * rates.update_pass + update_flops(model, work) / rates.update_flops,
        measure=measure,
    )


def sample_passes(work: Work) -> int:
    """Passes one after the other: of each layer as many as its longest turn writes tokens."""
    return sum(max(turn.writes for turn in turns) for turns in work.layers())


def sample_flops(model: Model, work: Work) -> float:
    """Prompts once for all rollouts that share them, then one token a row and pass."""
    total = forward_flops(model, work.prefills())
    for turn in work.turns:
        later = turn.writes - 1
        context = turn.prefix + turn.own + turn.writes / 2
        total += work.rows * later * (_token_flops(model) + 2 * model.head_weights + _score_flops(model) * context)
    return total


def update_flops(model: Model, work: Work) -> float:
    forward = forward_flops(model, work.replays())
    return forward * ((3 if work.checkpointing else 2) + work.kl)


def forward_flops(model: Model, passes: Iterable[Pass]) -> float:
    return sum(
        p.tokens * _token_flops(model) + p.scored * 2 * model.head_weights + p.scores * _score_flops(model)
        for p in passes
    )


def _token_flops(model: Model) -> float:
    return 2.0 * model.layers * model.layer_weights


def _score_flops(model: Model) -> float:
    """Of one query and key: the score and its share of the values, in every head and layer."""
    return 4.0 * model.layers * model.heads * model.head_size
