"""From a spec to the rows of its table: every system named, and the matched controls of each trained network.

A network of N nodes and rank r gets those that its entry asks for (not `tokens` and `untrained` unless it does):
- `parameters`: one model of rank N·r, i.e. with as many trainable parameters, trained on as many samples;
- `tokens`: that model, allowed as many tokens in its one reply as the network writes in all;
- `vote`: the same model, the majority of N samples, i.e. with as many calls;
- `scratchpad`: one adapter of rank N·r that writes to itself N times, i.e. as many calls, tokens and parameters;
- `untrained`: the network before training;
- `blanked`: the network itself with every message delivered empty.
Networks that would get the same control share it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from neuromas.baselines import BASELINES
from neuromas.baselines.load import options_of
from neuromas.compare.spec import BaselineEntry, Control, Spec, SystemEntry, TaskEntry, TrainedEntry, Variant
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.topology import Topology
from neuromas.recipe import TomlTable
from neuromas.run.stages import calls_of

_TOLERANCE = 0.02


@dataclass(frozen=True)
class Contender:
    """A baseline, or something trained. All of its runs lie in folders of its name."""

    name: str
    kind: str  # "network", "baseline", or the name of a trained baseline
    baseline: str  # its name in BASELINES; empty for what is trained
    settings: TomlTable  # a recipe without task, seed and learning rate
    options: TomlTable = field(default_factory=dict)  # of the baseline
    fit: TomlTable = field(default_factory=dict)  # of a baseline that learns before it answers

    @property
    def trained(self) -> bool:
        return not self.baseline

    @property
    def fitted(self) -> bool:
        return bool(self.baseline) and BASELINES[self.baseline].fitted

    @property
    def repeats(self) -> bool:
        """True where every seed gives the same answers, so that one is enough."""
        return bool(self.baseline) and BASELINES[self.baseline].repeats

    @property
    def listed(self) -> bool:
        """True where it can answer only questions whose possible answers can be listed."""
        return bool(self.baseline) and BASELINES[self.baseline].listed

    @property
    def thinks(self) -> bool:
        """True where it may write more than an answer before it answers."""
        return bool(self.settings["sampling"].get("thinking_tokens"))

    def config(self, task: TaskEntry, seed: int, rate: float | None = None) -> RunConfig:
        """The recipe of one of its runs; raises ConfigError for settings that do not exist."""
        settings: TomlTable = {**self.settings, "seed": seed, "task": {"name": task.name, "options": task.options}}
        if rate is not None:
            settings["train"] = {**settings["train"], "learning_rate": rate}
        return RunConfig.make(settings)

    def describe(self) -> str:
        """The baseline with its options, or the shape, rank and adapters of what is trained."""
        if self.baseline:
            options = ", ".join(f"{k}={v}" for k, v in {**self.options, **self.fit}.items())
            return f"baseline {self.baseline}" + (f" ({options})" if options else "")
        adapter, stages = self.settings["adapter"], self.settings.get("stages", ())
        shapes = [part["topology"] for part in (self.settings, *stages) if part.get("topology")]
        names = [shape if isinstance(shape, str) else Topology.parse(shape).name for shape in shapes]
        words = [self.kind] + ([" → ".join(names)] if names else [])
        words[-1] += f", rank {adapter['rank']}" if "rank" in adapter else ""
        words[-1] += ", one adapter" if adapter.get("tied") else ""
        if start := adapter.get("init_from"):
            words[-1] += f", from {start if isinstance(start, str) else ', '.join(start.values())}"
        if tokens := self.settings["sampling"].get("thinking_tokens"):
            words[-1] += f", {tokens} tokens to think"
        return " ".join(words)


@dataclass
class Row:
    """One line of the table: a contender, asked in one way."""

    contender: Contender
    variant: Variant = field(default_factory=Variant)
    control_for: list[str] = field(default_factory=list[str])  # "<control> of <system>"
    reference: bool = False

    @property
    def name(self) -> str:
        return self.contender.name + self.variant.label

    @property
    def untrained(self) -> bool:
        return self.variant.checkpoint == "untrained"

    @property
    def prepared(self) -> bool:
        """True where it answers only after a training or a fitting."""
        return self.contender.fitted or (self.contender.trained and not self.untrained)

    @property
    def about(self) -> str:
        """The kind of what answers, in a few words."""
        if not self.contender.trained:
            return self.contender.describe()
        last = ", last checkpoint" if self.variant.checkpoint == "last" else ""
        return f"{'untrained' if self.untrained else 'trained'} {self.contender.describe()}{last}"


@dataclass(frozen=True)
class Plan:
    """The rows of a comparison, and what their trainings draw."""

    spec: Spec
    rows: list[Row]
    samples: dict[str, int]  # contender → rollouts a training draws

    @property
    def contenders(self) -> list[Contender]:
        return list({row.contender.name: row.contender for row in self.rows}.values())


def make_plan(spec: Spec) -> Plan:
    """The rows of a spec, in its order, each system's controls after it. Raises ConfigError where they cannot be."""
    rows: list[Row] = []
    for name, entry in spec.systems.items():
        contender = _contender(spec, name, entry)
        _add(rows, Row(contender))
        if isinstance(entry, TrainedEntry):
            for variant in (*(Variant(votes=votes) for votes in entry.votes), *entry.variants):
                _add(rows, Row(contender, variant))
    for name, entry in spec.systems.items():
        if isinstance(entry, TrainedEntry) and entry.kind == "network":
            _add_controls(rows, spec, name, entry)
    _check_names(rows)
    for row in rows:
        row.contender.config(spec.tasks[0], 0)  # names what is wrong in the shared tables
    trained = [row.contender for row in rows if row.contender.trained]
    samples = {c.name: c.config(spec.tasks[0], 0).samples for c in trained}
    if unequal(samples.values()) and not spec.unequal_samples:
        listed = ", ".join(f"{name}: {count:,}" for name, count in samples.items())
        raise ConfigError(
            f"the trained systems draw different numbers of samples (steps × questions × rollouts): {listed}; make "
            f"them equal to {_TOLERANCE:.0%}, or set unequal_samples = true and the report says so"
        )
    names = [row.name for row in rows]
    reference = spec.reference or (trained[0].name if trained else names[0])
    if reference not in names:
        raise ConfigError(f"reference is {reference!r}, which is no row; the rows are: {', '.join(names)}")
    rows[names.index(reference)].reference = True
    return Plan(spec, rows, samples)


def _contender(spec: Spec, name: str, entry: SystemEntry) -> Contender:
    shared = {"backbone": spec.backbone.model_dump(), "adapter": spec.adapter, "sampling": spec.sampling}
    shared |= {"prompt": spec.prompt} if spec.prompt else {}  # left out otherwise: it is part of a cell's key
    if isinstance(entry, BaselineEntry):
        _, fitting = options_of(entry.baseline)
        options = {k: v for k, v in entry.options.items() if k not in fitting}
        fit = {k: v for k, v in entry.options.items() if k in fitting}
        return Contender(name, "baseline", entry.baseline, {**shared, "train": {}}, options, fit)
    settings: TomlTable = {
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
    return Contender(name, entry.kind, "", settings)


def _add_controls(rows: list[Row], spec: Spec, name: str, entry: TrainedEntry) -> None:
    network = next(row.contender for row in rows if row.name == name)
    config = network.config(spec.tasks[0], 0)
    nodes, adapter = calls_of(config), config.adapter
    if nodes == 1:  # one model is its own control
        return
    copies = 1 if adapter.tied else nodes
    wide = {**network.settings["adapter"], "rank": adapter.rank * copies}
    if adapter.alpha is not None:  # the update is scaled by alpha / rank
        wide["alpha"] = adapter.alpha * copies
    if isinstance(wide.get("init_from"), dict):  # of nodes that the control does not have
        del wide["init_from"]
    whole = {k: v for k, v in network.settings.items() if k != "stages"} | _lessons(network.settings)
    single = {**whole, "topology": "single", "adapter": {**wide, "tied": False}}
    chain = "-".join("1" * (nodes - 1)) + "+skip"
    scratchpad = {**whole, "topology": chain, "adapter": {**wide, "tied": True}}
    sampling = config.sampling
    budget = sampling.message_tokens * (nodes - 1) + sampling.thinking_tokens
    thinks = {**single, "sampling": {**network.settings["sampling"], "thinking_tokens": budget}}
    one = _shared(rows, Contender(f"single-r{wide['rank']}", "network", "", single), spec)
    pad = _shared(rows, Contender(f"scratchpad-{nodes}-r{wide['rank']}", "network", "", scratchpad), spec)
    long = _shared(rows, Contender(f"single-r{wide['rank']}-thinks", "network", "", thinks), spec)
    controls: dict[Control, tuple[str, Row]] = {
        "parameters": (f"same parameters as {name}", Row(one)),
        "tokens": (f"same parameters as {name}, its tokens in one reply", Row(long)),
        "vote": (f"same calls as {name}", Row(one, Variant(votes=nodes))),
        "scratchpad": (f"same calls, tokens and parameters in one adapter as {name}", Row(pad)),
        "untrained": (f"{name} before training", Row(network, Variant(checkpoint="untrained"))),
        "blanked": (f"{name} silenced", Row(network, Variant(delivery="blanked"))),
    }
    for control in entry.controls:
        what, row = controls[control]
        _add(rows, row).control_for.append(what)


def _lessons(settings: TomlTable) -> TomlTable:
    """The stages of a network that have questions of their own, without its growth: controls learn from them too."""
    stages: list[TomlTable] = settings.get("stages", [])
    if not any(stage.get("task") or stage.get("options") for stage in stages):
        return {}
    kept = ("task", "options", "steps", "promote", "window", "learning_rate")
    return {"stages": [{k: v for k, v in stage.items() if k in kept} for stage in stages]}


def _shared(rows: list[Row], wanted: Contender, spec: Spec) -> Contender:
    """A contender that trains just the same if there is one, else `wanted` under a name that is free."""
    known = {row.contender.name: row.contender for row in rows}
    recipe = wanted.config(spec.tasks[0], 0)
    for contender in known.values():
        if contender.kind == wanted.kind and contender.config(spec.tasks[0], 0) == recipe:
            return contender
    name, taken = wanted.name, 1
    while name in known:
        taken += 1
        name = f"{wanted.name}-{taken}"
    return replace(wanted, name=name)


def _add(rows: list[Row], row: Row) -> Row:
    """The row of the same contender and variant if there is one, else `row`, added."""
    for known in rows:
        if (known.contender.name, known.variant) == (row.contender.name, row.variant):
            return known
    rows.append(row)
    return row


def _check_names(rows: list[Row]) -> None:
    """Raises ConfigError where two rows would share a name or a folder."""
    counts = Counter(slug(name) for name in {*(r.name for r in rows), *(r.contender.name for r in rows)})
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ConfigError(f"the systems' names {repeated} are the same but for signs; give one another name")
    if len({row.name for row in rows}) < len(rows):
        raise ConfigError("a system has the name of a control; give it another name")


def unequal(samples: Iterable[int]) -> bool:
    """True where trainings differ in length by more than rounding a tree's calls to rollouts explains."""
    counts = list(samples)
    return bool(counts) and max(counts) > (1 + _TOLERANCE) * min(counts)


def slug(name: str) -> str:
    """A name that a file may have."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "unnamed"
