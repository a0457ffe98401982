"""The queue: what waits when a batch ends is the next batch. All of its state belongs to the event loop."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from neuromas.serve.engine import Engine
from neuromas.serve.faults import Fault
from neuromas.serve.job import Job
from neuromas.serve.metrics import Metrics


@dataclass(frozen=True)
class Room:
    """How much waits, and how much is run at once."""

    queue: int = 256  # questions that wait
    rows: int = 512  # rows of the widest layer in one batch (one question at least)
    bytes: int = 262_144  # of questions in one batch, prompts of one layer's nodes counted (one question at least)


class Batcher:
    """Runs jobs in the order they came, batch by batch, in a thread of its own."""

    def __init__(self, engine: Engine, room: Room, metrics: Metrics) -> None:
        self.engine, self.room, self.metrics = engine, room, metrics
        self._waiting: deque[Job] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._seconds = 0.1  # of a batch, a running mean: for Retry-After
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait for their turn, all or none. Raises `Fault` where there is no room."""
        if self._closing:
            raise Fault(503, "the server is shutting down; send it elsewhere or later", "shutting_down", retry_after=5)
        if len(jobs) > self.room.queue:
            raise Fault(400, f"{len(jobs)} prompts are more than the queue holds ({self.room.queue})", "too_many")
        if len(self._waiting) + len(jobs) > self.room.queue:
            self.metrics.refused.inc()
            wait = 1 + round(self._seconds * (1 + len(self._waiting) * self.engine.weight(jobs[0]) / self.room.rows))
            message = f"{len(self._waiting)} questions wait already; try again in {wait} s"
            raise Fault(429, message, "queue_full", retry_after=wait)
        self._waiting += jobs
        self.metrics.accepted.inc(len(jobs))
        self._note()

    async def close(self) -> None:
        """Refuse what comes, finish what was accepted."""
        self._closing = True
        self._changed.set()
        if self._task is not None:
            await self._task

    @property
    def closing(self) -> bool:
        return self._closing

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "network") as thread:
            while True:
                while batch := self._take():
                    start = time.perf_counter()
                    await loop.run_in_executor(thread, self.engine.run, batch)  # never raises
                    seconds = time.perf_counter() - start
                    self._seconds += 0.2 * (seconds - self._seconds)
                    self.metrics.batch(batch, seconds)
                if self._closing:
                    return
                self._changed.clear()
                await self._changed.wait()

    def _take(self) -> list[Job]:
        """The next batch, first come first served; [] when nobody waits. Jobs whose client has left are dropped."""
        batch: list[Job] = []
        rows = size = 0
        while self._waiting:
            job = self._waiting[0]
            weight = self.engine.weight(job)
            length = len(job.question.text.encode()) * weight // job.n
            if batch and (rows + weight > self.room.rows or size + length > self.room.bytes):
                break
            self._waiting.popleft()
            if job.cancelled:
                self.metrics.dropped.inc()
                continue
            batch.append(job)
            rows, size = rows + weight, size + length
        self._note()
        return batch

    def _note(self) -> None:
        self.metrics.waiting.set(len(self._waiting))
        self._changed.set()
