"""Dialogues of baselines with the backbone: one for each question, and all of them run side by side.

A dialogue is a generator. It yields the requests of one stage, is sent their replies in the same order, and returns
the answer, so that a baseline's file reads like its algorithm:

    def dialogue(self, question):
        (draft,) = yield [answer("draft")]
        (better,) = yield [answer("revise", "Improve the answer.", ("Draft", draft))]
        return better

Requests of one stage run at the same time; each `yield` is one call on the longest chain.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from neuromas.errors import ConfigError, PromptError
from neuromas.network import generate as generating
from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.environment import Environment, Inquiry
from neuromas.network.forward import Limits
from neuromas.network.generate import Completion
from neuromas.network.packed import Group
from neuromas.network.prompt import Prompt
from neuromas.network.sampling import Decoding, stream_key
from neuromas.network.turns import Sample, Turn, asks_of, speak
from neuromas.network.wording import ANSWER, Wording, Words
from neuromas.types import Message, NodeCall, Position, Question, Trace

Note = tuple[str, str]  # (what it is, in the baseline's words; the text, which may come from a model)
Parse = Callable[[Question, str], str | None]  # a reply's answer as the task's grader understands it, or None
Generate = Callable[[Backbone, AdapterBank | None, Sequence[Group], Sequence[int], int, Any], list[Completion]]


@dataclass(frozen=True)
class Request:
    """One call that a dialogue asks for."""

    stage: str  # the call's name in the trace and in its random stream; used once in a dialogue
    ask: str  # the baseline's words
    notes: tuple[Note, ...] = ()  # they are read after the question
    answering: bool = False  # gets the task's instruction, answer prefix and token limit; else those of a message
    sees_question: bool = True
    sampled: bool = False  # drawn even when the system decodes greedily: the method lives on different proposals
    extra_tokens: int = 0  # added to the limit, for words besides the answer
    role: str = ""  # its adapter speaks, where the chat has a bank of them


Dialogue = Generator[list[Request], list[str], str]


def answer(stage: str, ask: str = ANSWER, *notes: Note, sampled: bool = False, extra_tokens: int = 0) -> Request:
    """A request for a candidate answer. Its reply begins with the answer prefix, as the grader reads it."""
    return Request(stage, ask, notes, answering=True, sampled=sampled, extra_tokens=extra_tokens)


def message(stage: str, ask: str, *notes: Note, sees_question: bool = True, sampled: bool = False) -> Request:
    """A request for words that are not an answer: a critique, a score, a route."""
    return Request(stage, ask, notes, sees_question=sees_question, sampled=sampled)


def numbered(label: str, texts: Iterable[str]) -> list[Note]:
    """Notes "label 1", "label 2" …"""
    return [(f"{label} {i}", text) for i, text in enumerate(texts, 1)]


class Asked(NamedTuple):
    """A request with the question and the rollout that it belongs to."""

    question: Question
    rollout: int
    request: Request


class Chat:
    """The backbone, as baselines call it: bare, or with an adapter for each role (`bank`, its nodes are the roles).

    generate: how completions are made; tests put a script there.
    """

    def __init__(
        self,
        backbone: Backbone,
        limits: Limits | None = None,
        decoding: Decoding | None = None,
        generate: Generate = generating.generate,
        bank: AdapterBank | None = None,
        words: Words | None = None,
        environment: Environment | None = None,
    ) -> None:
        self.name, self.backbone, self.limits = backbone.name, backbone, limits or Limits()
        self.words = words or Words.of(None, backbone.template.style)  # of networks; their layout is everybody's
        self.decoding, self._generate, self.bank = decoding or Decoding(), generate, bank
        self.environment = environment  # what every call may ask while it is written

    def ask(self, asked: Sequence[Asked], *, greedy: bool, seed: int) -> list[NodeCall]:
        """One call for each request, in order, in batches of at most `batch_rows` rows, of like prompts together.

        Equal prefixes are read once. Every draw is a function of (seed, question id, rollout, stage, token position).
        Raises PromptError, naming the stage, where a question does not fit into the context window.
        """
        turns = [self._turn(one, greedy, seed) for one in asked]
        sample: Sample = lambda groups, keys, limit, how, _, ended: self._generate(
            self.backbone, self.bank, groups, keys, limit, how, **({"ended": ended} if ended else {})
        )
        calls: dict[int, NodeCall] = {}
        for decoding in dict.fromkeys(turn.decoding for turn in turns):
            alike = [i for i, turn in enumerate(turns) if turn.decoding == decoding]
            alike.sort(key=lambda i: (len(turns[i].prompt.prefix_ids), turns[i].prompt.prefix_ids))
            made = speak([turns[i] for i in alike], sample, self.backbone.template, self.limits.batch_rows)
            calls |= zip(alike, made, strict=True)
        return [calls[i] for i in range(len(turns))]

    def heard(self, question: Question, request: Request, call: NodeCall) -> str:
        """The reply as the dialogue gets it: an answer begins with the text that it was prefilled with."""
        return (question.answer_prefix if request.answering else "") + call.text

    def limit(self, request: Request) -> int:
        """Tokens that a call may write."""
        return self.limits.of(request.answering) + request.extra_tokens

    def _turn(self, asked: Asked, greedy: bool, seed: int) -> Turn:
        question, rollout, request = asked
        return Turn(
            speaker=request.stage,
            adapter=0 if self.bank is None else self.bank.index[request.role],
            prompt=self._render(asked),
            limit=self.limit(request),
            decoding=replace(self.decoding, greedy=greedy and not request.sampled),
            stream=stream_key(seed, 0, question.id, rollout, request.stage),
            stop=self.limits.stop,
            inquiry=Inquiry.of(self.environment, question),
        )

    def wording(self, request: Request) -> Wording:
        """The request's words, in the layout of a network's prompts."""
        labels = tuple(label for label, _ in request.notes)
        return self.words.around(request.ask, labels, answering=request.answering)

    def _render(self, asked: Asked) -> Prompt:
        """The request as the prompt of a node that reads its notes as messages (all that `compact` can express).

        Raises PromptError, naming the stage, where it does not fit.
        """
        question, _, request = asked
        position = place(request)
        messages = [Message(sender, text) for sender, (_, text) in zip(position.upstream, request.notes, strict=True)]
        try:
            return self.backbone.template.render(
                position, question, messages, self.limit(request), self.wording(request)
            )
        except PromptError as error:
            raise PromptError(f"stage {request.stage!r}: {error}") from error


def place(request: Request) -> Position:
    """The position of a node that reads the request's notes as messages."""
    upstream = tuple(f"1.{i}" for i in range(1, len(request.notes) + 1))
    layer = 2 if upstream else 1
    return Position(
        id="out" if request.answering else f"{layer}.1",
        layer=layer,
        index=1,
        width=1,
        depth=layer if request.answering else layer + 1,
        upstream=upstream,
        downstream=() if request.answering else ("out",),
        sees_question=request.sees_question,
    )


def converse(
    chat: Chat, dialogues: Sequence[tuple[Question, int, Dialogue]], *, greedy: bool, seed: int
) -> list[Trace]:
    """Run (question, rollout, dialogue) triples side by side, stage by stage; one trace for each, in order."""
    start = time.perf_counter()
    calls: list[list[NodeCall]] = [[] for _ in dialogues]
    depth, longest = [0] * len(dialogues), [0] * len(dialogues)  # stages; tokens generated one after the other
    answers = [""] * len(dialogues)
    pending = {row: next(dialogue) for row, (_, _, dialogue) in enumerate(dialogues)}
    while pending:
        asked = [Asked(*dialogues[row][:2], request) for row, requests in pending.items() for request in requests]
        made = iter(chat.ask(asked, greedy=greedy, seed=seed))
        for row, requests in list(pending.items()):
            question, _, dialogue = dialogues[row]
            new = [next(made) for _ in requests]
            calls[row] += new
            depth[row] += 1
            longest[row] += max((call.generated_tokens for call in new), default=0)
            heard = [chat.heard(question, r, c) for r, c in zip(requests, new, strict=True)]
            try:
                pending[row] = dialogue.send(heard)
            except StopIteration as end:
                answers[row] = end.value
                del pending[row]
    seconds = (time.perf_counter() - start) / max(1, len(dialogues))
    for made_by_one in calls:
        assert len({c.node for c in made_by_one}) == len(made_by_one), "a stage's name is used once in a dialogue"
    return [
        Trace(question.id, rollout, calls[row], answers[row], depth[row], seconds, sequential_tokens=longest[row])
        for row, (question, rollout, _) in enumerate(dialogues)
    ]


class Baseline(ABC):
    """A system made of calls to the frozen backbone, in the order of its `dialogue`."""

    title: ClassVar[str]
    greedy_name: ClassVar[str] = "greedy"  # the name of greedy evaluation in results
    trainable_parameters: int = 0

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.name = f"{self.title} ({chat.name})"

    @abstractmethod
    def dialogue(self, question: Question) -> Dialogue:
        """The calls that answer one question."""

    def answer(
        self, questions: list[Question], *, greedy: bool = True, seed: int = 0, rollouts: int = 1
    ) -> list[Trace]:
        """The `System` protocol: `len(questions) * rollouts` traces, question-major."""
        rows = [
            (ask.question, number, self.dialogue(ask.question))
            for ask in asks_of(questions, rollouts, seed, self.chat.decoding)
            for number in ask.rollouts
        ]
        return converse(self.chat, rows, greedy=greedy, seed=seed)


MIXED = "greedy, proposals sampled"  # the `greedy_name` of systems whose proposals would be equal otherwise


def at_least(least: int, **settings: int) -> None:
    """Raises ConfigError for a setting below `least`."""
    for name, value in settings.items():
        if value < least:
            raise ConfigError(f"{name} is {value}: this baseline needs {least} or more; raise {name}")
