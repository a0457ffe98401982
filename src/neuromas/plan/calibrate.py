"""Measuring how fast this machine is at a recipe, and how long its messages are: a few rollouts, twice."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuromas.config import RunConfig
from neuromas.network.adapters import AdapterBank
from neuromas.network.forward import Network
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.plan import seconds as arithmetic
from neuromas.plan.model import Model
from neuromas.plan.seconds import Rates
from neuromas.plan.work import Turn, Work, work_of
from neuromas.types import NodeCall, Question, Trace

Clock = Callable[[], float]
WARM = 40_000_000  # bytes that libraries take when they are first used, measured here
_SLOW = 2.0  # seconds of the small measurement beyond which the larger one asks one question only
_LARGE = 2048  # tokens replayed at most in the larger of two measurements


@dataclass(frozen=True)
class Calibration:
    rates: Rates
    writes: dict[str, float]  # mean tokens that each node wrote
    base: int  # bytes of this process beside the weights


def calibrate(
    config: RunConfig, network: Network, model: Model, questions: Sequence[Question], clock: Clock = time.perf_counter
) -> Calibration:
    """Sample and replay a small and a larger share of a step, and lay a line through their times.

    clock: of the measurement; `time.process_time` where other work disturbs.
    """
    base = base_bytes(network, model)
    network.backbone.checkpoint_gradients(config.train.gradient_checkpointing)
    G = config.train.rollouts
    network.forward(questions[:1], rollouts=1, seed=0)  # the first pass of a process costs more
    small = _measured(config, network, questions[:1], max(1, G // 4), clock)
    more = questions[:2] if small.sample + small.update < _SLOW else questions[:1]
    large = _measured(config, network, more, G, clock)
    sample = _line(
        (arithmetic.sample_passes(small.work), arithmetic.sample_flops(model, small.work), small.sample),
        (arithmetic.sample_passes(large.work), arithmetic.sample_flops(model, large.work), large.sample),
    )
    update = _line(
        (1, arithmetic.update_flops(model, small.replayed), small.update),
        (1, arithmetic.update_flops(model, large.replayed), large.update),
    )
    return Calibration(Rates(*sample, *update), large.writes, base)


def base_bytes(network: Network, model: Model) -> int:
    """What this process holds beside the backbone's weights, once it has built a network and not yet used it."""
    return max(0, resident_bytes() - model.parameters * network.backbone.dtype.itemsize) + WARM


@dataclass(frozen=True)
class _Measured:
    work: Work
    replayed: Work  # the same in one micro-batch
    sample: float
    update: float
    writes: dict[str, float]


def _measured(config: RunConfig, network: Network, questions: Sequence[Question], G: int, clock: Clock) -> _Measured:
    start = clock()
    traces = network.forward(questions, rollouts=G, seed=0)
    sampled = clock()
    turns = turns_of(network, traces)
    part = turns
    while len(part) > 1 and len(questions) * sum(t.prefix + G * t.replayed for t in part) > _LARGE:
        part = part[:-1]
    start_update = clock()
    _replay(network, traces, [t.node for t in part], G)
    done = clock()
    name = str(network.backbone.dtype).removeprefix("torch.")
    work = replace(work_of(config, network.topology, turns, name), questions=len(questions), rollouts=G, kl=False)
    replayed = replace(work, turns=tuple(part), micro_tokens=10**9)
    return _Measured(work, replayed, sampled - start, done - start_update, {t.node: t.writes for t in turns})


def turns_of(network: Network, traces: Sequence[Trace]) -> list[Turn]:
    """Mean lengths of what was read and written."""
    turns: list[Turn] = []
    for node in network.topology.nodes:
        calls = [call for trace in traces for call in trace.calls if call.node == node]
        mean = lambda lengths: max(1, round(sum(lengths) / len(lengths)))
        turns.append(
            Turn(
                node,
                network.topology.position(node).layer - 1,
                mean([len(c.prefix_ids) for c in calls]),
                round(sum(len(c.own_ids) for c in calls) / len(calls)),
                mean([len(c.completion_ids) for c in calls]),
            )
        )
    return turns


def _replay(network: Network, traces: Sequence[Trace], nodes: Sequence[str], G: int) -> None:
    """Forward and backward of some nodes' turns in one pass; the gradients are thrown away."""
    groups: list[list[NodeCall]] = []
    for node in sorted(nodes, key=network.adapters.index.__getitem__):
        calls = [call for trace in traces for call in trace.calls if call.node == node]
        groups += [calls[start : start + G] for start in range(0, len(calls), G)]
    index, bank = network.adapters.index, network.adapters
    packed = [Group(index[calls[0].node], calls[0].prefix_ids, [c.own_ids for c in calls]) for calls in groups]
    ids = [call.completion_ids for calls in groups for call in calls]
    logprobs_L, _ = replay(network.backbone, bank, packed, ids, network.decoding.temperature)
    logprobs_L.sum().backward()
    _forget(bank)


def _forget(bank: AdapterBank) -> None:
    for stack in bank.stacks():
        stack.grad = None


def _line(small: tuple[float, float, float], large: tuple[float, float, float]) -> tuple[float, float]:
    """Seconds a pass and FLOP/s from two (passes, FLOPs, seconds): both at least 0, the larger measurement met exactly."""
    (n, f, s), (N, F, S) = small, large
    denominator = n * F - N * f
    a = (s * F - S * f) / denominator if denominator > 0 else 0.0
    a = min(max(a, 0.0), 0.9 * S / N)
    return a, F / (S - N * a)


def resident_bytes() -> int:
    """Memory of this process now; its highest where the platform tells no more."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory this process ever held."""
    import sys

    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024
