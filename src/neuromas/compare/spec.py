"""The specification of a comparison: a TOML file as validated data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError

from neuromas.baselines import BASELINES, names, nearest
from neuromas.baselines.load import check_endpoint, options_of
from neuromas.config import BackboneConfig, Section, StageConfig
from neuromas.errors import ConfigError, TopologyError
from neuromas.network.endpoint import is_endpoint
from neuromas.network.topology import Topology
from neuromas.recipe import TomlTable, explain, read_recipe
from neuromas.tasks.base import Split

Control = Literal["parameters", "tokens", "vote", "scratchpad", "untrained", "blanked"]
CONTROLS: tuple[Control, ...] = ("parameters", "vote", "scratchpad", "blanked")


class TaskEntry(Section):
    """The questions of a task. `options` go to the task as they are."""

    name: str
    """The task, as in a recipe."""
    options: TomlTable = Field(default_factory=dict)
    """The task's own options."""
    label: str = ""
    """Its name in tables. Empty: the task's name."""
    questions: int | None = Field(default=None, ge=1)
    """Use only the first N questions of the split. None: all."""

    @property
    def title(self) -> str:
        return self.label or self.name


class Variant(Section):
    """A further row of a trained system, asked in another way; a row without variants is asked as the defaults say."""

    checkpoint: Literal["best", "last", "untrained"] = "best"
    """The best checkpoint on validation, the last one, or the system before training."""
    decoding: Literal["greedy", "sampled"] = "greedy"
    """Decode greedily, or sample."""
    delivery: Literal["as sent", "blanked"] = "as sent"
    """Deliver the messages of a network as sent, or empty."""
    votes: int = Field(default=1, ge=1)
    """Above 1: take the majority of that many samples."""

    @property
    def label(self) -> str:
        """The words that follow the system's name in the name of the row; empty for the default."""
        words: list[str] = {"best": [], "last": ["last checkpoint"], "untrained": ["untrained"]}[self.checkpoint]
        words += ["sampled"] if self.decoding == "sampled" else []
        words += ["blanked"] if self.delivery == "blanked" else []
        words += [f"vote of {self.votes}"] if self.votes > 1 else []
        return "".join(f", {word}" for word in words)


class BaselineEntry(Section):
    """A baseline. `options` are its own and those of its fitting."""

    baseline: str
    """Which baseline. Left out: NAME is one (`neuromas baselines` lists them)."""
    options: TomlTable = Field(default_factory=dict)
    """Its own options, those of its fitting included."""


def _all_controls(given: object) -> object:
    return get_args(Control) if given == "all" else given


class TrainedEntry(Section):
    """A system that is trained, as in a recipe; what it does not say is taken from the shared tables."""

    kind: str = "network"
    """`network`, or a trained baseline: `malt`, `collm-cc`."""
    topology: str | list[int] | TomlTable | None = None
    """Of a network. None: a single model."""
    adapter: TomlTable = Field(default_factory=dict)
    """Settings that differ from the shared ones."""
    sampling: TomlTable = Field(default_factory=dict)
    """Settings that differ from the shared ones."""
    train: TomlTable = Field(default_factory=dict)
    """Settings that differ from the shared ones."""
    options: TomlTable = Field(default_factory=dict)
    """Of a trained baseline: the recipe's table of that method."""
    stages: tuple[StageConfig, ...] = ()
    """Of a network that grows: what it becomes out of `topology`, as in a recipe."""
    controls: Annotated[tuple[Control, ...], BeforeValidator(_all_controls)] = CONTROLS
    """Which [matched controls](#matched-controls) a network gets; `"all"` of them."""
    votes: tuple[int, ...] = ()
    """Further rows, each the majority of that many samples; short for variants with `votes`."""
    variants: tuple[Variant, ...] = ()
    """Further rows, each as a table below says."""


SystemEntry = BaselineEntry | TrainedEntry


class Spec(Section):
    """A comparison: every system on every task with every seed."""

    title: str = "Comparison"
    """Title of the report."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Training, fitting and sampling are done with each of them. Learning rates are chosen with the first. A baseline
    that gives the same answers with every seed is asked once."""
    split: Split = "test"
    """Which questions are asked."""
    reference: str | None = None
    """The row that the others are tested against. None: the first trained system, else the first row."""
    learning_rates: tuple[float, ...] = Field(default=(5e-4, 1e-3, 2e-3), min_length=1)
    """The grid from which every trained system gets its rate."""
    unequal_samples: bool = False
    """Allow trained systems that draw different numbers of samples; the report warns."""
    tasks: tuple[TaskEntry, ...] = Field(min_length=1)
    """A table for each task."""
    backbone: BackboneConfig = BackboneConfig()
    """As in a recipe, for all systems."""
    adapter: TomlTable = Field(default_factory=dict)
    """As in a recipe, for all systems."""
    sampling: TomlTable = Field(default_factory=dict)
    """As in a recipe, for all systems."""
    prompt: TomlTable = Field(default_factory=dict)
    """As in a recipe, for all systems."""
    train: TomlTable = Field(default_factory=dict)
    """As in a recipe, for all systems. `learning_rate`, `stop_after_seconds` and `patience` are refused."""
    systems: dict[str, SystemEntry] = Field(min_length=1)
    """A table for each system."""

    @classmethod
    def load(cls, path: Path) -> "Spec":
        """Read a spec; raises ConfigError that names each wrong setting."""
        return cls.make(read_recipe(path, "spec"))

    @classmethod
    def make(cls, data: TomlTable) -> "Spec":
        """Validate; raises ConfigError that names each wrong setting and says what to do."""
        entries = data.get("systems")
        if not isinstance(entries, dict) or not entries:
            raise ConfigError("the spec names no systems; add tables such as [systems.direct] or [systems.network]")
        if not data.get("tasks"):
            raise ConfigError("the spec names no tasks; add a table such as [[tasks]] with name = 'compositional'")
        systems: dict[str, SystemEntry] = {}
        for name, entry in entries.items():
            try:
                systems[name] = _entry(name, entry)
            except ValidationError as error:
                raise ConfigError(f"systems.{name}: {explain(error)}") from error
        try:
            spec = cls.model_validate({**data, "systems": systems})
        except ValidationError as error:
            raise ConfigError(explain(error, cls)) from error
        spec.check()
        return spec

    def check(self) -> None:
        """Raises ConfigError where settings contradict each other."""
        for what, values in (("seeds", self.seeds), ("learning_rates", self.learning_rates)):
            if len(set(values)) < len(values):
                raise ConfigError(f"{what} are {list(values)}: one stands there twice; leave it out")
        if min(self.learning_rates) <= 0:
            raise ConfigError(f"learning_rates are {list(self.learning_rates)}: each must be above 0")
        labels = [task.title for task in self.tasks]
        if len(set(labels)) < len(labels):
            raise ConfigError(f"tasks are called {labels}: one name stands there twice; give each a label of its own")
        remote = self.backbone.name if is_endpoint(self.backbone.name) else None
        for name, entry in self.systems.items():
            if isinstance(entry, BaselineEntry):
                _check_baseline(name, entry)
                if remote:
                    check_endpoint(entry.baseline, remote)
            elif remote:
                raise ConfigError(f"systems.{name} is trained, and the endpoint {remote!r} cannot be; leave it out")
            else:
                _check_trained(name, entry, self.train)


def _entry(name: str, entry: Any) -> SystemEntry:
    if not isinstance(entry, dict):
        raise ConfigError(f"systems.{name} is {entry!r}; it must be a table, e.g. [systems.{name}]")
    trained = {"kind", "topology", "train", "adapter", "controls", "votes", "variants", "stages"} & entry.keys()
    if "baseline" in entry and trained:
        raise ConfigError(
            f"systems.{name} names a baseline and {sorted(trained)}: a baseline takes only options, and what is "
            "trained names no baseline; split it in two"
        )
    if trained:
        return TrainedEntry.model_validate(entry)
    if "baseline" not in entry and name not in BASELINES:
        raise ConfigError(
            f"systems.{name} says neither what it is nor is its name a baseline's ({nearest(name, BASELINES)}); give "
            "it baseline = '…', or topology = '…' to train a network"
        )
    return BaselineEntry.model_validate({"baseline": name, **entry})


def _check_baseline(name: str, entry: BaselineEntry) -> None:
    if entry.baseline not in BASELINES:
        raise ConfigError(
            f"systems.{name}.baseline is {entry.baseline!r}, which is no baseline; {nearest(entry.baseline, BASELINES)}"
        )
    if BASELINES[entry.baseline].trained:
        raise ConfigError(f"systems.{name} is trained; give it kind = {entry.baseline!r} in place of a baseline")
    own, of_fit = options_of(entry.baseline)
    _known(f"systems.{name}.options", entry.options, own | of_fit)


def _check_trained(name: str, entry: TrainedEntry, shared: TomlTable) -> None:
    network, kinds = entry.kind == "network", ["network", *names(trained=True)]
    if entry.kind not in kinds:
        raise ConfigError(
            f"systems.{name}.kind is {entry.kind!r}, which is no kind of trained system; {nearest(entry.kind, kinds)}"
        )
    _known(f"systems.{name}.options", entry.options, {} if network else options_of(entry.kind)[0])
    if entry.topology is not None and not network:
        raise ConfigError(f"systems.{name}.topology is {entry.topology!r}, but {entry.kind} has its own; leave it out")
    if any(votes < 2 for votes in entry.votes):
        raise ConfigError(f"systems.{name}.votes are {list(entry.votes)}: a vote takes 2 or more")
    for number, variant in enumerate(entry.variants):
        where = f"systems.{name}.variants.{number}"
        if variant.delivery == "blanked" and not network:
            raise ConfigError(f"{where} blanks messages, and {entry.kind} has no nodes that send any; leave it out")
        if variant.votes > 1 and (variant.delivery, variant.decoding) != ("as sent", "greedy"):
            raise ConfigError(f"{where} is a vote, which always samples, of messages as sent; leave the others out")
    try:
        Topology.parse(entry.topology or "single")
    except TopologyError as error:
        raise ConfigError(f"systems.{name}.topology: {error}") from error
    if entry.stages and not network:
        raise ConfigError(f"systems.{name}.stages are set, but {entry.kind} does not grow; leave them out")
    settings = shared | entry.train
    if "learning_rate" in settings or any(stage.learning_rate for stage in entry.stages):
        raise ConfigError(
            f"a learning_rate is set for {name!r}, but every trained system gets its own from one grid, by "
            "validation with the first seed; set learning_rates = [ … ] at the top instead"
        )
    if settings.get("resample"):
        raise ConfigError(
            f"train.resample is set for {name!r}, but all trained systems must draw equally many samples, and nobody "
            "knows how many it asks for; leave it out"
        )
    for setting, how in (("stop_after_seconds", "however long they take"), ("patience", "however they fare")):
        if setting in settings:
            raise ConfigError(
                f"train.{setting} is set for {name!r}, but all trained systems must draw equally many samples, {how}; "
                "leave it out"
            )


def _known(where: str, given: Iterable[str], valid: TomlTable) -> None:
    for option in given:
        if option not in valid:
            raise ConfigError(f"{where} has no {option!r}; there is: {', '.join(valid) or 'no option'}")
