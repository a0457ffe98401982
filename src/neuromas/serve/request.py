"""One request from its jobs to its answer, whole or as a stream of events; and what happens when the client leaves."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import Request

from neuromas.serve.batcher import Batcher
from neuromas.serve.faults import Fault
from neuromas.serve.job import Answer, Done, Event, Job
from neuromas.serve.render import CompletionsFormat
from neuromas.serve.responses import ResponsesFormat
from neuromas.serve.responses_schema import ResponsesRequest
from neuromas.serve.schema import ChatRequest, CompletionRequest

Asking = ChatRequest | CompletionRequest | ResponsesRequest


@dataclass
class PendingRequest:
    """The jobs of one request and the events they post."""

    jobs: list[Job]
    format: CompletionsFormat | ResponsesFormat
    deadline: float  # on the event loop's clock
    events: "asyncio.Queue[Event | Fault]"
    by_choice: dict[int, Answer] = field(default_factory=dict[int, Answer])

    async def whole(self, client: Request) -> dict[str, Any]:
        """The body of the response. Raises `Fault`."""
        gone, answered = (asyncio.ensure_future(task) for task in (_disconnected(client), self._collect()))
        try:
            await asyncio.wait({gone, answered}, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise Fault(499, "the client left", "client_closed_request")
            await answered
        finally:
            gone.cancel()
            answered.cancel()
            self.leave()
        return self.format.whole(self.answers)

    async def stream(self, event: Event) -> AsyncIterator[str]:
        """Server-sent events. event: the first one, awaited by the caller so that an early fault can be a status."""
        try:
            for chunk in self.format.opening(sum(job.n for job in self.jobs)):
                yield self._sse(chunk)
            while True:
                for chunk in self.format.chunks(event):
                    yield self._sse(chunk)
                if self._complete():
                    break
                event = await self.next()
            for chunk in self.format.closing(self.answers):
                yield self._sse(chunk)
            if self.format.last_words:
                yield f"data: {self.format.last_words}\n\n"
        except Fault as fault:  # the status has been sent already
            yield self._sse(self.format.failure(fault))
        finally:
            self.leave()

    async def next(self) -> Event:
        """The next event. Raises `Fault` if a job failed or the time is up."""
        try:
            async with asyncio.timeout_at(self.deadline):
                event = await self.events.get()
        except TimeoutError:
            message = "the time limit is over before the answer was; ask for less, or when the server is less busy"
            event = Fault(503, message, "timeout", retry_after=5)
        if isinstance(event, Fault):
            self.leave()
            raise event
        if isinstance(event, Done):
            self.by_choice[event.choice] = event.answer
        return event

    @property
    def answers(self) -> list[Answer]:
        """The answers so far, in the order of their choices."""
        return [self.by_choice[i] for i in sorted(self.by_choice)]

    def leave(self) -> None:
        """Give up what is not answered yet: jobs that wait are dropped, those that run end at their next token."""
        for job in self.jobs:
            job.cancelled = job.cancelled or not job.over

    def _sse(self, data: dict[str, Any]) -> str:
        name = f"event: {data['type']}\n" if self.format.names_events else ""
        return f"{name}data: {json.dumps(data, ensure_ascii=False)}\n\n"

    async def _collect(self) -> None:
        while not self._complete():
            await self.next()

    def _complete(self) -> bool:
        return len(self.by_choice) == sum(job.n for job in self.jobs)


def submit(request: Asking, batcher: Batcher, model: str, seconds: float) -> PendingRequest:
    """Put a request's questions into the queue. Raises `Fault`."""
    responder, loop = batcher.responder, asyncio.get_running_loop()
    for text in request.questions:
        responder.check_text(text)
    seed = secrets.randbits(32) if request.seed is None else request.seed
    events: asyncio.Queue[Event | Fault] = asyncio.Queue()
    jobs = [
        Job(
            question=replace(responder.pattern, text=text),
            request=request,
            seed=seed,
            decoding=responder.decoding_for(request),
            first=i * request.choices,
            output=responder.output,
            decode=responder.backbone.template.decode,
            own_stops=responder.stops,
            post=lambda event: loop.call_soon_threadsafe(events.put_nowait, event),  # called by the network's thread
        )
        for i, text in enumerate(request.questions)
    ]
    batcher.submit(jobs)
    kind = ResponsesFormat if isinstance(request, ResponsesRequest) else CompletionsFormat
    return PendingRequest(jobs, kind(request, model, seed), loop.time() + seconds, events)  # pyright: ignore[reportArgumentType]


async def _disconnected(client: Request) -> None:
    while (await client.receive())["type"] != "http.disconnect":
        pass
