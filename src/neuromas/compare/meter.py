"""The progress of a comparison, told every second: trainings that are under way count by their steps."""

import json
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Self

from neuromas.compare.store import CHUNK
from neuromas.compare.work import Chunk, Trial
from neuromas.run.stages import calls_of

OnJob = Callable[[str, float, float], None]  # (what goes on, work done, work in all); work is about calls
_GUESS = 5  # calls of a baseline's question, for the time left only


class Meter:
    """Calls a function with the work done so far, at once, every second, and after every job."""

    def __init__(self, on_job: OnJob | None, done: float, total: float) -> None:
        self._on_job, self._done, self._total = on_job, done, total
        self._waiting: list[Trial | Chunk] = []
        self._last, self._over, self._lock = "starting", Event(), Lock()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._on_job is not None:
            self._tell()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def begin(self, jobs: list[Trial | Chunk]) -> None:
        """These are to be done next."""
        with self._lock:
            self._waiting = list(jobs)

    def end(self, job: Trial | Chunk, name: str) -> None:
        """A job is done."""
        with self._lock:
            self._waiting.remove(job)
            self._done, self._last = self._done + weight(job), name
        self._tell()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            self._tell()

    def _tell(self) -> None:
        if self._on_job is not None:
            with self._lock:
                under_way = [(job, *found) for job in self._waiting if (found := _state_of(job)) is not None]
                done = self._done + sum(weight(job) * share for job, share, _ in under_way)
                self._on_job("; ".join(said for *_, said in under_way) or self._last, done, self._total)


def _state_of(job: Trial | Chunk) -> tuple[float, str] | None:
    """The share of a training that is done, and where it stands, by its log; None for what is not under way."""
    if not isinstance(job, Trial) or job.rate is None:
        return None
    try:
        _, *lines = (job.folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]  # The first is that of step 0.
        reward = json.loads(lines[-1])["reward"] if lines else None
    except (OSError, ValueError, KeyError):
        return None
    steps = job.contender.config(job.task, job.seed, job.rate).train.steps
    trial = f"{job.contender.name} on {job.task.title}, seed {job.seed}, rate {job.rate:g}"
    said = f"{trial}: step {len(lines)} of {steps}"
    return min(1.0, len(lines) / steps), said if reward is None else f"{said}, sampled reward {reward:.2f}"


def weight(job: Trial | Chunk) -> float:
    """About how many calls a job makes; a trained one counts three times."""
    trial = job.trial if isinstance(job, Chunk) else job
    if not trial.contender.trained:
        return _GUESS * (min(CHUNK, job.cell.n) if isinstance(job, Chunk) else 800.0)
    config = trial.contender.config(trial.task, trial.seed, trial.rate)
    if isinstance(job, Chunk):
        return calls_of(config) * min(CHUNK, job.cell.n) * job.variant.votes
    checks = (config.train.steps // config.train.validate_every + 1) * config.train.validation_questions
    return calls_of(config) * (3.0 * config.samples + checks)
