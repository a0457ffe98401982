"""From what a person types to a system and its task; shared by `eval` and `ask`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuromas.baselines import BASELINES, names
from neuromas.baselines.load import load_baseline, options_of
from neuromas.cli.options import SystemConfig
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.backbone import Frozen, load_frozen
from neuromas.recipe import override
from neuromas.tasks.base import Task
from neuromas.types import Question, System

Watch = Callable[[int, int], None]  # called with (questions done, all) while a baseline is fitted


@dataclass(frozen=True)
class Loaded:
    """A system that is ready to answer."""

    system: System
    task: Task
    backbone: Frozen


def load_system(
    system: str, config: SystemConfig, task: str | None = None, fit: Watch | None = None, seed: int = 0
) -> Loaded:
    """The network of a run folder, or a baseline; and the task named, or the run's own. Raises ConfigError.

    fit: watches the fitting of a baseline, whose state is then written; None where a system is only asked and fitting
    would surprise. seed: of fitting.
    """
    import torch

    from neuromas.run.build import load_run
    from neuromas.tasks import load_task

    if config.threads:
        torch.set_num_threads(config.threads)
    if system in BASELINES:
        changes = {"task.name": task, "backbone.name": config.backbone}
        made = RunConfig.load(config.recipe, **changes) if config.recipe else RunConfig.make(override({}, changes))
        return _baseline(system, made, parse_options(config.options), config.state, fit, seed)
    if not Path(system).is_dir():
        frozen = ", ".join(names(trained=False))
        raise ConfigError(f"{system!r} is neither a run folder nor a baseline; the baselines are: {frozen}")
    if config.options or config.state:
        raise ConfigError("--options and --state are for baselines, and this is a run folder; leave them out")
    network, loaded, recipe = load_run(Path(system), config.checkpoint)
    if task is not None and task != recipe.task.name:
        loaded = load_task(task)
        network.limits = replace(network.limits, answer_tokens=loaded.max_answer_tokens)
    return Loaded(network, loaded, network.backbone)


def question_of(loaded: Loaded, system: str, recipe: Path | None, text: str) -> Question:
    """A question of one's own, with the instruction and answer prefix of the task that the system is for, if any."""
    if system in BASELINES and recipe is None:
        return Question("asked", text, "")
    return replace(loaded.task.questions("test")[0], id="asked", text=text, answer="", metadata={})


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """["agents=5", "pool=max"] → {"agents": 5, "pool": "max"}. Raises ConfigError for what is no name=value."""
    found: dict[str, Any] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not (name and sign):
            raise ConfigError(f"option {option!r} has no value; write name=value, e.g. agents=5")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _baseline(
    name: str, config: RunConfig, options: dict[str, Any], state: Path | None, fit: Watch | None, seed: int
) -> Loaded:
    from neuromas.network.forward import Limits
    from neuromas.network.sampling import Decoding
    from neuromas.tasks import load_task

    task, b = load_task(config.task.name, **config.task.options), config.backbone
    loaded = load_frozen(b.name, device=b.device, dtype=b.dtype, style=b.style)
    limits = Limits.from_config(config.sampling, task.max_answer_tokens)
    decoding = Decoding.from_config(config.sampling)
    _, of_fit = options_of(name)
    how = {key: options.pop(key) for key in list(options) if key in of_fit}
    system = load_baseline(name, loaded, task, limits, decoding, **options)
    _make_ready(system, task, how, state, fit, seed)
    return Loaded(system, task, loaded)


def _make_ready(
    system: System, task: Task, how: dict[str, Any], state: Path | None, fit: Watch | None, seed: int
) -> None:
    """Fit a baseline that learns from the training split, or read what it learned before."""
    from neuromas.baselines.fitted import Fitted

    if not isinstance(system, Fitted):
        if state is not None:
            raise ConfigError(f"{system.name} learns nothing before it answers; leave out --state")
        return
    if state is not None and state.exists():
        system.load(state)
    elif fit is None:
        raise ConfigError(f"{system.name} is not fitted; fit it with `neuromas eval … --state FILE`, then give --state")
    else:
        system.fit(task, **how, seed=seed, progress=fit)
        if state is not None:
            system.save(state)
