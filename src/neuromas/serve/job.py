"""One question on its way through the server, and the events that it posts while it is answered.

A job is created on the event loop, then used by the thread that runs the network, which answers through `post` alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from neuromas.network.sampling import Decoding
from neuromas.network.stopping import cut
from neuromas.serve.faults import Fault
from neuromas.serve.schema import AnswerRequest, FinishReason, NodeTurn, Token
from neuromas.types import NodeCall, Question, Trace

UNFINISHED = "\ufffd"  # an incomplete character decodes to this


@dataclass(frozen=True)
class Answer:
    """One choice."""

    text: str
    finish_reason: FinishReason
    trace: Trace
    tokens: list[Token] | None  # the answer's tokens, after max_tokens and before `stop`; None if not wanted
    turns: list[NodeTurn]  # empty if not wanted


@dataclass(frozen=True)
class Delta:
    """More text of a choice's answer, or of a hidden node's message."""

    choice: int
    text: str
    node: str | None = None  # None for the answer


@dataclass(frozen=True)
class NodeDone:
    """A node's turn is over."""

    choice: int
    turn: NodeTurn


@dataclass(frozen=True)
class Done:
    """A choice is answered."""

    choice: int
    answer: Answer


Event = Delta | NodeDone | Done


@dataclass(eq=False)
class Job:
    """A question to answer `n` times. The thread that runs the network calls its `Listener` methods."""

    question: Question
    request: AnswerRequest
    seed: int
    decoding: Decoding
    first: int  # the index of its first choice in the request
    output: str  # the node that answers
    decode: Callable[[list[int]], str]
    post: Callable[[Event | Fault], object]
    own_stops: tuple[str, ...] = ()  # those of the system, which cuts its texts before them by itself
    over: bool = False  # it was answered or has failed
    cancelled: bool = False  # its client left before that
    tokens: tuple[int, int] = (0, 0)  # prompt and generated tokens of all nodes, once it is answered
    _posted: dict[tuple[int, str], str] = field(default_factory=dict[tuple[int, str], str])  # by rollout and node
    _ended: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])  # the turns that were posted

    @property
    def n(self) -> int:
        return self.request.choices

    def wrote(self, rollout: int, node: str, ids: list[int]) -> bool:
        request, going_on = self.request, not self.cancelled
        if node != self.output:
            if request.stream and request.wants_messages:
                self._post_text(rollout, node, held_back(self.decode(ids).rstrip(UNFINISHED), self.own_stops))
            return going_on
        if request.limit is not None and len(ids) >= request.limit:
            return False
        if request.stream or request.stops:
            text, stopped = cut(self.decode(ids), request.stops)
            if request.stream:
                safe = text if stopped else held_back(text.rstrip(UNFINISHED), [*request.stops, *self.own_stops])
                self._post_text(rollout, node, self.question.answer_prefix + safe)
            return going_on and not stopped
        return going_on

    def said(self, rollout: int, call: NodeCall) -> None:
        if not (self.request.stream and self.request.wants_messages) or (rollout, call.node) in self._ended:
            return
        self._ended.add((rollout, call.node))
        if call.node != self.output:
            self._post_text(rollout, call.node, call.text)
        self.post(NodeDone(self.first + rollout, self._turn(call)))

    def finish(self, traces: Sequence[Trace]) -> None:
        """Post the answers: one trace for each rollout, in order."""
        answers = [self._answer(trace) for trace in traces]
        self.tokens = sum(t.prompt_tokens for t in traces), sum(t.generated_tokens for t in traces)
        self.over = True
        for rollout, answer in enumerate(answers):
            if self.request.stream:
                for turn in () if self._ended else answer.turns:  # a system other than a network calls no `said`
                    self.post(NodeDone(self.first + rollout, turn))
                self._post_text(rollout, self.output, answer.text)
            self.post(Done(self.first + rollout, answer))

    def fail(self, fault: Fault) -> None:
        self.over = True
        self.post(fault)

    def _turn(self, call: NodeCall) -> NodeTurn:
        turn = NodeTurn(node=call.node, text=call.text, truncated=call.truncated)
        if self.request.wants_details:
            turn.prompt = self.decode(call.prefix_ids + call.own_ids)
            turn.tokens = self._tokens(call)
        return turn

    def _answer(self, trace: Trace) -> Answer:
        call = trace.calls[-1]
        ids, limit, prefix = call.completion_ids, self.request.limit, self.question.answer_prefix
        shortened = limit is not None and len(ids) > limit
        whole = prefix + self.decode(ids[:limit]) if shortened else trace.answer
        start = len(prefix) if whole.startswith(prefix) else 0
        text, stopped = cut(whole[start:], self.request.stops)
        return Answer(
            text=whole[:start] + text,
            finish_reason="stop" if stopped or not (shortened or call.truncated) else "length",
            trace=trace,
            tokens=self._tokens(call)[:limit] if self.request.wants_logprobs else None,
            turns=[self._turn(call) for call in trace.calls] if self.request.wants_messages else [],
        )

    def _tokens(self, call: NodeCall) -> list[Token]:
        return [
            Token(token=self.decode([id]), logprob=logprob, entropy=entropy)
            for id, logprob, entropy in zip(call.sampled_ids, call.logprobs, call.entropies, strict=True)
        ]

    def _post_text(self, rollout: int, node: str, text: str) -> None:
        """Post what is new since the last time."""
        posted = self._posted.get((rollout, node), "")
        if len(text) > len(posted) and text.startswith(posted):
            self._posted[rollout, node] = text
            hidden = None if node == self.output else node
            self.post(Delta(self.first + rollout, text[len(posted) :], hidden))


def held_back(text: str, stops: Sequence[str]) -> str:
    """The text without an end that may be the beginning of a stop. Looks at no more than the longest stop."""
    longest = max(map(len, stops), default=0)
    for start in range(max(0, len(text) - longest + 1), len(text)):
        if any(stop.startswith(text[start:]) for stop in stops):
            return text[:start]
    return text
