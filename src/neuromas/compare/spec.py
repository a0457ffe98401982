"""What is compared with what: a TOML file as validated data."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from neuromas.baselines import BASELINES, names, nearest
from neuromas.baselines.load import check_endpoint, options_of
from neuromas.config import BackboneConfig, Section, StageConfig
from neuromas.errors import ConfigError, TopologyError
from neuromas.network.endpoint import is_endpoint
from neuromas.network.topology import Topology
from neuromas.recipe import explain
from neuromas.tasks.base import Split

Control = Literal["parameters", "vote", "scratchpad", "blanked"]
CONTROLS: tuple[Control, ...] = ("parameters", "vote", "scratchpad", "blanked")


class TaskEntry(Section):
    """Which questions. `options` go to the task as they are."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    label: str = ""  # what tables call it; empty: the name
    questions: int | None = Field(default=None, ge=1)  # the first so many of the split; None: all

    @property
    def title(self) -> str:
        return self.label or self.name


class Variant(Section):
    """How a trained system answers in one row of the table; by default as it is meant to be used."""

    checkpoint: Literal["best", "last", "untrained"] = "best"  # best: of those that were validated
    decoding: Literal["greedy", "sampled"] = "greedy"
    delivery: Literal["as sent", "blanked"] = "as sent"  # blanked: every message of a network arrives empty
    votes: int = Field(default=1, ge=1)  # above 1: the majority of that many samples

    @property
    def label(self) -> str:
        """The words that follow the system's name in the name of the row; empty for the default."""
        words: list[str] = []
        if self.checkpoint != "best":
            words.append("untrained" if self.checkpoint == "untrained" else "last checkpoint")
        if self.decoding == "sampled":
            words.append("sampled")
        if self.delivery == "blanked":
            words.append("blanked")
        if self.votes > 1:
            words.append(f"vote of {self.votes}")
        return "".join(f", {word}" for word in words)


class BaselineEntry(Section):
    """A baseline. `options` are its own and those of its fitting."""

    baseline: str
    options: dict[str, Any] = Field(default_factory=dict)


class TrainedEntry(Section):
    """A system that is trained, as in a recipe; what it does not say is taken from the shared tables."""

    kind: str = "network"
    topology: str | list[int] | dict[str, Any] | None = None  # of a network; None: a single model
    adapter: dict[str, Any] = Field(default_factory=dict)
    sampling: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)  # the kind's own
    stages: tuple[StageConfig, ...] = ()  # of a network that grows: what it becomes out of `topology`
    controls: tuple[Control, ...] = CONTROLS  # of a network
    votes: tuple[int, ...] = ()  # further rows: the majority of so many of its samples
    variants: tuple[Variant, ...] = ()  # further rows: the same system, asked in another way


SystemEntry = BaselineEntry | TrainedEntry


class Spec(Section):
    """A comparison: every system on every task with every seed."""

    title: str = "Comparison"
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    split: Split = "test"
    reference: str | None = None  # the row that the others are tested against; None: the first trained system
    learning_rates: tuple[float, ...] = Field(default=(5e-4, 1e-3, 2e-3), min_length=1)
    unequal_samples: bool = False  # allow trainings of different length
    tasks: tuple[TaskEntry, ...] = Field(min_length=1)
    backbone: BackboneConfig = BackboneConfig()
    adapter: dict[str, Any] = Field(default_factory=dict)  # these three: shared by all systems
    sampling: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    systems: dict[str, BaselineEntry | TrainedEntry] = Field(min_length=1)

    @classmethod
    def load(cls, path: Path) -> "Spec":
        """Read a spec; raises ConfigError that names each wrong setting."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"spec {str(path)!r} does not exist; one to start from is in recipes/") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"spec {str(path)!r} is not valid TOML: {error}") from error
        return cls.make(data)

    @classmethod
    def make(cls, data: dict[str, Any]) -> "Spec":
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
            raise ConfigError(explain(error)) from error
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


def _check_trained(name: str, entry: TrainedEntry, shared: dict[str, Any]) -> None:
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
    if "stop_after_seconds" in settings:
        raise ConfigError(
            f"train.stop_after_seconds is set for {name!r}, but all trained systems must draw equally many samples, "
            "however long they take; leave it out"
        )


def _known(where: str, given: Iterable[str], valid: dict[str, Any]) -> None:
    for option in given:
        if option not in valid:
            raise ConfigError(f"{where} has no {option!r}; there is: {', '.join(valid) or 'no option'}")
