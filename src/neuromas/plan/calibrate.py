"""Measures a recipe's speed on this machine, and the length of its messages, by a few steps that change nothing."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from neuromas.config import RunConfig
from neuromas.network.forward import Network
from neuromas.plan.model import ModelSizes
from neuromas.plan.seconds import Rates, sample_flops, sample_passes, update_flops, update_passes
from neuromas.plan.work import Work, prompt_lengths, work_of
from neuromas.run.build import optimizer_of
from neuromas.tasks.base import Task
from neuromas.train.schedule import Schedule
from neuromas.train.step import train_step
from neuromas.types import Trace

WARM = 40_000_000  # Bytes that libraries take when they are first used, measured here.
_ENOUGH = 3.0  # Seconds of a measurement after which no larger one follows.
_WHOLE = 4  # Whole steps at most.
_BUSY = 0.8  # With less of a core than this, other work had the processor.
Timing = tuple[float, float, float]  # passes, FLOPs, seconds


@dataclass(frozen=True)
class Calibration:
    """The measurements of this machine."""

    rates: Rates
    work: Work  # The recipe's step, in which each node writes as many tokens as it did here.
    base: int  # Bytes of this process beside the weights.
    share: float  # Processor seconds for each second of the last measurement: of a core, or more.

    @property
    def disturbed(self) -> bool:
        return self.share < _BUSY


@dataclass(frozen=True)
class _Lap:
    """One small step."""

    work: Work  # The whole step, with messages as long as in this one.
    sample: Timing
    update: Timing
    share: float


def calibrate(
    config: RunConfig, network: Network, task: Task, model: ModelSizes, clock: Callable[[], float] = time.perf_counter
) -> Calibration:
    """Do larger and larger parts of a step until one takes long enough; `fit` their times.

    Every step has rate 0, so the network stays as it is, and an estimator by which every row has an advantage, so that
    nothing is left out of the update. clock: `time.process_time` where other work disturbs.
    """
    base = base_bytes(network, model)
    network.backbone.checkpoint_gradients(config.train.gradient_checkpointing)
    questions = Schedule(task.questions("train"), config).questions(1)
    network.answer(questions[:1], greedy=False)  # the first pass of a process costs more
    optimizer = optimizer_of(config, network)  # one for all laps, since its first step costs more
    optimizer.set_rates(0.0, {})
    settings = {"estimator": "running_mean", "warm_start": 0}  # a warm start's step is no policy gradient
    lengths = prompt_lengths(network.topology, network.backbone.template, network.words, questions)
    laps: list[_Lap] = []
    for P, G in _parts(config):
        part = config.train.model_copy(update=settings | {"rollouts": G})
        start, cpu, wall = clock(), time.process_time(), time.perf_counter()
        result = train_step(network, optimizer, task, questions[:P], part, step=1, seed=config.seed, baseline=0.5)
        total, share = clock() - start, (time.process_time() - cpu) / (time.perf_counter() - wall)
        optimizer.zero_grad()
        work = work_of(config, network.topology, lengths, _written(result.traces), "cpu", model.targets)
        done, phases = replace(work, questions=P, rollouts=G), result.metrics.seconds
        unit = total / max(1e-9, sum(phases.values()))  # phases are wall time: each has its share of the clock's
        sample = sample_passes(done), sample_flops(model, done), phases["sample"] * unit
        update = update_passes(done), update_flops(model, done), (phases["backward"] + phases["update"]) * unit
        laps.append(_Lap(work, sample, update, share))
        if len(laps) > 1 and total > _ENOUGH:
            break
    rates = Rates(*fit([lap.sample for lap in laps]), *fit([lap.update for lap in laps]))
    return Calibration(rates, laps[-1].work, base, laps[-1].share)


def _written(traces: Sequence[Trace]) -> dict[str, float]:
    """The mean number of tokens that each node wrote."""
    tokens: dict[str, list[int]] = {}
    for call in [call for trace in traces for call in trace.calls]:
        tokens.setdefault(call.node, []).append(len(call.completion_ids))
    return {node: statistics.mean(counts) for node, counts in tokens.items()}


def base_bytes(network: Network, model: ModelSizes) -> int:
    """The bytes of this process beside the backbone's weights, once it has built a network and not yet used it."""
    return max(0, resident_bytes() - model.parameters * network.backbone.dtype.itemsize) + WARM


def _parts(config: RunConfig) -> Iterator[tuple[int, int]]:
    """(questions, rollouts) of parts of a step, up to the whole, which comes several times, for a median."""
    P, G = 1, config.train.rollouts
    yield 1, max(1, G // 4)
    while config.train.questions > P:
        yield P, G
        P = min(2 * P, config.train.questions)
    yield from [(P, G)] * _WHOLE


def fit(laps: Sequence[Timing]) -> tuple[float, float]:
    """Seconds a pass and FLOP/s from some laps.

    Least squares of the relative errors, neither below 0, say what a pass costs: nine tenths of a lap at most, so that
    there is a rate. The rate is what then meets the largest, or the median of those that are about as large.
    Two laps alone would settle both, but where passes grow with FLOPs a little noise would divide them anyhow.
    """
    rows = np.array(laps)
    unit = rows[:, 1].max()  # so that both columns have about the same size
    (a, _), _ = nnls(rows[:, :2] / [1, unit] / rows[:, 2:], np.ones(len(rows)))
    passes, flops, seconds = np.median(rows[rows[:, 1] > 0.9 * unit], 0)
    a = min(a, 0.9 * seconds / passes)
    return float(a), float(flops / (seconds - a * passes))


def resident_bytes() -> int:
    """Memory of this process now; its highest where the platform tells no more."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
