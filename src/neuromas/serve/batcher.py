"""The queue: what waits when a batch ends is the next batch. All of its state belongs to the event loop."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from neuromas.serve.faults import Fault
from neuromas.serve.job import Job
from neuromas.serve.metrics import Metrics
from neuromas.serve.responder import Responder

BATCH_BYTES = 262_144  # a batch's questions, each counted once for each node of the widest layer


class Batcher:
    """Runs jobs in the order they came, batch by batch, in a thread of its own.

    queue: the most questions that wait. rows: the most rows of the widest layer in one batch (one question at least).
    """

    def __init__(self, responder: Responder, queue: int, rows: int, metrics: Metrics) -> None:
        self.responder, self.queue, self.rows, self.metrics = responder, queue, rows, metrics
        self.closing = False
        self._waiting: deque[Job] = deque()
        self._changed = asyncio.Event()
        self._seconds = 0.1  # the running mean of a batch's duration, from which Retry-After is estimated
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue all jobs or none. Raises `Fault` if there is no room."""
        if self.closing:
            raise Fault(503, "the server is shutting down; send it elsewhere or later", "shutting_down", retry_after=5)
        if len(jobs) > self.queue:
            raise Fault(400, f"{len(jobs)} prompts are more than the queue holds ({self.queue})", "too_many")
        if len(self._waiting) + len(jobs) > self.queue:
            self.metrics.refused.inc()
            batches = len(self._waiting) * jobs[0].n * self.responder.width / self.rows
            wait = 1 + round(self._seconds * (1 + batches))
            message = f"{len(self._waiting)} questions wait already; try again in {wait} s"
            raise Fault(429, message, "queue_full", retry_after=wait)
        self._waiting += jobs
        self.metrics.accepted.inc(len(jobs))
        self._note()

    async def close(self) -> None:
        """Refuse what comes, finish what was accepted."""
        self.closing = True
        self._changed.set()
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "network") as thread:
            while True:
                while batch := self._take():
                    start = time.perf_counter()
                    await loop.run_in_executor(thread, self.responder.run, batch)  # this never raises
                    seconds = time.perf_counter() - start
                    self._seconds += 0.2 * (seconds - self._seconds)
                    self.metrics.batch(batch, seconds)
                if self.closing:
                    return
                self._changed.clear()
                await self._changed.wait()

    def _take(self) -> list[Job]:
        """The next batch, first come first served; [] when nobody waits. Jobs whose client has left are dropped."""
        batch: list[Job] = []
        rows = size = 0
        while self._waiting:
            job = self._waiting[0]
            if job.cancelled:
                self.metrics.dropped.inc()
            else:
                rows += job.n * self.responder.width
                size += len(job.question.text.encode()) * self.responder.width
                if batch and (rows > self.rows or size > BATCH_BYTES):
                    break
                batch.append(job)
            self._waiting.popleft()
        self._note()
        return batch

    def _note(self) -> None:
        self.metrics.waiting.set(len(self._waiting))
        self._changed.set()
