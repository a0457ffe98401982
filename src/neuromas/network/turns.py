"""The two things that travel through a pass: a rollout, and a node's turn in it; and taking many turns at once.

Legend: L sampled token (the completions of all rows concatenated).
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from torch import Tensor

from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.environment import Inquiry, answered, joined, prompt_of
from neuromas.network.generate import Completion, GoOn, IsEnded, replay
from neuromas.network.packed import Group
from neuromas.network.prompt import Prompt, PromptTemplate
from neuromas.network.sampling import Decoding, stream_key
from neuromas.network.stopping import cut, ending
from neuromas.network.topology import Topology
from neuromas.types import Message, NodeCall, Question, Trace, Utterance

T = TypeVar("T")

# (question id, rollout, sender, reader, message) -> the text that the reader is given instead of the message.
Deliver = Callable[[str, int, str, str, str], str]


class Listener(Protocol):
    """Receives the answers to a question while they are written, in the thread that runs the pass."""

    def wrote(self, rollout: int, node: str, ids: list[int]) -> bool:
        """`node` has written these tokens and has not ended; return False to end its turn here."""
        ...

    def said(self, rollout: int, call: NodeCall) -> None:
        """A node's turn is over, and so is its layer's."""
        ...


@dataclass(frozen=True)
class Ask:
    """A question and how it is answered; the asks of one pass may differ in everything."""

    question: Question
    rollouts: range  # numbers of its rollouts, on which their random draws depend
    seed: int
    decoding: Decoding
    step: int = 0  # the training step, a part of every random stream's address
    listener: Listener | None = None


@dataclass
class Rollout:
    """One pass of one question through a network: under way, then finished."""

    ask: Ask
    number: int  # which rollout of its question it is
    topology: Topology  # the effective one: what does not exist in this rollout is left out
    calls: dict[str, NodeCall] = field(default_factory=dict[str, NodeCall])  # by node, as they are made
    heard: dict[str, str] = field(default_factory=dict[str, str])  # by sender: the message that readers are given
    seconds: float = 0.0  # wall time of the batch that held it, divided by the rollouts of the batch

    @classmethod
    def of(cls, trace: Trace, ask: Ask, topology: Topology) -> "Rollout":
        """The finished rollout that `trace` is the record of."""
        calls = {call.node: call for call in trace.calls}
        return cls(ask, trace.rollout, topology, calls, {node: call.text for node, call in calls.items()})

    def messages(self, node: str, deliver: Deliver | None = None) -> list[Message]:
        """The messages that `node` reads, in reading order."""
        question, senders = self.ask.question.id, self.topology.parents(node)
        if deliver is None:
            return [Message(sender, self.heard[sender]) for sender in senders]
        return [Message(s, deliver(question, self.number, s, node, self.heard[s])) for s in senders]

    def hear(self, call: NodeCall, *, blank: bool = False) -> None:
        """Take in what a node has said; its message is empty for those downstream where it is `blank`."""
        self.calls[call.node] = call
        self.heard[call.node] = "" if blank else call.text
        if self.ask.listener is not None:
            self.ask.listener.said(self.number, call)

    def stream(self, node: str, *more: object) -> int:
        """The key of the random stream that `node` draws from."""
        return stream_key(self.ask.seed, self.ask.step, self.ask.question.id, self.number, node, *more)

    @property
    def answer(self) -> str:
        """The text that `Task.grade` reads, the answer prefix included."""
        return self.ask.question.answer_prefix + self.heard[self.topology.output]

    def trace(self) -> Trace:
        """The record of the finished rollout."""
        longest = [max(self.calls[node].generated_tokens for node in layer) for layer in self.topology.layers]
        return Trace(
            question_id=self.ask.question.id,
            rollout=self.number,
            calls=[self.calls[node] for node in self.topology.nodes],
            answer=self.answer,
            sequential_calls=len(self.topology.layers),
            sequential_tokens=sum(longest),
            seconds=self.seconds,
            reads={node: self.topology.parents(node) for node in self.topology.nodes},
        )


@dataclass(frozen=True)
class Turn:
    """One call to be made: who speaks, what it reads, and how it may answer."""

    speaker: str  # the call's name in the trace: a node's id, or the stage of a baseline
    adapter: int  # its index in the adapter bank
    prompt: Prompt
    limit: int  # tokens that it may write
    decoding: Decoding
    stream: int  # key of its random stream
    go_on: Callable[[list[int]], bool] | None = None  # asked with the tokens so far; False ends the turn
    stop: tuple[str, ...] = ()  # texts that end it, and are no part of what it says
    inquiry: Inquiry | None = None  # with an environment


# Samples one completion for each row of groups sorted by adapter: groups, keys, limit, decoding, go_on, ended.
How = Decoding | Sequence[Decoding]
Sample = Callable[[Sequence[Group], Sequence[int], int, How, GoOn | None, IsEnded | None], list[Completion]]


def speak(
    turns: Sequence[Turn], sample: Sample, template: PromptTemplate, batch_rows: int | None = None
) -> list[NodeCall]:
    """Take all `turns` at once; returns their calls in the order given. Those that ask an environment go on together.

    Turns of equal limit and stop texts run in one batch, in which equal prefixes are read once, or in batches of at
    most `batch_rows`.
    """
    calls = _segments(turns, sample, template, batch_rows)
    open_ = {i: turn.inquiry for i, turn in enumerate(turns) if turn.inquiry is not None}
    segment = 1
    while open_ := {i: inquiry for i, inquiry in open_.items() if segment < inquiry.turns}:
        segment += 1
        further: dict[int, Turn] = {}
        for i, inquiry in open_.items():
            calls[i], left = answered(calls[i], inquiry, template, turns[i].limit)
            if left:
                further[i] = _further(turns[i], calls[i], left, segment)
        replies = _segments(list(further.values()), sample, template, batch_rows)
        for i, reply in zip(further, replies, strict=True):
            calls[i] = joined(calls[i], reply, template, turns[i].stop)
        open_ = {i: open_[i] for i in further}
    return calls


def _further(turn: Turn, call: NodeCall, left: int, segment: int) -> Turn:
    """The turn of a call's next segment, of at most `left` tokens."""
    listen, so_far = turn.go_on, call.completion_ids
    return replace(
        turn,
        prompt=prompt_of(call),
        limit=left,
        stream=stream_key(turn.stream, "segment", segment),
        go_on=None if listen is None else lambda ids: listen(so_far + ids),
    )


def _segments(
    turns: Sequence[Turn], sample: Sample, template: PromptTemplate, batch_rows: int | None
) -> list[NodeCall]:
    """One completion for each turn, in order."""
    calls: dict[int, NodeCall] = {}
    alike = lambda turn: (turn.limit, turn.stop, turn.inquiry.pauses if turn.inquiry else ())
    for limit, stop, pauses in dict.fromkeys(map(alike, turns)):
        numbered = [(i, turn) for i, turn in enumerate(turns) if alike(turn) == (limit, stop, pauses)]
        ordered = [member for _, members in _together(numbered) for member in members]
        size = batch_rows or len(ordered)
        for start in range(0, len(ordered), size):
            batch = ordered[start : start + size]
            groups = [
                Group(adapter, members[0][1].prompt.prefix_ids, [turn.prompt.own_ids for _, turn in members])
                for adapter, members in _together(batch)
            ]
            row_turns = [turn for _, turn in batch]
            decodings = [turn.decoding for turn in row_turns]
            how = decodings[0] if len(set(decodings)) == 1 else decodings
            ended = ending(template.decode, stop + pauses)
            replies = sample(groups, [turn.stream for turn in row_turns], limit, how, _going_on(row_turns), ended)
            for (i, turn), reply in zip(batch, replies, strict=True):
                calls[i] = _call(template, turn, reply)
    return [calls[i] for i in range(len(turns))]


def _together(numbered: Sequence[tuple[int, Turn]]) -> list[tuple[int, list[tuple[int, Turn]]]]:
    return by_prefix(numbered, lambda member: member[1].adapter, lambda member: member[1].prompt.prefix_ids)


def by_prefix(
    items: Sequence[T], adapter: Callable[[T], int], prefix: Callable[[T], list[int]]
) -> list[tuple[int, list[T]]]:
    """(adapter, the items of one prefix), sorted by adapter; otherwise in the order in which they first appear."""
    groups: dict[tuple[int, tuple[int, ...]], list[T]] = {}
    for item in sorted(items, key=adapter):
        groups.setdefault((adapter(item), tuple(prefix(item))), []).append(item)
    return [(number, members) for (number, _), members in groups.items()]


def _going_on(turns: Sequence[Turn]) -> GoOn | None:
    """The turns' own `go_on` by row; None where no turn has one."""
    asked = [turn.go_on for turn in turns]
    if all(one is None for one in asked):
        return None

    def go_on(row: int, ids: list[int]) -> bool:
        one = asked[row]
        return one is None or one(ids)

    return go_on


def _call(template: PromptTemplate, turn: Turn, reply: Completion) -> NodeCall:
    """The record of one call: what was read and what was said."""
    return NodeCall(
        node=turn.speaker,
        prefix_ids=turn.prompt.prefix_ids,
        own_ids=turn.prompt.own_ids,
        completion_ids=reply.ids,
        logprobs=reply.logprobs,
        entropies=reply.entropies,
        text=cut(template.decode(reply.ids), turn.stop)[0],
        truncated=reply.truncated,
        dropped_tokens=turn.prompt.dropped_tokens,
    )


Completed = NodeCall | Utterance  # a prompt with its completion, as token ids


def replay_calls(
    backbone: Backbone,
    bank: AdapterBank | None,
    groups: Sequence[tuple[int, Sequence[Completed]]],
    temperature: float,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (nats) [L] of the tokens that were sampled, differentiable in the bank.

    groups: (adapter, calls that share a prefix), sorted by adapter; L runs over their calls in order. bank=None: the
    bare backbone. The entropies have a gradient only with `entropy_gradient`.
    """
    packed = [Group(adapter, calls[0].prefix_ids, [call.own_ids for call in calls]) for adapter, calls in groups]
    completions = [call.completion_ids for _, calls in groups for call in calls]
    given = [call.given for _, calls in groups for call in calls]
    return replay(backbone, bank, packed, completions, temperature, entropy_gradient, given)


def replay_each(
    backbone: Backbone, bank: AdapterBank, numbered: Sequence[tuple[int, Completed]], temperature: float
) -> list[Tensor]:
    """Log-probabilities (nats) [tokens] of each completion by its number, differentiable in the bank, in one pass.

    Calls that begin alike are read once.
    """
    groups = by_prefix(numbered, lambda pair: bank.index[pair[1].node], lambda pair: pair[1].prefix_ids)
    packed = [(index, [call for _, call in members]) for index, members in groups]
    logprobs_L, _ = replay_calls(backbone, bank, packed, temperature)
    order = [pair for _, members in groups for pair in members]
    parts = logprobs_L.split([len(call.completion_ids) - len(call.given) for _, call in order])
    return [part for _, part in sorted(zip((i for i, _ in order), parts, strict=True), key=lambda pair: pair[0])]


def asks_of(questions: Sequence[Question], rollouts: int, seed: int, decoding: Decoding, step: int = 0) -> list[Ask]:
    """An ask of each question, `rollouts` times. Where one is asked twice, the numbers of its rollouts go on."""
    asked: Counter[str] = Counter()
    asks: list[Ask] = []
    for question in questions:
        first = asked[question.id] * rollouts
        asks.append(Ask(question, range(first, first + rollouts), seed, decoding, step))
        asked[question.id] += 1
    return asks


def depth_of(topologies: Collection[Topology]) -> int:
    """Layers of the deepest of some topologies; 0 where there is none."""
    return max((len(topology.layers) for topology in topologies), default=0)
