"""From a spec to the rows of its table: every system named, and the matched controls of each trained network.

A network of N nodes and rank r gets, unless switched off:
- `parameters`: one model of rank N·r, i.e. with as many trainable parameters, trained on as many samples;
- `vote`: the same model, the majority of N samples, i.e. with as many calls;
- `scratchpad`: one adapter of rank N·r that writes to itself N times, i.e. as many calls, tokens and parameters;
- `blanked`: the network itself with every message delivered empty.
Networks that would get the same control share it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from neuromas.baselines import BASELINES
from neuromas.baselines.load import options_of
from neuromas.compare.spec import BaselineEntry, Control, Spec, TaskEntry, TrainedEntry
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.run.stages import calls_of

_TOLERANCE = 0.02


@dataclass(frozen=True)
class Source:
    """What answers: a baseline, or something trained. All of its runs lie in folders of its name."""

    name: str
    kind: str  # "network", "baseline", or the name of a trained baseline
    baseline: str  # its name in BASELINES; empty for what is trained
    settings: dict[str, Any]  # a recipe without task, seed and learning rate
    options: dict[str, Any]  # of the baseline
    fit: dict[str, Any] = field(default_factory=dict[str, Any])  # of a baseline that learns before it answers

    @property
    def trained(self) -> bool:
        return not self.baseline

    @property
    def fitted(self) -> bool:
        return bool(self.baseline) and BASELINES[self.baseline].fitted

    @property
    def repeats(self) -> bool:
        """Whether every seed gives the same answers, so that one is enough."""
        return bool(self.baseline) and BASELINES[self.baseline].repeats

    @property
    def listed(self) -> bool:
        """Whether it can answer only where the possible answers can be listed."""
        return bool(self.baseline) and BASELINES[self.baseline].listed

    def config(self, task: TaskEntry, seed: int, rate: float | None = None) -> RunConfig:
        """The recipe of one of its runs; raises ConfigError for settings that do not exist."""
        settings: dict[str, Any] = {**self.settings, "seed": seed, "task": {"name": task.name, "options": task.options}}
        if rate is not None:
            settings["train"] = {**settings["train"], "learning_rate": rate}
        return RunConfig.make(settings)


@dataclass
class Row:
    """One line of the table."""

    name: str
    source: Source
    votes: int = 1  # the majority of so many samples
    blank: bool = False  # every message delivered empty
    control_for: list[str] = field(default_factory=list[str])  # "<control> of <system>"
    reference: bool = False


@dataclass(frozen=True)
class Plan:
    """What a comparison does."""

    spec: Spec
    rows: list[Row]
    samples: dict[str, int]  # source → rollouts a training draws

    @property
    def sources(self) -> list[Source]:
        return list({row.source.name: row.source for row in self.rows}.values())


def make_plan(spec: Spec) -> Plan:
    """The rows of a spec, in its order, each system's controls after it. Raises ConfigError where they cannot be."""
    rows: list[Row] = []
    for name, entry in spec.systems.items():
        source = _source(spec, name, entry)
        _add(rows, Row(name, source))
        for votes in entry.votes if isinstance(entry, TrainedEntry) else ():
            _add(rows, Row(f"{name}, vote of {votes}", source, votes=votes))
    for name, entry in spec.systems.items():
        if isinstance(entry, TrainedEntry) and entry.kind == "network":
            _add_controls(rows, spec, name, entry)
    _check_names(rows)
    for row in rows:
        row.source.config(spec.tasks[0], 0)  # names what is wrong in the shared tables
    trained = [row.source for row in rows if row.source.trained]
    samples = {s.name: s.config(spec.tasks[0], 0).samples for s in trained}
    if unequal(samples.values()) and not spec.unequal_samples:
        listed = ", ".join(f"{name}: {count:,}" for name, count in samples.items())
        raise ConfigError(
            f"the trained systems draw different numbers of samples (steps × questions × rollouts): {listed}; make "
            f"them equal to {_TOLERANCE:.0%}, or set unequal_samples = true and the report says so"
        )
    wanted = spec.reference or next((row.name for row in rows if row.source.trained), rows[0].name)
    reference = next((row for row in rows if row.name == wanted), None)
    if reference is None:
        raise ConfigError(f"reference is {wanted!r}, which is no row; the rows are: {', '.join(r.name for r in rows)}")
    reference.reference = True
    return Plan(spec, rows, samples)


def _source(spec: Spec, name: str, entry: BaselineEntry | TrainedEntry) -> Source:
    shared = {"backbone": spec.backbone.model_dump(), "adapter": spec.adapter, "sampling": spec.sampling}
    if isinstance(entry, BaselineEntry):
        _, of_fit = options_of(entry.baseline)
        own = {k: v for k, v in entry.options.items() if k not in of_fit}
        fit = {k: v for k, v in entry.options.items() if k in of_fit}
        return Source(name, "baseline", entry.baseline, {**shared, "train": {}}, own, fit)
    settings: dict[str, Any] = {
        **shared,
        "adapter": spec.adapter | entry.adapter,
        "sampling": spec.sampling | entry.sampling,
        "train": spec.train | entry.train,
    }
    if entry.kind == "network":
        settings["topology"] = entry.topology or "single"
    else:
        settings |= {"method": entry.kind, BASELINES[entry.kind].table: entry.options}
    if entry.stages:
        settings["stages"] = [stage.model_dump(exclude_unset=True) for stage in entry.stages]
    return Source(name, entry.kind, "", settings, {})


def _add_controls(rows: list[Row], spec: Spec, name: str, entry: TrainedEntry) -> None:
    source = next(row.source for row in rows if row.name == name)
    nodes = calls_of(source.config(spec.tasks[0], 0))
    if nodes == 1:  # one model is its own control
        return
    adapter = source.config(spec.tasks[0], 0).adapter
    copies = 1 if adapter.tied else nodes
    wide = {**source.settings["adapter"], "rank": adapter.rank * copies}
    if adapter.alpha is not None:  # the update is scaled by alpha / rank
        wide["alpha"] = adapter.alpha * copies
    whole = {k: v for k, v in source.settings.items() if k != "stages"}
    single = {**whole, "topology": "single", "adapter": {**wide, "tied": False}}
    chain = "-".join("1" * (nodes - 1)) + "+skip"
    scratchpad = {**whole, "topology": chain, "adapter": {**wide, "tied": True}}
    one = _shared(rows, Source(f"single-r{wide['rank']}", "network", "", single, {}), spec)
    pad = _shared(rows, Source(f"scratchpad-{nodes}-r{wide['rank']}", "network", "", scratchpad, {}), spec)
    made: dict[Control, tuple[str, Row]] = {
        "parameters": ("same parameters", Row(one.name, one)),
        "vote": ("same calls", Row(f"{one.name}, vote of {nodes}", one, votes=nodes)),
        "scratchpad": ("same calls, tokens and parameters in one adapter", Row(pad.name, pad)),
        "blanked": ("messages blanked", Row(f"{name}, blanked", source, blank=True)),
    }
    for control in entry.controls:
        what, row = made[control]
        _add(rows, row).control_for.append(f"{what} as {name}" if control != "blanked" else f"{name} silenced")


def _shared(rows: list[Row], wanted: Source, spec: Spec) -> Source:
    """A source that trains just the same if there is one, else `wanted` under a name that is free."""
    known = {row.source.name: row.source for row in rows}
    recipe = lambda source: source.config(spec.tasks[0], 0)
    for source in known.values():
        if source.kind == wanted.kind and recipe(source) == recipe(wanted):
            return source
    name, taken = wanted.name, 1
    while name in known:
        taken += 1
        name = f"{wanted.name}-{taken}"
    return Source(name, wanted.kind, "", wanted.settings, wanted.options)


def _add(rows: list[Row], row: Row) -> Row:
    """The row of the same source and manner if there is one, else `row`, added."""
    same = lambda r: (r.source.name, r.votes, r.blank) == (row.source.name, row.votes, row.blank)
    if (known := next(filter(same, rows), None)) is not None:
        return known
    rows.append(row)
    return row


def _check_names(rows: list[Row]) -> None:
    """Raises ConfigError where two rows would share a name or a folder."""
    counts = Counter(slug(name) for name in {*(r.name for r in rows), *(r.source.name for r in rows)})
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(f"the systems' names {twice} are the same but for signs; give one another name")
    if len({row.name for row in rows}) < len(rows):
        raise ConfigError("a system has the name of a control; give it another name")


def unequal(samples: Iterable[int]) -> bool:
    """Whether trainings differ in length by more than rounding a tree's calls to rollouts explains."""
    counts = list(samples)
    return bool(counts) and max(counts) > (1 + _TOLERANCE) * min(counts)


def slug(name: str) -> str:
    """A name as a file's."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "unnamed"
