"""Ways of training a system: one joint step of all nodes, or a trained baseline's own."""

from pathlib import Path
from typing import Protocol

import torch

from neuromas.baselines import NETWORK, trained_entry
from neuromas.config import RunConfig, TaskConfig
from neuromas.errors import ConfigError
from neuromas.network.forward import Network
from neuromas.run.build import task_of
from neuromas.run.checkpoint import Trained
from neuromas.run.stages import Stage, absent, stages_of
from neuromas.tasks.base import Task
from neuromas.tasks.loaded import normalise
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.train.step import StepResult, train_step
from neuromas.types import Question
from neuromas.workers import ALONE, Workers


class Method(Protocol):
    """A way of training a system."""

    def rate(self, step: int) -> float:
        """The learning rate of `step` (from 1)."""
        ...

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        """Do step `step` (from 1). baseline: mean reward of earlier steps.

        Raises `DivergenceError` before anything is changed.
        """
        ...


class Joint:
    """This library's own method: one joint step of all nodes, or of a single model (topology "single")."""

    def __init__(
        self, config: RunConfig, network: Network, task: Task, stage: Stage, start: int, workers: Workers
    ) -> None:
        """stage: begins after step `start`, on the questions of `task`, or of one with the stage's options."""
        rate = stage.settings.learning_rate or config.train.learning_rate
        self.config = config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": rate})})
        self.network, self.stage, self.start, self.workers = network, stage, start, workers
        self.task = staged_task(config, stage) or task
        self.schedule = Schedule(training_questions(self.task, task), config)

    def rate(self, step: int) -> float:
        return learning_rate(self.config, step, self.start)

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        t, seed = self.config.train, self.config.seed
        return train_step(
            self.network,
            optimizer,
            self.task,
            self.schedule.questions(step),
            t,
            step=step,
            seed=seed,
            baseline=baseline,
            absent=absent(self.stage, step - self.start, t.node_dropout, seed=seed, step=step),
            workers=self.workers,
        )


def staged_task(config: RunConfig, stage: Stage) -> Task | None:
    """The task whose training questions a stage asks; None where it is the run's own."""
    name, options = stage.settings.task, stage.settings.options
    if name is None and not options:
        return None
    staged = (
        TaskConfig(name=name, options=options)
        if name
        else TaskConfig(name=config.task.name, options=config.task.options | options)
    )
    return task_of(config.model_copy(update={"task": staged}))


def training_questions(staged: Task, task: Task) -> list[Question]:
    """The training questions of a stage, without those that the run's own task validates or tests with.

    Raises `ConfigError` where none are left.
    """
    questions = staged.questions("train")
    if staged is task:
        return questions
    held = {normalise(question.text) for split in ("validation", "test") for question in task.questions(split)}
    kept = [question for question in questions if normalise(question.text) not in held]
    if not kept:
        raise ConfigError(
            f"all {len(questions)} training questions of {staged.name!r} are validation or test questions of "
            f"{task.name!r}; give the stage others"
        )
    return kept


def method_of(
    config: RunConfig,
    out: Path,
    system: Trained,
    task: Task,
    stage: Stage | None = None,
    start: int = 0,
    workers: Workers = ALONE,
) -> Method:
    """The way that `system` is trained; `out` is the run's folder, where it may keep its samples.

    stage: the one that began after step `start`; None: the first.
    """
    if config.method != NETWORK:
        entry = trained_entry(config.method)
        return entry.load(entry.training)(config, out, system, task)
    assert isinstance(system, Network)
    return Joint(config, system, task, stage or stages_of(config)[0], start, workers)
