"""One question on its way through the server: what it asks for, and what it tells while it is answered.

A job is made on the event loop and then used by the thread that runs the network; it talks back through `post` alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from neuromas.network.sampling import Decoding
from neuromas.serve.faults import Fault
from neuromas.types import NodeCall, Question, Trace

Decode = Callable[[list[int]], str]
UNFINISHED = "\ufffd"  # what a cut-off character decodes to


@dataclass(frozen=True)
class Wish:
    """How an answer is wanted, beyond how it is drawn."""

    max_tokens: int | None = None  # of the answer; None: the network's limit
    stop: tuple[str, ...] = ()
    stream: bool = False
    messages: bool = False  # what each node said
    details: bool = False  # and its prompt and tokens
    logprobs: bool = False  # of the answer's tokens


@dataclass(frozen=True)
class Answer:
    """One choice. `ids` are the answer's tokens after max_tokens and before `stop`."""

    text: str
    finish_reason: str  # "stop" or "length"
    trace: Trace
    tokens: list[tuple[str, float, float]]  # text, log-probability, entropy; only where they are wanted
    nodes: list[dict[str, object]]  # turns as the extension tells them; only where they are wanted


@dataclass(frozen=True)
class Delta:
    """More of an answer's text."""

    choice: int
    text: str


@dataclass(frozen=True)
class NodeDelta:
    """More of a hidden node's message."""

    choice: int
    node: str
    text: str


@dataclass(frozen=True)
class NodeDone:
    """A node's turn is over."""

    choice: int
    turn: dict[str, object]


@dataclass(frozen=True)
class Done:
    """All choices of one job, in order."""

    first: int
    answers: list[Answer]


@dataclass(frozen=True)
class Failed:
    fault: Fault


Event = Delta | NodeDelta | NodeDone | Done | Failed


@dataclass(eq=False)
class Job:
    """A question to answer `n` times. Its `Listener` methods are called by the network's thread."""

    question: Question
    n: int
    seed: int
    decoding: Decoding
    wish: Wish
    first: int  # index of its first choice among those of the request
    output: str  # the node that answers
    decode: Decode
    post: Callable[[Event], None]
    over: bool = False  # answered, or told why not
    cancelled: bool = False  # its client left before that
    tokens: tuple[int, int] = (0, 0)  # of all prompts, and generated, once it is answered
    _told: dict[tuple[int, str], str] = field(default_factory=dict[tuple[int, str], str])  # (rollout, node) → text
    _over: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])

    def wrote(self, rollout: int, node: str, ids: list[int]) -> bool:
        if node != self.output:
            if self.wish.stream and self.wish.messages:
                self._tell(rollout, node, self.decode(ids).rstrip(UNFINISHED))
            return not self.cancelled
        if self.wish.max_tokens is not None and len(ids) >= self.wish.max_tokens:
            return False
        if self.wish.stream or self.wish.stop:
            text, stopped = cut(self.decode(ids), self.wish.stop)
            if self.wish.stream:
                safe = text if stopped else held_back(text.rstrip(UNFINISHED), self.wish.stop)
                self._tell(rollout, node, self.question.answer_prefix + safe)
            return not (stopped or self.cancelled)
        return not self.cancelled

    def said(self, rollout: int, call: NodeCall) -> None:
        if not (self.wish.stream and self.wish.messages) or (rollout, call.node) in self._over:
            return
        self._over.add((rollout, call.node))
        if call.node != self.output:
            self._tell(rollout, call.node, call.text)
        self.post(NodeDone(self.first + rollout, self.turn(call)))

    def finish(self, traces: Sequence[Trace]) -> None:
        """Tell the answers: one trace for each rollout, in order."""
        answers = [self._answer(trace) for trace in traces]
        self.tokens = sum(t.prompt_tokens for t in traces), sum(t.generated_tokens for t in traces)
        if self.wish.stream:
            for rollout, answer in enumerate(answers):
                if self.wish.messages and not self._over:  # a system that told nothing on the way
                    for call in traces[rollout].calls:
                        self.post(NodeDone(self.first + rollout, self.turn(call)))
                self._tell(rollout, self.output, answer.text)
        self.over = True
        self.post(Done(self.first, answers))

    def fail(self, fault: Fault) -> None:
        self.over = True
        self.post(Failed(fault))

    def turn(self, call: NodeCall) -> dict[str, object]:
        """A node's turn as the extension tells it."""
        told: dict[str, object] = {"node": call.node, "text": call.text, "truncated": call.truncated}
        if self.wish.details:
            told["prompt"] = self.decode(call.prefix_ids + call.own_ids)
            told["tokens"] = [
                {"token": text, "logprob": logprob, "entropy": entropy} for text, logprob, entropy in self._tokens(call)
            ]
        return told

    def _answer(self, trace: Trace) -> Answer:
        call = trace.calls[-1]
        ids, limit = call.completion_ids, self.wish.max_tokens
        short = limit is not None and len(ids) > limit
        whole = self.question.answer_prefix + self.decode(ids[:limit]) if short else trace.answer
        prefix = self.question.answer_prefix if whole.startswith(self.question.answer_prefix) else ""
        text, stopped = cut(whole[len(prefix) :], self.wish.stop)
        return Answer(
            text=prefix + text,
            finish_reason="stop" if stopped or not (short or call.truncated) else "length",
            trace=trace,
            tokens=self._tokens(call)[:limit] if self.wish.logprobs else [],
            nodes=[self.turn(call) for call in trace.calls] if self.wish.messages else [],
        )

    def _tokens(self, call: NodeCall) -> list[tuple[str, float, float]]:
        texts = [self.decode([token]) for token in call.completion_ids]
        return list(zip(texts, call.logprobs, call.entropies, strict=True))

    def _tell(self, rollout: int, node: str, text: str) -> None:
        """Post what is new since the last time."""
        before = self._told.get((rollout, node), "")
        if len(text) <= len(before) or not text.startswith(before):
            return
        self._told[rollout, node] = text
        choice, new = self.first + rollout, text[len(before) :]
        self.post(Delta(choice, new) if node == self.output else NodeDelta(choice, node, new))


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of `stops`, and whether there was one."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


def held_back(text: str, stops: Sequence[str]) -> str:
    """The text without an end that may be the beginning of a stop."""
    starts = [k for stop in stops for k in range(1, len(stop)) if text.endswith(stop[:k])]
    return text[: len(text) - max(starts, default=0)]
