"""How fast this machine is at a recipe, and how long its messages are: a few small steps that change nothing."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from neuromas.config import RunConfig
from neuromas.network.forward import Network
from neuromas.plan.model import Model
from neuromas.plan.seconds import Rates, sample_flops, sample_passes, update_flops
from neuromas.plan.work import Turn, Work, work_of
from neuromas.run.build import optimizer_of
from neuromas.tasks.base import Task
from neuromas.train.schedule import Schedule
from neuromas.train.step import train_step
from neuromas.types import Question, Trace

WARM = 40_000_000  # bytes that libraries take when they are first used, measured here
_ENOUGH = 3.0  # seconds of a measurement after which no larger one follows
_WHOLE = 4  # whole steps at most
_BUSY = 0.8  # of a core: below, other work had the processor


@dataclass(frozen=True)
class Calibration:
    rates: Rates
    writes: dict[str, float]  # mean tokens that each node wrote
    base: int  # bytes of this process beside the weights
    share: float  # of a core or more: processor seconds for each second of the last measurement

    @property
    def disturbed(self) -> bool:
        return self.share < _BUSY


@dataclass(frozen=True)
class _Lap:
    """One small step."""

    work: Work
    sample: float  # seconds
    update: float
    total: float
    share: float


def calibrate(
    config: RunConfig, network: Network, task: Task, model: Model, clock: Callable[[], float] = time.perf_counter
) -> Calibration:
    """Do larger and larger parts of a step until one takes long enough; `fit` their times.

    clock: of the measurement; `time.process_time` where other work disturbs. The network's adapters stay as they are.
    """
    base = base_bytes(network, model)
    network.backbone.checkpoint_gradients(config.train.gradient_checkpointing)
    questions = Schedule(task.questions("train"), config).questions(1)
    network.answer(questions[:1], greedy=False)  # the first pass of a process costs more
    optimizer = optimizer_of(config, network)  # one for all laps, since its first step costs more
    optimizer.set_rates(0.0, {})
    laps: list[_Lap] = []
    for P, G in _parts(config):
        laps.append(_lap(config, network, optimizer, task, questions[:P], G, clock))
        if len(laps) > 1 and laps[-1].total > _ENOUGH:
            break
    sample = fit([(sample_passes(lap.work), sample_flops(model, lap.work), lap.sample) for lap in laps])
    update = fit([(len(list(lap.work.replays())), update_flops(model, lap.work), lap.update) for lap in laps])
    writes = {turn.node: float(turn.writes) for turn in laps[-1].work.turns}
    return Calibration(Rates(*sample, *update), writes, base, laps[-1].share)


def base_bytes(network: Network, model: Model) -> int:
    """What this process holds beside the backbone's weights, once it has built a network and not yet used it."""
    return max(0, resident_bytes() - model.parameters * network.backbone.dtype.itemsize) + WARM


def _parts(config: RunConfig) -> Iterator[tuple[int, int]]:
    """(questions, rollouts) of parts of a step, up to the whole. That some times, for a median."""
    P, G = 1, config.train.rollouts
    yield 1, max(1, G // 4)
    while config.train.questions > P:
        yield P, G
        P = min(2 * P, config.train.questions)
    yield from [(P, G)] * _WHOLE


def _lap(
    config: RunConfig,
    network: Network,
    optimizer: torch.optim.Optimizer,
    task: Task,
    questions: Sequence[Question],
    G: int,
    clock: Callable[[], float],
) -> _Lap:
    """A step at rate 0 in which every row has an advantage, so that nothing is left out of the update."""
    settings = config.train.model_copy(update={"estimator": "running_mean", "rollouts": G, "warm_start": 0})
    start, cpu, wall = clock(), time.process_time(), time.perf_counter()
    # Step 1: what is at or before `warm_start` is no policy gradient.
    result = train_step(network, optimizer, task, questions, settings, step=1, seed=config.seed, baseline=0.5)
    total = clock() - start
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    optimizer.zero_grad()
    phases = result.metrics.seconds
    part = total / max(1e-9, sum(phases.values()))  # phases are wall time: each has its share of the clock's
    dtype = str(network.backbone.dtype).removeprefix("torch.")
    work = work_of(config, network.topology, turns_of(network, result.traces), dtype)
    work = replace(work, questions=len(questions), rollouts=G)
    update = phases["backward"] + phases["update"]
    return _Lap(work, phases["sample"] * part, update * part, total, share)


def turns_of(network: Network, traces: Sequence[Trace]) -> list[Turn]:
    """Mean lengths of what was read and written."""
    turns: list[Turn] = []
    for node in network.topology.nodes:
        calls = [call for trace in traces for call in trace.calls if call.node == node]
        mean = lambda lengths: round(sum(lengths) / len(lengths))
        read, own = mean([len(c.prefix_ids) for c in calls]), mean([len(c.own_ids) for c in calls])
        layer = network.topology.position(node).layer - 1
        turns.append(Turn(node, layer, read, own, max(1, mean([len(c.completion_ids) for c in calls]))))
    return turns


def fit(laps: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Seconds a pass and FLOP/s from (passes, FLOPs, seconds) of some laps.

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
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024
