"""Ways of training a system: one joint step of all nodes, or a trained baseline's own."""

from pathlib import Path
from typing import Protocol

import torch

from neuromas.baselines import NETWORK, trained_entry
from neuromas.config import RunConfig, TaskConfig
from neuromas.errors import ConfigError
from neuromas.evaluate.room import check_prompts, fitting
from neuromas.network.forward import Network
from neuromas.run.build import task_of
from neuromas.run.checkpoint import Trained
from neuromas.run.stages import Stage, absent, stages_of
from neuromas.tasks.base import Task
from neuromas.tasks.words import normalise
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.train.selection import Selection
from neuromas.train.step import StepResult, train_step
from neuromas.train.warm import Pool
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
        self, config: RunConfig, out: Path, network: Network, task: Task, stage: Stage, start: int, workers: Workers
    ) -> None:
        """out: the run's folder. stage: begins after step `start`, on the questions of `task`, or on its own."""
        rate = stage.settings.learning_rate or config.train.learning_rate
        self.config = config.with_settings("train", learning_rate=rate)
        self.network, self.stage, self.start, self.workers = network, stage, start, workers
        self.task = staged_task(config, stage) or task
        if self.task is not task:
            if config.task.drop_long:
                self.task = fitting(network, self.task)
            check_prompts(network, self.task, self.task.questions("train"))
        self.schedule = Schedule(training_questions(self.task, task), config)
        t, first = config.train, workers.first
        self.pool = Pool(out / "right.jsonl", write=first) if t.warm_start else None
        chooses = t.drop_solved is not None or t.resample > 0
        visits = out / "visits.jsonl"
        self.selection = Selection(self.schedule, t.drop_solved, visits, start, write=first) if chooses else None

    def rate(self, step: int) -> float:
        return learning_rate(self.config, step, self.start)

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        t, seed, chosen = self.config.train, self.config.seed, self.selection
        pool = self.pool if step <= t.warm_start else None
        if pool is not None and t.warm_start_until is not None and pool.best >= t.warm_start_until:
            pool = None
        result = train_step(
            self.network,
            optimizer,
            self.task,
            self.schedule.questions(step) if chosen is None else chosen.next(t.questions),
            t,
            step=step,
            seed=seed,
            baseline=baseline,
            absent=absent(self.stage, step - self.start, t.node_dropout, seed=seed, step=step),
            more=None if chosen is None else chosen.next,
            pool=pool,
            workers=self.workers,
        )
        if chosen is not None:
            G, traces, grades = t.rollouts, result.traces, result.grades
            right = [all(g.reward == 1 for g in grades[i : i + G]) for i in range(0, len(grades), G)]
            mine = list(zip([trace.question_id for trace in traces[::G]], right, strict=True))
            chosen.done(step, [group for share in self.workers.gather(mine) for group in share])
        return result


def staged_task(config: RunConfig, stage: Stage) -> Task | None:
    """The task whose training questions a stage asks; None where it is the run's own."""
    name, options = stage.settings.task, stage.settings.options
    if name is None and not options:
        return None
    staged = TaskConfig(name=name or config.task.name, options=options if name else config.task.options | options)
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
    return Joint(config, out, system, task, stage or stages_of(config)[0], start, workers)
