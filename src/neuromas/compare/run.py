"""A comparison from its plan to its report: what is done already is never done again.

Three waves, each handed out to the workers, the longest jobs first: train every system at every learning rate with the
first seed, fit what is fitted, and ask what is neither; train at the chosen rate with the other seeds; ask the rest.
A training is resumed from its checkpoint; answers are kept chunk by chunk.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from neuromas.compare.meter import Meter, OnJob, weight
from neuromas.compare.plan import Contender, Plan, Row, make_plan, unequal
from neuromas.compare.spec import Spec, TaskEntry
from neuromas.compare.store import CHUNK, Store, check_same, lock
from neuromas.compare.work import Chunk, Trial, answer, prepare, start_worker
from neuromas.errors import ClusterError, ConfigError, NeuromasError
from neuromas.results import CellRecord
from neuromas.tasks import load_task
from neuromas.types import Floors

HandOut = Callable[  # does jobs; yields each with its result, or error, as it ends
    [list[Trial | Chunk]], Iterator[tuple[Trial | Chunk, Any]]
]


def run(
    spec: Spec,
    out: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    on_job: OnJob | None = None,
    cluster: AbstractContextManager[HandOut] | None = None,
) -> None:
    """Do all that is still to be done of a comparison in the folder `out`, up to its two files of JSON lines.

    workers: number of processes; 1 means this one alone. threads: CPU threads of each; numbers are equal only where
    they stay the same from session to session. cluster: does the jobs in place of processes of this machine.
    Raises ConfigError for a folder of another comparison, and the first error of a job once its wave is over.
    """
    plan = make_plan(spec)
    held = lock(out)
    check_same(spec, out)
    store = Store(out)
    try:
        with cluster or _workers(out, workers, threads) as hand_out:
            agenda = _Agenda(plan, out, store)
            done = sum(map(weight, agenda.jobs(done=True)))
            total = done + sum(map(weight, agenda.jobs(done=False)))
            with Meter(on_job, done, total) as meter:
                for wave in (agenda.first, agenda.later_seeds, agenda.rest):
                    jobs = sorted((job for job in wave() if not agenda.done(job)), key=weight, reverse=True)
                    errors: list[NeuromasError] = []
                    meter.begin(jobs)
                    for job, outcome in hand_out(jobs):
                        if isinstance(outcome, NeuromasError):
                            errors.append(outcome)
                        elif isinstance(job, Chunk):
                            store.add(*outcome)
                        meter.end(job, _name(job))
                    if errors:
                        raise errors[0]
        store.finish([cell for _, cell, _ in agenda.cells()])
    finally:
        store.close()
        if held is not None:
            held.close()


class _Agenda:
    """The jobs of a comparison, and which of them are done."""

    def __init__(self, plan: Plan, out: Path, store: Store) -> None:
        self.plan, self.spec, self.out, self.store = plan, plan.spec, out, store
        self.listed: set[str] = set()  # titles of tasks whose possible answers can be listed
        self.questions: dict[str, tuple[int, int, Floors]] = {}  # By task's title: its version, n, floors.
        self.thinking: dict[str, bool | None] = {}  # By task's title: does the grader read answers behind thoughts?
        for entry in self.spec.tasks:
            task = load_task(entry.name, **entry.options)
            questions = task.questions(self.spec.split)[: entry.questions]
            if all(task.choices(question) for question in questions):
                self.listed.add(entry.title)
            if any(contender.thinks for contender in plan.contenders):
                self.thinking[entry.title] = task.counts_thinking()
            self.questions[entry.title] = task.version, len(questions), task.floors(self.spec.split, entry.questions)
        for contender in plan.contenders:
            if contender.listed and not self.listed:
                raise ConfigError(
                    f"systems.{contender.name} scores possible answers, and no task here lists them; leave it out, or "
                    "add a task with options, such as arc-challenge"
                )

    def first(self) -> list[Trial | Chunk]:
        """Jobs that wait for no other."""
        prepared = [
            Trial(self.out, contender, task, seed, rate)
            for contender in self.plan.contenders
            if contender.trained or contender.fitted
            for task in self.spec.tasks
            for seed in (self.spec.seeds if contender.fitted else self.spec.seeds[:1])
            for rate in (self.spec.learning_rates if contender.trained else (None,))
        ]
        return [*prepared, *self._chunks(prepared=False)]

    def later_seeds(self) -> list[Trial | Chunk]:
        """The trainings at the chosen rate with all seeds but the first."""
        return [
            Trial(self.out, contender, task, seed, self.rate(contender, task))
            for contender in self.plan.contenders
            if contender.trained
            for task in self.spec.tasks
            for seed in self.spec.seeds[1:]
        ]

    def rest(self) -> list[Trial | Chunk]:
        """The questions to what is trained or fitted."""
        return self._chunks(prepared=True)

    def jobs(self, done: bool) -> list[Trial | Chunk]:
        """All jobs that are done, or not; those at a rate not chosen yet as if it were the first of the grid."""
        return [job for wave in (self.first, self.later_seeds, self.rest) for job in wave() if self.done(job) == done]

    def done(self, job: Trial | Chunk) -> bool:
        if isinstance(job, Trial):
            return job.training is not None
        return self.store.has(job.cell.key, job.number)

    def validations(self, contender: Contender, task: TaskEntry) -> dict[float, float]:
        """Learning rate → validation accuracy with the first seed, of the trainings that have ended."""
        scores: dict[float, float] = {}
        for rate in self.spec.learning_rates:
            training = Trial(self.out, contender, task, self.spec.seeds[0], rate).training
            if training is not None:
                scores[rate] = training.validation
        return scores

    def rate(self, contender: Contender, task: TaskEntry) -> float:
        """The learning rate of the highest validation, of equals the smaller."""
        scores = self.validations(contender, task) or {self.spec.learning_rates[0]: 0.0}
        return max(scores, key=lambda rate: (scores[rate], -rate))

    def cell(self, trial: Trial, row: Row) -> CellRecord:
        """A cell as far as it is known without asking its system."""
        trained = trial.rate is not None
        training = trial.training if trained else None
        scores = self.validations(trial.contender, trial.task) if trained else {}
        version, n, floors = self.questions[trial.task.title]
        return CellRecord(
            comparison=self.spec.title,
            system=row.name,
            task=trial.task.title,
            seed=trial.seed,
            split=self.spec.split,
            task_version=version,
            n=n,
            floors=floors,
            backbone=self.spec.backbone.name,
            about=row.about,
            control_for=row.control_for,
            reference=row.reference,
            delivery=row.variant.delivery,
            samples=self.plan.samples[trial.contender.name] if trained else 0,
            matched_samples=not unequal(self.plan.samples.values()),
            learning_rate=trial.rate,
            validation_by_rate={f"{rate:g}": value for rate, value in scores.items()},
            note="; ".join(filter(None, [training.note if training else "", self._thinking(trial)])),
        )

    def _thinking(self, trial: Trial) -> str:
        """The note for readers on a system that may think aloud."""
        counts = self.thinking.get(trial.task.title) if trial.contender.thinks else None
        told = {True: "the grader reads an answer behind thoughts", False: "the grader reads none behind thoughts"}
        return "" if counts is None else told[counts]

    def cells(self) -> Iterator[tuple[Trial, CellRecord, Row]]:
        """Every cell in the order of the report: task by task, row by row, seed by seed."""
        for task in self.spec.tasks:
            for row in self.plan.rows:
                if task.title in self.listed or not row.contender.listed:  # else it cannot answer this task
                    for trial in self._trials(row, task):
                        yield trial, self.cell(trial, row), row

    def _trials(self, row: Row, task: TaskEntry) -> list[Trial]:
        """The systems that answer in a row, one for each seed; one alone where seeds make no difference."""
        seeds = self.spec.seeds[:1] if row.untrained or row.contender.repeats else self.spec.seeds
        rate = self.rate(row.contender, task) if row.contender.trained and row.prepared else None
        return [Trial(self.out, row.contender, task, seed, rate) for seed in seeds]

    def _chunks(self, prepared: bool) -> list[Trial | Chunk]:
        """The questions to the rows that answer only after a training or fitting, or to the others."""
        return [
            Chunk(trial, cell, row.variant, self.spec.split, number)
            for trial, cell, row in self.cells()
            if row.prepared == prepared
            for number in range(-(-cell.n // CHUNK))
        ]


def _name(job: Trial | Chunk) -> str:
    if isinstance(job, Chunk):
        return f"answers of {job.cell.system}, {job.trial.task.title}"
    return f"prepared {job.contender.name}, seed {job.seed}, {job.task.title}"


def do(job: Trial | Chunk) -> Any:
    """A job's result, or the error that a person can mend: the other jobs go on."""
    try:
        return answer(job) if isinstance(job, Chunk) else prepare(job)
    except NeuromasError as error:
        return type(error)(f"{_name(job)}: {error}")


@contextmanager
def _workers(out: Path, workers: int, threads: int) -> Iterator[HandOut]:
    """Hands jobs to processes of this machine."""
    if workers == 1:
        torch.set_num_threads(threads)
        yield lambda jobs: ((job, do(job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=start_worker, initargs=(out, threads)
    )

    def hand_out(jobs: list[Trial | Chunk]) -> Iterator[tuple[Trial | Chunk, Any]]:
        futures = {pool.submit(do, job): job for job in jobs}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool as error:
                raise ClusterError(
                    "a worker's process ended in the middle of a job; see whether memory is left, or "
                    "mend what ended it, then start again: what is done is kept"
                ) from error

    try:
        yield hand_out
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
