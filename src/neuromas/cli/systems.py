"""Loading a system and its task from command-line options."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuromas.baselines import BASELINES, names
from neuromas.baselines.load import load_baseline, options_of
from neuromas.cli.options import SystemConfig, use_threads
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.backbone import Frozen, load_frozen
from neuromas.recipe import override
from neuromas.tasks import load_task
from neuromas.tasks.base import Task
from neuromas.tasks.own import OwnTask
from neuromas.tasks.tables import is_table
from neuromas.types import Question, System

OnFit = Callable[[int, int], None]  # called with (questions done, all) while a baseline is fitted


@dataclass(frozen=True)
class Loaded:
    """A system that is ready to answer."""

    system: System
    task: Task
    backbone: Frozen
    bare: bool = False  # a baseline that is asked without a task

    def asked(self, text: str) -> Question:
        """A question of one's own, with the instruction and answer prefix of the system's task, if it has one."""
        return Question("asked", text, "") if self.bare else self.task.asked(text)


def load_system(system: str, config: SystemConfig, on_fit: OnFit | None = None, seed: int = 0) -> Loaded:
    """The network of a run folder or of an export on the hub, or a baseline; and the task named, or the run's own.

    on_fit: None where a system is only asked, so that fitting would be a surprise. seed: seed of fitting.
    Raises ConfigError for what is neither run folder nor baseline, and for options that do not fit.
    """
    from neuromas.run.build import load_run
    from neuromas.run.export import found

    use_threads(config.threads)
    if system in BASELINES:
        changes = {"task.name": config.task, "backbone.name": config.backbone}
        recipe = RunConfig.load(config.recipe, **changes) if config.recipe else RunConfig.make(override({}, changes))
        loaded = _baseline(system, recipe, parse_options(config.options), config.state, on_fit, seed)
        return replace(loaded, bare=config.recipe is None)
    if (folder := found(system)) is None:
        frozen = ", ".join(names(trained=False))
        raise ConfigError(
            f"{system!r} is neither a run folder, nor an export on the hub (OWNER/NAME), nor a baseline; those are: "
            f"{frozen}"
        )
    if config.options or config.state:
        raise ConfigError("--options and --state are for baselines, and this is a run folder; leave them out")
    network, loaded, recipe = load_run(folder, config.checkpoint, config.backbone)
    if folder != Path(system):
        network.name = f"{system} ({config.checkpoint})"
    if config.task is not None and config.task != recipe.task.name:
        loaded = _other_task(config.task, loaded)
        network.limits = replace(
            network.limits, answer_tokens=loaded.max_answer_tokens + recipe.sampling.thinking_tokens
        )
    return Loaded(network, loaded, network.backbone)


def _other_task(name: str, own: Task) -> Task:
    """The task of that name; a table is asked and graded as the run's own task, if that is one of a table."""
    if isinstance(own, OwnTask) and is_table(name):
        return load_task(own.name, data=str(Path(name).resolve()), test=None)
    return load_task(name)


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """["agents=5", "pool=max"] → {"agents": 5, "pool": "max"}. Raises ConfigError for what is no name=value."""
    parsed: dict[str, Any] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not (name and sign):
            raise ConfigError(f"option {option!r} has no value; write name=value, e.g. agents=5")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed


def _baseline(
    name: str, config: RunConfig, options: dict[str, Any], state: Path | None, on_fit: OnFit | None, seed: int
) -> Loaded:
    """A baseline, fitted if it learns from the training split, or with what it learned before."""
    from neuromas.baselines.fitted import Fitted
    from neuromas.network.forward import Limits
    from neuromas.network.sampling import Decoding

    task, b = load_task(config.task.name, **config.task.options), config.backbone
    backbone = load_frozen(b.name, device=b.device, dtype=b.dtype, style=b.style)
    limits = Limits.from_config(config.sampling, task.max_answer_tokens)
    fit_options = {key: options.pop(key) for key in options_of(name)[1] if key in options}
    decoding = Decoding.from_config(config.sampling)
    system = load_baseline(name, backbone, task, limits, decoding, config.prompt, **options)
    if not isinstance(system, Fitted):
        if state is not None:
            raise ConfigError(f"{system.name} learns nothing before it answers; leave out --state")
    elif state is not None and state.exists():
        system.load(state)
    elif on_fit is None:
        raise ConfigError(f"{system.name} is not fitted; fit it with `neuromas eval … --state FILE`, then give --state")
    else:
        system.fit(task, **fit_options, seed=seed, progress=on_fit)
        if state is not None:
            system.save(state)
    return Loaded(system, task, backbone)
