"""Seconds of a step, by arithmetic: FLOPs over a rate, and a fixed cost for every pass of the backbone. Pure functions.

FLOPs are those of benchmarks/floor.py, and attention's: 2 for each weight and token, 4 for each score and value of a
head. Frozen weights need no gradient of their own, so an update is two forward passes' worth, three with checkpointing.
A step also measures KL once, a forward pass over the rollouts of one question. Validation and checkpoints are not
counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from neuromas.plan.model import ModelSizes
from neuromas.plan.work import PassWork, Work
from neuromas.results.record import JsonRecord


@dataclass(frozen=True)
class Rates(JsonRecord):
    """A machine's speed at one model."""

    sample_pass: float  # Seconds of a pass that do not grow with its rows: reading weights, Python.
    sample_flops: float  # FLOP/s of sampling.
    update_pass: float  # Seconds of a forward and backward pass that do not grow with its tokens.
    update_flops: float  # FLOP/s of the update.


@dataclass(frozen=True)
class Seconds(JsonRecord):
    """The seconds of a step's parts."""

    sample: float
    update: float  # Every group is replayed; groups of equal reward are left out, so this is the most.
    measure: float

    @property
    def step(self) -> float:
        return self.sample + self.update + self.measure


def seconds(model: ModelSizes, work: Work, rates: Rates) -> Seconds:
    """The seconds that one step takes."""
    measure = 0.0 if work.kl else rates.update_pass / 2 + forward_flops(model, [work.measured()]) / rates.update_flops
    return Seconds(
        sample=sample_passes(work) * rates.sample_pass + sample_flops(model, work) / rates.sample_flops,
        update=update_passes(work) * rates.update_pass + update_flops(model, work) / rates.update_flops,
        measure=measure,
    )


def sample_passes(work: Work) -> int:
    """Passes one after the other: of each layer as many as its longest turn writes tokens."""
    return sum(max(turn.writes for turn in turns) for turns in work.layers())


def sample_flops(model: ModelSizes, work: Work) -> float:
    """Prompts once for all rollouts that share them, then one token a row and pass."""
    total = forward_flops(model, work.prefills())
    for turn in work.turns:
        context = turn.prefix + turn.own + turn.writes / 2
        token = _token_flops(model) + 2 * model.head_weights + _score_flops(model) * context
        total += work.rows * (turn.writes - 1) * token
    return total


def update_passes(work: Work) -> int:
    return sum(1 for _ in work.replays())


def update_flops(model: ModelSizes, work: Work) -> float:
    return forward_flops(model, work.replays()) * ((3 if work.checkpointing else 2) + work.kl)


def forward_flops(model: ModelSizes, passes: Iterable[PassWork]) -> float:
    return sum(
        p.tokens * _token_flops(model) + p.scored * 2 * model.head_weights + p.scores * _score_flops(model)
        for p in passes
    )


def _token_flops(model: ModelSizes) -> float:
    return 2.0 * model.layers * model.layer_weights


def _score_flops(model: ModelSizes) -> float:
    """The FLOPs of one query and key: the score and its share of the values, in every head and layer."""
    return 4.0 * model.layers * model.queries
