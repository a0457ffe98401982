"""A training run under way: opened from a folder, advanced step by step and stage by stage, saved to it."""

from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from neuromas.config import RunConfig
from neuromas.errors import DivergenceError
from neuromas.evaluate.room import check_prompts
from neuromas.evaluate.run import evaluate
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.wording import Words
from neuromas.results import ValidationMetrics
from neuromas.run import checkpoint
from neuromas.run.build import build, fill_adapters, optimizer_of
from neuromas.run.carry import wording
from neuromas.run.checkpoint import Trained
from neuromas.run.folder import (
    NEWEST,
    Resumption,
    as_begun,
    check_questions,
    continued,
    keep_validated,
    prepare,
    saved,
)
from neuromas.run.method import Method, method_of
from neuromas.run.progress import Progress
from neuromas.run.stages import Stage, check_growth, growth_record, stages_of, without_files
from neuromas.tasks.base import SPLITS, Task
from neuromas.train.ablation import silencing
from neuromas.train.optimizer import NodeAdamW
from neuromas.train.step import StepResult
from neuromas.train.transplant import transplant
from neuromas.workers import ALONE, Workers


def settled(config: RunConfig, network: Trained) -> RunConfig:
    """The settings of a run that begins, with those that were left to the backbone and to the day."""
    if config.adapter.targets is None:
        config = config.with_settings("adapter", targets=network.backbone.targets)
    if isinstance(network, Network) and network.backbone.template.is_dated and not config.prompt.date:
        config = config.with_settings("prompt", date=date.today())
        network.words = Words.of(config.prompt, network.backbone.template.style)
    return config


@dataclass
class Session:
    """A training run under way: what is trained, how, and how far it has come."""

    config: RunConfig
    out: Path
    stages: list[Stage]
    progress: Progress
    network: Trained
    task: Task
    optimizer: NodeAdamW
    method: Method
    workers: Workers = ALONE
    questions: dict[str, str] = field(default_factory=dict[str, str])  # the task's fingerprint

    @classmethod
    def open(
        cls,
        config: RunConfig,
        out: Path,
        resume: bool,
        backbone: Backbone | None = None,
        workers: Workers = ALONE,
        task: Task | None = None,
        how: Resumption = NEWEST,
    ) -> "Session":
        """Prepare the run folder, or restore from it. backbone, task: loaded already; None: those of the settings.

        how: where a run is resumed, from which checkpoint, and whether changed questions are accepted.
        """
        config.check_workers(workers.size)
        config = without_files(config)
        newest = workers.from_first(lambda: continued(config, out, resume, how.step))
        with workers.together():
            stages = stages_of(config)
            if newest is None:  # what is under way goes on
                check_growth(stages)
            else:
                config = as_begun(config, out)
            progress = Progress() if newest is None else checkpoint.progress_of(newest, len(stages))
            network, task = build(config, backbone, stages[progress.stage].topology, task)
            if newest is None:
                config = settled(config, network)
            network.backbone.checkpoint_gradients(config.train.gradient_checkpointing)
            if newest is None:
                fill_adapters(config, network)
            if isinstance(network, Network):
                check_prompts(network, task, [question for split in SPLITS for question in task.questions(split)])
            optimizer, questions = optimizer_of(config, network), task.fingerprint()
            if newest is not None:
                checkpoint.load(newest, network, optimizer)
                changed = check_questions(questions, newest, how.accept_changes)
                progress.changes += [f"from step {progress.step}: {change}" for change in changed]
        workers.from_first(lambda: prepare(config, out, progress, newest, wording(task, config).to_dict()))
        method = method_of(config, out, network, task, stages[progress.stage], progress.stage_start, workers)
        return cls(config, out, stages, progress, network, task, optimizer, method, workers, questions)

    @property
    def stage(self) -> Stage:
        return self.stages[self.progress.stage]

    def stage_is_over(self) -> bool:
        progress, patience = self.progress, self.config.train.patience
        if patience is not None and progress.stale >= patience:
            return True
        return self.stage.over(progress.recent, progress.step - progress.stage_start)

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
            self.progress.lineage.append(growth_record(self.stage, self.progress.step))
        start = self.progress.stage_start
        self.method = method_of(self.config, self.out, self.network, self.task, self.stage, start, self.workers)
        self.save()
        return True

    def step(self, step: int) -> StepResult:
        """Do a step. Raises `DivergenceError`, with the batch on disk, where a number is not finite."""
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
        metrics = replace(result.metrics, learning_rate=rate)
        if metrics.reward is not None:
            progress.take(metrics.reward, self.stage.settings.window)
        if self.config.stages:
            metrics = replace(metrics, stage=self.stage.number, alpha=self.stage.alpha(k))
        return replace(result, metrics=metrics)

    def validate(self) -> ValidationMetrics:
        """Ask the validation questions greedily; remember the best accuracy, and keep the first traces."""
        t = self.config.train
        evaluation = evaluate(self.network, self.task, "validation", t.validation_questions, workers=self.workers)
        result = evaluation.result
        self.progress.stale = 0 if result.accuracy > self.progress.best_validation else self.progress.stale + 1
        if result.accuracy >= self.progress.best_validation:  # of equals the later: it has learned longer
            self.progress.best_validation, self.progress.best_step = result.accuracy, self.progress.step
        if self.workers.first:
            keep_validated(self.out, self.progress.step, evaluation.questions, evaluation)
        silenced = None
        if isinstance(self.network, Network) and t.silence_questions:
            traces = evaluation.traces[: t.silence_questions]
            asked = evaluation.questions[: len(traces)]
            silenced = silencing(self.network, self.task, asked, traces, self.workers)
        return ValidationMetrics(
            accuracy=result.accuracy,
            ci95=result.ci95,
            n=result.n,
            parse_rate=result.parse_rate,
            top_answer=result.top_answer,
            silenced=silenced,
        )

    def save(self) -> None:
        """Write a checkpoint, mark it where it is the best, and delete old ones; the first worker does it for all."""
        self.workers.from_first(self._save)

    def _save(self) -> None:
        folder = self.out / "checkpoints"
        try:
            written = checkpoint.save(folder, self.network, self.optimizer, self.progress, self.questions)
        except DivergenceError as error:
            raise saved(error, self.out, self.progress.step) from error
        if self.progress.is_best:
            checkpoint.mark_best(self.out, written)
        checkpoint.prune(folder, self.config.train.keep_checkpoints, self.out / "best")
