"""A comparison from its plan to its report: what is done already is never done again.

Three waves, each handed out to the workers, the longest jobs first: train every system at every learning rate with the
first seed, fit what is fitted, and ask what is neither; train at the chosen rate with the other seeds; ask the rest.
A training is resumed from its checkpoint; answers are kept chunk by chunk.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from neuromas.compare.plan import Plan, Row, Source, make_plan, unequal
from neuromas.compare.spec import Spec, TaskEntry
from neuromas.compare.store import CHUNK, Store, check_same, lock
from neuromas.compare.work import Chunk, Run, answer, prepare, start_worker
from neuromas.errors import ConfigError, NeuromasError
from neuromas.evaluate.table import Key
from neuromas.network.topology import Topology
from neuromas.run.stages import calls_of
from neuromas.tasks import load_task

Job = Run | Chunk
Watch = Callable[[str, float, float], None]  # (what was done last, work done, work in all); work is about calls
HandOut = Callable[
    [list[Job]], Iterator[tuple[Job, Any]]
]  # does jobs; yields each with its result, or error, as it ends
_GUESS = 5  # calls of a baseline's question, for the time left only


def run(
    spec: Spec,
    out: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    watch: Watch | None = None,
    crew: AbstractContextManager[HandOut] | None = None,
) -> None:
    """Do all that is still to be done of a comparison in the folder `out`, up to its two files of JSON lines.

    workers: processes; 1 works in this one. threads: of each; the same number in every session, for equal numbers.
    crew: who does the jobs instead of such processes.
    Raises ConfigError for a folder of another comparison, and the first error of a job once its wave is over.
    """
    plan = make_plan(spec)
    held = lock(out)
    check_same(spec, out)
    store = Store(out)
    try:
        with crew or _workers(out, workers, threads) as hand_out:
            work = _Work(plan, out, store)
            ended = sum(map(_weight, work.jobs(done=True)))
            total = ended + sum(map(_weight, work.jobs(done=False)))
            for wave in (work.first, work.later_seeds, work.rest):
                jobs = sorted((job for job in wave() if not work.done(job)), key=_weight, reverse=True)
                errors: list[NeuromasError] = []
                for job, found in hand_out(jobs):
                    if isinstance(found, NeuromasError):
                        errors.append(found)
                    elif isinstance(job, Chunk):
                        store.add(work.facts(job.run, job.row) | found[0], found[1])
                    ended += _weight(job)
                    if watch is not None:
                        watch(_name(job), ended, total)
                if errors:
                    raise errors[0]
        store.finish(work.all_facts())
    finally:
        store.close()
        if held is not None:
            held.close()


class _Work:
    """What there is to do, and what of it is done."""

    def __init__(self, plan: Plan, out: Path, store: Store) -> None:
        self.plan, self.spec, self.out, self.store = plan, plan.spec, out, store
        tasks = {entry.title: load_task(entry.name, **entry.options) for entry in self.spec.tasks}
        asked = {t.title: tasks[t.title].questions(self.spec.split)[: t.questions] for t in self.spec.tasks}
        self.n = {title: len(questions) for title, questions in asked.items()}
        self.listed = {title for title, some in asked.items() if all(tasks[title].choices(q) for q in some)}
        for source in plan.sources:
            if source.listed and not self.listed:
                raise ConfigError(
                    f"systems.{source.name} scores possible answers, and no task here lists them; leave it out, or add "
                    "a task with options, such as arc-challenge"
                )
        self.of_task = {
            t.title: {
                "split": self.spec.split,
                "task_version": tasks[t.title].version,
                "n": self.n[t.title],
                "floors": asdict(tasks[t.title].floors(self.spec.split, t.questions)),
            }
            for t in self.spec.tasks
        }

    def first(self) -> list[Job]:
        """Nothing comes before these."""
        prepared = [
            Run(self.out, source, task, seed, rate)
            for source in self.plan.sources
            if source.trained or source.fitted
            for task in self.spec.tasks
            for seed in (self.spec.seeds if source.fitted else self.spec.seeds[:1])
            for rate in (self.spec.learning_rates if source.trained else (None,))
        ]
        return [*prepared, *self._chunks(lambda source: not (source.trained or source.fitted))]

    def later_seeds(self) -> list[Job]:
        """The trainings at the chosen rate with all seeds but the first."""
        return [
            Run(self.out, source, task, seed, self.rate(source, task))
            for source in self.plan.sources
            if source.trained
            for task in self.spec.tasks
            for seed in self.spec.seeds[1:]
        ]

    def rest(self) -> list[Job]:
        """The questions to what is trained or fitted."""
        return self._chunks(lambda source: source.trained or source.fitted)

    def jobs(self, done: bool) -> list[Job]:
        """All jobs that are done, or not; those at a rate not chosen yet as if it were the first of the grid."""
        return [job for wave in (self.first, self.later_seeds, self.rest) for job in wave() if self.done(job) == done]

    def done(self, job: Job) -> bool:
        if isinstance(job, Run):
            return job.training is not None
        return self.store.has((job.row, job.run.task.title, job.run.seed), job.number)

    def validations(self, source: Source, task: TaskEntry) -> dict[float, float]:
        """Learning rate → validation accuracy with the first seed, of those trained."""
        runs = [Run(self.out, source, task, self.spec.seeds[0], rate) for rate in self.spec.learning_rates]
        return {run.rate: t.validation for run in runs if run.rate is not None and (t := run.training) is not None}

    def rate(self, source: Source, task: TaskEntry) -> float | None:
        """The learning rate of the highest validation, of equals the smaller; None for what is not trained."""
        if not source.trained:
            return None
        found = self.validations(source, task) or {self.spec.learning_rates[0]: 0.0}
        return max(found, key=lambda rate: (found[rate], -rate))

    def facts(self, run: Run, row: str) -> dict[str, Any]:
        """What is known of a cell without asking it."""
        of_row = next(r for r in self.plan.rows if r.name == row)
        training = run.training if run.source.trained else None
        found = self.validations(run.source, run.task) if run.source.trained else {}
        return {
            "comparison": self.spec.title,
            "system": row,
            "task": run.task.title,
            "seed": run.seed,
            **self.of_task[run.task.title],
            "backbone": self.spec.backbone.name,
            "about": about(of_row),
            "control_for": of_row.control_for,
            "reference": of_row.reference,
            "delivery": "blanked" if of_row.blank else "as sent",
            "samples": self.plan.samples.get(run.source.name, 0),
            "matched_samples": not unequal(self.plan.samples.values()),
            "learning_rate": run.rate,
            "validation_by_rate": {f"{rate:g}": value for rate, value in found.items()},
            "note": training.note if training else "",
        }

    def all_facts(self) -> dict[Key, dict[str, Any]]:
        """Of every cell, in the order of the report: task by task, row by row, seed by seed."""
        cells = [(run, row) for task in self.spec.tasks for row in self._rows(task) for run in self._runs(row, task)]
        return {(row.name, run.task.title, run.seed): self.facts(run, row.name) for run, row in cells}

    def _rows(self, task: TaskEntry) -> list[Row]:
        """The rows of one task: all but those that cannot answer it."""
        return [row for row in self.plan.rows if task.title in self.listed or not row.source.listed]

    def _runs(self, row: Row, task: TaskEntry) -> list[Run]:
        seeds = self.spec.seeds[:1] if row.source.repeats else self.spec.seeds
        return [Run(self.out, row.source, task, seed, self.rate(row.source, task)) for seed in seeds]

    def _chunks(self, wanted: Callable[[Source], bool]) -> list[Job]:
        return [
            Chunk(run, row.name, row.votes, row.blank, self.spec.split, number, self.n[task.title])
            for task in self.spec.tasks
            for row in self._rows(task)
            if wanted(row.source)
            for run in self._runs(row, task)
            for number in range(-(-self.n[task.title] // CHUNK))
        ]


def about(row: Row) -> str:
    """What a row is, in a few words."""
    source = row.source
    if source.baseline:
        options = ", ".join(f"{k}={v}" for k, v in {**source.options, **source.fit}.items())
        return f"baseline {source.baseline}" + (f" ({options})" if options else "")
    topology, adapter = source.settings.get("topology", ""), source.settings["adapter"]
    shape = topology if isinstance(topology, str) else Topology.parse(topology).name
    grown = [stage["topology"] for stage in source.settings.get("stages", ()) if "topology" in stage]
    shape = (
        " " + " → ".join([shape, *(t if isinstance(t, str) else Topology.parse(t).name for t in grown)])
        if shape
        else ""
    )
    rank = f", rank {adapter['rank']}" if "rank" in adapter else ""
    return f"trained {source.kind}{shape}{rank}" + (", one adapter" if adapter.get("tied") else "")


def _nodes(run: Run) -> int:
    source = run.source
    return calls_of(source.config(run.task, run.seed, run.rate)) if source.trained else _GUESS


def _weight(job: Job) -> float:
    """About how many calls a job makes; a trained one counts three times."""
    run = job.run if isinstance(job, Chunk) else job
    if isinstance(job, Chunk):
        return min(CHUNK, job.n) * job.votes * _nodes(run)
    if not run.source.trained:
        return 800.0 * _nodes(run)
    config = run.source.config(run.task, run.seed, run.rate)
    checks = (config.train.steps // config.train.validate_every + 1) * config.train.validation_questions
    return _nodes(run) * (3.0 * config.samples + checks)


def _name(job: Job) -> str:
    run = job.run if isinstance(job, Chunk) else job
    what = job.row if isinstance(job, Chunk) else f"{job.source.name}, seed {job.seed}"
    return f"{'answers of' if isinstance(job, Chunk) else 'prepared'} {what}, {run.task.title}"


def do(job: Job) -> Any:
    """A job's result, or the error that a person can mend: the other jobs go on."""
    try:
        return answer(job) if isinstance(job, Chunk) else prepare(job)
    except NeuromasError as error:
        return type(error)(f"{_name(job)}: {error}")


@contextmanager
def _workers(out: Path, workers: int, threads: int) -> Iterator[HandOut]:
    """Processes of this machine."""
    if workers == 1:
        torch.set_num_threads(threads)
        yield lambda jobs: ((job, do(job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=start_worker, initargs=(out, threads)
    )

    def hand_out(jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        futures = {pool.submit(do, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()

    try:
        yield hand_out
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
