"""The stages of a run that grows: what each trains, what is absent from a rollout, and when it ends. Pure functions."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from neuromas.baselines.trained.team import TeamRunConfig
from neuromas.config import RunConfig, StageConfig
from neuromas.errors import ConfigError, TopologyError
from neuromas.network.forward import Absent
from neuromas.network.growth import Growth, between
from neuromas.network.sampling import stream_key, uniforms
from neuromas.network.topology import Topology, Unit
from neuromas.results import GrowthRecord
from neuromas.train.transplant import sibling


@dataclass(frozen=True)
class Stage:
    """One part of a run. Steps of a stage are counted from 1."""

    number: int  # from 0
    settings: StageConfig
    topology: Topology
    growth: Growth | None = None  # from the stage before; None in the first stage and where nothing grows

    def alpha(self, k: int) -> float:
        """The share of rollouts in which what grew is present, at the stage's k-th step."""
        fading = self.growth is not None and self.settings.init == "fade" and self.settings.anneal > 0
        return min(1.0, k / self.settings.anneal) if fading else 1.0

    def scales(self, k: int) -> dict[str, float]:
        """The factors of old nodes' learning rates, by node, at the stage's k-th step."""
        if self.growth is None:
            return {}
        old = [n for n in self.topology.nodes if n not in self.growth.units]
        message = 0.0 if k <= self.settings.freeze else self.settings.old_scale
        return dict.fromkeys(old, message) | {self.topology.output: float(k > self.settings.freeze)}

    def over(self, rewards: list[float], k: int) -> bool:
        """True if the stage ends after its k-th step; rewards: the mean of each step, the last `window` at least.

        Only steps in which everything was present count for a promotion.
        """
        s = self.settings
        whole = rewards[-s.window :] if self.alpha(max(1, k - s.window + 1)) == 1 else []
        promoted = s.promote is not None and len(whole) == s.window and sum(whole) / s.window >= s.promote
        return promoted or (s.steps is not None and k >= s.steps)


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages of a run, each grown out of the one before; one where the recipe has none.

    Raises `TopologyError` where a topology does not contain the one before.
    """
    out: list[Stage] = []
    for number, settings in enumerate(config.stages or (StageConfig(),)):
        spec: Any = settings.topology if settings.topology is not None else None if out else config.topology
        asked = out[-1].topology if spec is None else Topology.parse(spec)
        growth = between(out[-1].topology, asked) if out else None
        out.append(
            Stage(number, settings, growth.topology if growth else asked, growth if growth and growth.units else None)
        )
    return out


def calls_of(config: RunConfig) -> int:
    """LLM calls of one answer of what the run trains, as it is after the last stage."""
    return config.calls if isinstance(config, TeamRunConfig) else len(stages_of(config)[-1].topology.nodes)


def check_growth(stages: list[Stage]) -> None:
    """Raises `ConfigError` where a stage sets what has no effect on it, as a way to begin where no node is new."""
    plain = StageConfig()
    for stage in stages:
        mine = stage.settings
        if stage.growth is None:
            unused, why = ("init", "anneal", "freeze", "old_scale"), "in this stage nothing grows"
        else:
            unused, why = () if mine.init == "fade" else ("anneal",), f"init is {mine.init!r}, which opens at once"
        for name in unused:
            if (value := getattr(mine, name)) != getattr(plain, name):
                raise ConfigError(f"stages[{stage.number}].{name} is {value!r}, but {why}; leave it out")


def growth_remarks(config: RunConfig) -> list[str]:
    """Remarks on stages that end about when their new nodes have opened, so that those are hardly trained together."""
    stages, remarks = stages_of(config), list[str]()
    before = [stage.settings.steps for stage in stages[:-1]]
    known = [steps for steps in before if steps is not None]
    rest = config.train.steps - sum(known) if len(known) == len(before) else None  # None: nobody knows
    for stage in stages:
        steps = stage.settings.steps or (rest if stage is stages[-1] else None)
        if steps is not None and steps > 0 and stage.alpha(steps - steps // 4) < 1:
            remarks.append(
                f"stages[{stage.number}].anneal is {stage.settings.anneal} and the stage lasts {steps} steps, so its "
                "new nodes are present in every rollout for less than a quarter of it; lower anneal, or give the stage "
                "more steps"
            )
    return remarks


def growth_record(stage: Stage, step: int) -> GrowthRecord:
    """The record of the growth with which a stage began after `step`."""
    growth, init = stage.growth, stage.settings.init
    assert growth is not None
    return GrowthRecord(
        step=step,
        operators=list(growth.operators),
        mapping=dict(growth.mapping),
        new=list(growth.nodes),
        init=init,
        copied={node: sibling(growth, node) for node in growth.nodes} if init == "copy" else None,
    )


def without_files(config: RunConfig) -> RunConfig:
    """The same run with topologies that are given as files written out, so that it does not depend on those."""
    whole = lambda spec: Topology.parse(spec).to_dict() if isinstance(spec, str) and Path(spec).is_file() else spec
    stages = tuple(s.model_copy(update={"topology": whole(s.topology)}) for s in config.stages)
    return config.model_copy(update={"topology": whole(config.topology), "stages": stages})


def absent(stage: Stage, k: int, dropout: float, *, seed: int, step: int) -> Absent:
    """The units absent from each rollout of a step, the stage's k-th: a function of (seed, step, question, rollout).

    What grew is there with probability alpha, all of it or nothing. Each hidden node is missing with probability
    `dropout` besides; all stay where what would remain is no network.
    """
    alpha, topology = stage.alpha(k), stage.topology
    hidden = [n for n in topology.nodes if n != topology.output]
    if alpha == 1 and not (dropout and hidden):
        return ()

    def missing(question: str, rollout: int) -> Collection[Unit]:
        keys = [stream_key(seed, step, question, rollout, what) for what in ("fade", *map("drop {}".format, hidden))]
        fade, *drop = uniforms(keys, 1)[:, 0]  # numbers in [0, 1)
        closed = stage.growth.units if stage.growth and fade >= alpha else frozenset[Unit]()
        dropped = {n for n, chance in zip(hidden, drop, strict=True) if chance < dropout}
        return closed | dropped if dropped and _possible(topology, closed | dropped) else closed

    return missing


@lru_cache(4096)
def _possible(topology: Topology, units: frozenset[Unit]) -> bool:
    try:
        topology.without(units)
    except TopologyError:
        return False
    return True
