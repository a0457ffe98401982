"""From settings to an untrained system, its task and its optimiser; from a run folder to what was trained."""

from pathlib import Path

from neuromas.baselines import NETWORK, trained_entry
from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, ConfigError, TaskError
from neuromas.evaluate.room import fitting
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.network.wording import Words
from neuromas.run import checkpoint
from neuromas.run.carry import GIVEN, backbone_name, carried_task
from neuromas.run.checkpoint import Trained
from neuromas.run.folder import saved_config
from neuromas.run.stages import stages_of
from neuromas.tasks import load_task
from neuromas.tasks.base import Task
from neuromas.train import critic
from neuromas.train.init import fill
from neuromas.train.optimizer import NodeAdamW


def build(
    config: RunConfig, backbone: Backbone | None = None, topology: Topology | None = None, task: Task | None = None
) -> tuple[Trained, Task]:
    """The untrained system and the task of a run. A backbone or task that is loaded already may be shared.

    topology: of a network; None: the one it begins with. Raises `TaskError` where the task was given in Python.
    """
    task = task or task_of(config)
    if backbone is None:
        b = config.backbone
        backbone = Backbone.load(b.name, device=b.device, dtype=b.dtype, style=b.style)
    if config.method != NETWORK:
        if task.turns > 1:
            raise ConfigError(f"task {task.name!r} answers its nodes, and method {config.method!r} asks nobody")
        if config.task.drop_long:
            raise ConfigError(f"task.drop_long is set and the method is {config.method!r}; only networks know it")
        entry = trained_entry(config.method)
        return entry.load(entry.factory).create(config, backbone, task), task
    network = Network.create(
        topology or stages_of(config)[0].topology,
        backbone,
        rank=config.adapter.rank,
        alpha=config.adapter.alpha,
        targets=config.adapter.targets,
        tied=config.adapter.tied,
        seed=config.seed,
        limits=Limits.from_config(config.sampling, task.max_answer_tokens),
        decoding=Decoding.from_config(config.sampling),
        words=Words.of(config.prompt, backbone.template.style),
        environment=task,
    )
    if config.train.estimator == "critic":
        critic.attach(network)
    return network, fitting(network, task) if config.task.drop_long else task


def fill_adapters(config: RunConfig, network: Trained) -> None:
    """Let the nodes of a new network begin with the adapters that the settings name.

    Raises `CheckpointError` for a folder that cannot be used, `ConfigError` for a node that does not exist.
    """
    start, bank = config.adapter.init_from, network.adapters
    if start is None:
        return
    folders = dict.fromkeys(bank.names, start) if isinstance(start, str) else start
    if unknown := [node for node in folders if node not in bank.names]:
        raise ConfigError(
            f"adapter.init_from names {', '.join(unknown)}, and the adapters are {', '.join(bank.names)}; name one of "
            "those, or give a single folder for all"
        )
    for name, folder in folders.items():
        fill(bank, name, Path(folder))


def task_of(config: RunConfig) -> Task:
    """The task that the settings name; raises `TaskError` for one that only the program that trained the run has."""
    if config.task.name.startswith(GIVEN):
        raise TaskError(
            f"the run's task {config.task.name.removeprefix(GIVEN)!r} was given in Python, not by name; hand it over "
            "again: neuromas.load(folder, task=…)"
        )
    return load_task(config.task.name, **config.task.options)


def optimizer_of(config: RunConfig, network: Trained) -> NodeAdamW:
    """A new optimiser of everything that training changes."""
    t = config.train
    return NodeAdamW(network.adapters, network.extras, betas=t.betas, weight_decay=t.weight_decay)


def load_run(
    run: Path, which: str = "best", backbone: Backbone | str | None = None, task: Task | None = None
) -> tuple[Trained, Task, RunConfig]:
    """The network, or team, of a finished or running run, or of an export: "best" (on validation) or "last".

    backbone: loaded already, or its name; None: as the run says. Raises `CheckpointError` where there is no checkpoint.
    """
    config = saved_config(run)
    folder = checkpoint.chosen(run, which)
    if folder is None:
        raise CheckpointError(f"{run} holds no checkpoint yet; wait for its first step")
    topology = checkpoint.topology_of(folder) if config.method == NETWORK else None
    if not isinstance(backbone, Backbone):
        config, backbone = config.with_settings("backbone", name=backbone_name(run, config, backbone)), None
    network, task = build(config, backbone, topology, task or carried_task(run, config))
    try:
        checkpoint.load(folder, network)
    except (CheckpointError, OSError):
        if checkpoint.chosen(run, which) == folder:
            raise
        return load_run(run, which, network.backbone, task)  # a training has gone on meanwhile, and this one was pruned
    network.name = f"{run.name} ({which})"
    return network, task, config
