"""A training run: a folder, a loop over steps, validation, checkpoints, and resuming to the same numbers.

What a step does is the method's: `train_step` for a network, a file in methods/ for a trained baseline.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, DivergenceError
from neuromas.evaluate.run import evaluate
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.tasks import load_task
from neuromas.tasks.base import Task
from neuromas.train import checkpoint, critic
from neuromas.train.checkpoint import Progress, Trained
from neuromas.train.engine import engaged
from neuromas.train.folder import Logger, Watch, continued, keep_samples, keep_validated, prepare, saved, saved_config
from neuromas.train.methods.collm import Collm, CollmTraining
from neuromas.train.methods.malt import Malt, MaltTraining
from neuromas.train.optimizer import NodeAdamW
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.train.silence import silencing
from neuromas.train.stages import Stage, absent, check_growth, lineage, stages_of, without_files
from neuromas.train.step import StepResult, train_step
from neuromas.train.transplant import transplant
from neuromas.workers import ALONE, Workers


class Method(Protocol):
    """A way of training a system."""

    def rate(self, step: int) -> float:
        """The learning rate of `step` (from 1)."""
        ...

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        """Do it. baseline: mean reward of earlier steps. Raises `DivergenceError` before anything is changed."""
        ...


class Joint:
    """This library's own method: one joint step of all nodes, or of a single model (topology "single")."""

    def __init__(
        self, config: RunConfig, network: Network, task: Task, stage: Stage, start: int, workers: Workers
    ) -> None:
        """stage: what is trained after step `start`; on the questions of `task`, or of one with other options."""
        own = stage.settings.learning_rate or config.train.learning_rate
        self.config = config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": own})})
        self.network, self.stage, self.start, self.workers = network, stage, start, workers
        options = stage.settings.options
        self.task = load_task(config.task.name, **(config.task.options | options)) if options else task
        self.schedule = Schedule(self.task.questions("train"), config)

    def rate(self, step: int) -> float:
        return learning_rate(self.config, step, self.start)

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        t, seed = self.config.train, self.config.seed
        asked = self.schedule.questions(step)
        missing = absent(self.stage, step - self.start, t.node_dropout, seed=seed, step=step)
        how: dict[str, Any] = {"step": step, "seed": seed, "baseline": baseline, "absent": missing}
        return train_step(self.network, optimizer, self.task, asked, t, **how, workers=self.workers)


def method_of(
    config: RunConfig,
    out: Path,
    system: Trained,
    task: Task,
    stage: Stage | None = None,
    start: int = 0,
    workers: Workers = ALONE,
) -> Method:
    """How `system` is trained; `out` is the run's folder, where a method may keep what it samples.

    stage: the one that began after step `start`; None: the first.
    """
    if isinstance(system, Malt):
        return MaltTraining(config, out, system, task)
    if isinstance(system, Collm):
        return CollmTraining(config, out, system, task)
    assert isinstance(system, Network)
    return Joint(config, system, task, stage or stages_of(config)[0], start, workers)


def build(
    config: RunConfig, backbone: Backbone | None = None, topology: Topology | None = None
) -> tuple[Trained, Task]:
    """The untrained system and the task of a run. A backbone already loaded may be shared.

    topology: of a network; None: the one it begins with.
    """
    task = load_task(config.task.name, **config.task.options)
    if backbone is None:
        b = config.backbone
        backbone = Backbone.load(b.name, device=b.device, dtype=b.dtype, style=b.style)
    s = config.sampling
    limits = Limits(s.message_tokens, s.answer_tokens or task.max_answer_tokens, s.batch_rows)
    if config.method == "malt":
        return Malt.create(config, backbone, limits), task
    if config.method == "collm-cc":
        return Collm.create(config, backbone, limits, lambda q, text: task.grade(q, text).parsed), task
    network = Network.create(
        topology or stages_of(config)[0].topology,
        backbone,
        rank=config.adapter.rank,
        alpha=config.adapter.alpha,
        targets=config.adapter.targets,
        tied=config.adapter.tied,
        seed=config.seed,
        limits=limits,
        decoding=Decoding(temperature=s.temperature, top_p=s.top_p),
    )
    if config.train.estimator == "critic":
        critic.attach(network)
    return network, task


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    backbone: Backbone | None = None,
    watch: Watch | None = None,
    workers: Workers = ALONE,
) -> tuple[Trained, Task]:
    """Run or continue a training run in the folder `out`; returns the network, or team, as of the last step.

    A run that was killed continues, with resume=True, to the same numbers as an undisturbed one: only the step
    under way is lost. workers: this process among those that train it, all in the same folder; their number may change
    from one continuation to the next. Raises `CheckpointError` when `out` holds another run, `DivergenceError` on NaN
    or infinity.
    """
    run = Run.open(config, out, resume, backbone, workers)
    with engaged(run):
        return _train(run, watch)


def _train(run: "Run", watch: Watch | None) -> tuple[Trained, Task]:
    out, progress, t, workers = run.out, run.progress, run.config.train, run.workers
    logger = Logger(out, watch, silent=not workers.first)
    lines = workers.from_first(lambda: read_json_lines(out / "metrics.jsonl"))
    if progress.step == 0 and not lines:
        logger.log({"step": 0} | run.validate())
        run.save()  # the untrained network may stay the best one

    spent = sum(sum(r["seconds"].values()) for r in lines if "seconds" in r)
    budget = t.stop_after_seconds or math.inf
    while progress.step < t.steps and spent < budget and run.advance():
        step = progress.step + 1
        line, result = run.step(step)
        spent += workers.gather(sum(result.metrics["seconds"].values()))[0]
        check = step % t.validate_every == 0 or step == t.steps or spent >= budget or run.stage_is_over()
        if check:
            line |= run.validate()
            if workers.first:
                keep_samples(out, step, result)
        logger.log(line)
        if check or step % t.checkpoint_every == 0:
            run.save()
    logger.close()
    return run.network, run.task


@dataclass
class Run:
    """A run under way: what is trained, how, and how far it has come."""

    config: RunConfig
    out: Path
    stages: list[Stage]
    progress: Progress
    network: Trained
    task: Task
    optimizer: NodeAdamW
    method: Method
    workers: Workers = ALONE

    @classmethod
    def open(
        cls, config: RunConfig, out: Path, resume: bool, backbone: Backbone | None = None, workers: Workers = ALONE
    ) -> "Run":
        """Prepare the run folder, or restore from it."""
        config.check_workers(workers.size)
        config = without_files(config)
        newest = workers.from_first(lambda: continued(config, out, resume))
        with workers.together():
            stages = stages_of(config)
            if newest is None:  # what is under way goes on
                check_growth(stages)
            progress = Progress() if newest is None else checkpoint.progress_of(newest, len(stages))
            network, task = build(config, backbone, stages[progress.stage].topology)
            network.backbone.checkpoint_gradients(config.train.gradient_checkpointing)
            optimizer = optimizer_of(config, network)
            if newest is not None:
                checkpoint.load(newest, network, optimizer)
        workers.from_first(lambda: prepare(config, out, progress, newest))
        method = method_of(config, out, network, task, stages[progress.stage], progress.stage_start, workers)
        return cls(config, out, stages, progress, network, task, optimizer, method, workers)

    @property
    def stage(self) -> Stage:
        return self.stages[self.progress.stage]

    def stage_is_over(self) -> bool:
        return self.stage.over(self.progress.recent, self.progress.step - self.progress.stage_start)

    def advance(self) -> bool:
        """Go to the next stage where the present one is over; False where there is none."""
        if not self.stage_is_over():
            return True
        if self.progress.stage + 1 == len(self.stages):
            return False
        self.progress.begin_stage()
        if self.stage.growth is not None:
            assert isinstance(self.network, Network)
            init, state = self.stage.settings.init, self.optimizer.tensors()
            self.network = transplant(self.network, self.stage.growth, init, self.config.seed)
            self.optimizer = optimizer_of(self.config, self.network)
            self.optimizer.fill(state)
            self.progress.lineage.append(lineage(self.stage, self.progress.step))
        start = self.progress.stage_start
        self.method = method_of(self.config, self.out, self.network, self.task, self.stage, start, self.workers)
        self.save()
        return True

    def step(self, step: int) -> tuple[dict[str, Any], StepResult]:
        """Do a step; the line that tells of it."""
        k, progress = step - self.progress.stage_start, self.progress
        rate = self.method.rate(step)
        self.optimizer.set_rates(rate, self.stage.scales(k))
        try:
            result = self.method.step(self.optimizer, step, progress.baseline)
        except DivergenceError as error:
            if not self.workers.first:
                raise
            raise saved(error, self.out, step) from error
        progress.step = step
        if "reward" in result.metrics:
            progress.take(result.metrics["reward"], self.stage.settings.window)
        staged = {"stage": self.stage.number, "alpha": self.stage.alpha(k)} if self.config.stages else {}
        return {"step": step, "learning_rate": rate, **staged, **result.metrics}, result

    def validate(self) -> dict[str, Any]:
        """Greedy accuracy on the validation split, for the step's line; remembers the best, keeps the first traces."""
        t = self.config.train
        evaluation = evaluate(self.network, self.task, "validation", t.validation_questions, workers=self.workers)
        found = evaluation.result
        if found["accuracy"] >= self.progress.best_validation:  # of equals the later: it has learned longer
            self.progress.best_validation, self.progress.best_step = found["accuracy"], self.progress.step
        if self.workers.first:
            keep_validated(self.out, self.progress.step, self.task.questions("validation"), evaluation)
        line = {k: found[k] for k in ("accuracy", "ci95", "n", "parse_rate", "top_answer")}
        if isinstance(self.network, Network) and t.silence_questions:
            traces = evaluation.traces[: t.silence_questions]
            asked = self.task.questions("validation")[: len(traces)]
            line["silenced"] = silencing(self.network, self.task, asked, traces, self.workers)
        return {"validation": line}

    def save(self) -> None:
        """Write a checkpoint, mark it where it is the best, and delete old ones; the first worker does it for all."""
        if not self.workers.first:
            return
        folder = self.out / "checkpoints"
        written = checkpoint.save(folder, self.network, self.optimizer, self.progress)
        if self.progress.is_best:
            checkpoint.mark_best(self.out, written)
        checkpoint.prune(folder, self.config.train.keep_checkpoints, self.out / "best")


def optimizer_of(config: RunConfig, network: Trained) -> NodeAdamW:
    t = config.train
    return NodeAdamW(network.adapters, network.extras, betas=t.betas, weight_decay=t.weight_decay)


def load_run(run: Path, which: str = "best", backbone: Backbone | None = None) -> tuple[Trained, Task, RunConfig]:
    """The network, or team, of a finished or running run: "best" (on validation) or "last"."""
    config = saved_config(run)
    folder = checkpoint.chosen(run, which)
    if folder is None:
        raise CheckpointError(f"{run} holds no checkpoint yet; wait for its first step")
    network, task = build(config, backbone, checkpoint.topology_of(folder) if config.method == "neuromas" else None)
    checkpoint.load(folder, network)
    network.name = f"{run.name} ({which})"
    return network, task, config
