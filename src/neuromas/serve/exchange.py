"""One request from its jobs to its answer: whole, or as a stream of events; and what happens when the client leaves."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import Request

from neuromas.network.sampling import Decoding
from neuromas.serve.batcher import Batcher
from neuromas.serve.engine import Engine
from neuromas.serve.faults import Fault
from neuromas.serve.job import Answer, Done, Event, Failed, Job, Wish
from neuromas.serve.render import Kind, Style
from neuromas.serve.schema import ChatRequest, CompletionRequest

_GREEDY_BELOW = 1e-3  # temperatures so low that logits divided by them would leave float32's range


@dataclass
class Exchange:
    """The jobs of one request and the events they post."""

    jobs: list[Job]
    style: Style
    deadline: float  # on the event loop's clock
    usage: bool  # as a last event of the stream
    events: "asyncio.Queue[Event]"
    answers: dict[int, Answer] = field(default_factory=dict[int, Answer])

    async def whole(self, request: Request) -> dict[str, Any]:
        """The body of the answer. Raises `Fault`."""
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            while not self._complete():
                turn = asyncio.ensure_future(self.next())
                await asyncio.wait({turn, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not turn.done():
                    turn.cancel()
                    raise Fault(499, "the client left", "client_closed_request")
                self._take(turn.result())
        finally:
            gone.cancel()
            self.leave()
        return self.style.whole(self.answers)

    async def stream(self, first: Event) -> AsyncIterator[str]:
        """Server-sent events. first: the event that `next` gave, so that an early fault could still be a status."""
        event = first
        try:
            for opening in self.style.opening(sum(job.n for job in self.jobs)):
                yield _sse(opening)
            while True:
                for chunk in self.style.chunks(event):
                    yield _sse(chunk)
                self._take(event)
                if self._complete():
                    break
                event = await self.next()
            if self.usage:
                yield _sse(self.style.usage(self.answers))
            yield "data: [DONE]\n\n"
        except Fault as fault:  # too late for a status
            yield _sse(fault.body())
        finally:
            self.leave()

    async def next(self) -> Event:
        """The next event. Raises `Fault` for a job that failed and for time that is up."""
        try:
            async with asyncio.timeout_at(self.deadline):
                event = await self.events.get()
        except TimeoutError:
            self.leave()
            message = "the time limit is over before the answer was; ask for less, or when the server is less busy"
            raise Fault(503, message, "timeout", retry_after=5) from None
        if isinstance(event, Failed):
            self.leave()
            raise event.fault
        return event

    def leave(self) -> None:
        """Let go of what is not answered yet: jobs that wait are dropped, those that run end at their next token."""
        for job in self.jobs:
            job.cancelled = job.cancelled or not job.over

    def _take(self, event: Event) -> None:
        if isinstance(event, Done):
            self.answers |= {event.first + k: answer for k, answer in enumerate(event.answers)}

    def _complete(self) -> bool:
        return len(self.answers) == sum(job.n for job in self.jobs)


def open_exchange(
    kind: Kind, body: ChatRequest | CompletionRequest, engine: Engine, batcher: Batcher, model: str, seconds: float
) -> Exchange:
    """Put a request's questions into the queue. Raises `Fault`."""
    texts = [body.question] if isinstance(body, ChatRequest) else body.prompts
    for text in texts:
        engine.check_text(text)
    n, loop = body.n or 1, asyncio.get_running_loop()
    seed = secrets.randbits(32) if body.seed is None else body.seed
    wish = _wish(body)
    style = Style(kind, model, int(time.time()), seed, wish)
    events: asyncio.Queue[Event] = asyncio.Queue()
    post: Callable[[Event], None] = lambda event: _post(loop, events, event)
    jobs = [
        Job(
            question=replace(engine.pattern, text=text),
            n=n,
            seed=seed,
            decoding=_decoding(body, n, engine),
            wish=wish,
            first=k * n,
            output=engine.output,
            decode=engine.backbone.template.decode,
            post=post,
        )
        for k, text in enumerate(texts)
    ]
    batcher.submit(jobs)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return Exchange(jobs, style, loop.time() + seconds, usage, events)


def _wish(body: ChatRequest | CompletionRequest) -> Wish:
    chat = isinstance(body, ChatRequest)
    return Wish(
        max_tokens=body.limit if isinstance(body, ChatRequest) else body.max_tokens,
        stop=body.stops,
        stream=bool(body.stream),
        messages=body.extension.messages or body.extension.details,
        details=body.extension.details,
        logprobs=chat and bool(body.logprobs),  # pyright: ignore[reportAttributeAccessIssue]
    )


def _decoding(body: ChatRequest | CompletionRequest, n: int, engine: Engine) -> Decoding:
    own = engine.decoding
    temperature = body.temperature
    if temperature is None:
        temperature = own.temperature if n > 1 or body.top_p is not None else 0.0
    if temperature < _GREEDY_BELOW:
        return Decoding(greedy=True)
    if engine.network is None and (body.temperature is not None or body.top_p is not None):
        message = "this system samples at its own temperature; send temperature 0, or neither temperature nor top_p"
        raise Fault(400, message, "unsupported_value", "temperature")
    return Decoding(temperature=temperature, top_p=own.top_p if body.top_p is None else body.top_p)


def _post(loop: asyncio.AbstractEventLoop, events: "asyncio.Queue[Event]", event: Event) -> None:
    """From the network's thread to the event loop."""
    loop.call_soon_threadsafe(events.put_nowait, event)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
