"""Records that travel through the whole library. Pure data: no torch, no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from neuromas.markup import html_table, visible


@dataclass(frozen=True)
class Question:
    """One item of a task, rendered and ready to be asked."""

    id: str  # unique within the task, stable across runs and splits
    text: str  # what is asked; never contains the answer
    answer: str  # the gold answer in the form `Task.grade` compares with
    instruction: str = ""  # how to answer ("Reply with Yes or No."); shown to the answering node only
    answer_prefix: str = ""  # words put into the answering node's mouth, for every system alike
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])  # task-specific, e.g. exact sub-results


@dataclass(frozen=True)
class Position:
    """A node's place in the (effective) topology of a pass: all that its prompt may say about it."""

    id: str  # the node's name, e.g. "1.2"
    layer: int  # 1-based depth; the output node stands in the last layer
    index: int  # 1-based place within its layer
    width: int  # how many nodes its layer has
    depth: int  # how many layers the network has, the output's included
    upstream: tuple[str, ...]  # ids of the nodes whose messages it reads, in reading order
    downstream: tuple[str, ...]  # ids of the nodes that read its message; empty for the output
    sees_question: bool = True

    @property
    def is_output(self) -> bool:
        return not self.downstream


@dataclass(frozen=True)
class Message:
    """A node's text to those downstream."""

    sender: str  # node id
    text: str  # decoded without special tokens; may be empty


@dataclass
class NodeCall:
    """One language-model call: one node's turn in one rollout of one question.

    `completion_ids` holds every token behind the prompt, the end-of-sequence token included. `logprobs` and `entropies`
    have one entry for every sampled one of them, i.e. for all but those `given` by an environment. `logprobs` (nats)
    are those of the distribution sampled from (temperature applied), or of the untempered one when decoding greedily.
    Where another engine sampled, its own `logprobs`, and no `entropies`.
    """

    node: str
    prefix_ids: list[int]  # prompt tokens shared by all rollouts of this (question, node)
    own_ids: list[int]  # the rest of the prompt: upstream messages and what follows them; may be empty
    completion_ids: list[int]
    logprobs: list[float]
    entropies: list[float]  # nats, of the full next-token distribution
    text: str  # the completion, decoded without special tokens
    truncated: bool  # the token limit ended it, not an end-of-sequence token
    dropped_tokens: int = 0  # upstream message tokens that did not fit into the context window and were left out
    given: tuple[int, ...] = ()  # places in `completion_ids` of tokens that an environment wrote; none are sampled
    counted: tuple[int, int] | None = None  # prompt and generated tokens as an endpoint counts them, which tells no ids

    @property
    def prompt_tokens(self) -> int:
        return self.counted[0] if self.counted else len(self.prefix_ids + self.own_ids) + len(self.given)

    @property
    def generated_tokens(self) -> int:
        return self.counted[1] if self.counted else len(self.completion_ids) - len(self.given)

    @property
    def sampled_ids(self) -> list[int]:
        """The tokens that the node wrote."""
        given = set(self.given)
        return [token for place, token in enumerate(self.completion_ids) if place not in given]

    @property
    def entropy(self) -> float:
        """Sum over the tokens; where entropies are not told, of -logprob, the unbiased estimate from one sample."""
        return sum(self.entropies) if self.entropies else -sum(self.logprobs)


@dataclass(frozen=True)
class Utterance:
    """The part of a call that can be learned from: a prompt and what was written after it, as token ids."""

    node: str  # whose adapter wrote it; of a team, the role's
    prefix_ids: list[int]
    own_ids: list[int]
    completion_ids: list[int]
    given: list[int] = field(default_factory=list[int])  # as in `NodeCall`

    @classmethod
    def of(cls, call: NodeCall) -> Self:
        return cls(call.node, call.prefix_ids, call.own_ids, call.completion_ids, list(call.given))

    @property
    def own_tokens(self) -> int:
        """Tokens behind the prefix, which others may share."""
        return len(self.own_ids) + len(self.completion_ids)

    @property
    def tokens(self) -> int:
        return len(self.prefix_ids) + self.own_tokens


@dataclass
class Trace:
    """One pass of one question through a system, from the question to the answer."""

    question_id: str
    rollout: int
    calls: list[NodeCall]  # in the order in which they were made; the last gave the answer, unless calls voted on it
    answer: str  # text that `Task.grade` reads, the answer prefix included
    sequential_calls: int  # calls on the longest chain, i.e. latency in calls
    # tokens generated one after the other: calls of one layer or stage run side by side, the longest of them counts
    sequential_tokens: int = field(kw_only=True)
    seconds: float = 0.0  # wall time of the batch that held it, divided by the batch's size
    # Of a network: whom each node read in this rollout, which is its effective topology. Not part of the JSON form.
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]], repr=False, compare=False)

    @property
    def generated_tokens(self) -> int:
        return sum(call.generated_tokens for call in self.calls)

    @property
    def prompt_tokens(self) -> int:
        return sum(call.prompt_tokens for call in self.calls)

    @property
    def messages(self) -> list[NodeCall]:
        """The calls of a network that other nodes read; what came of baselines' calls is not recorded."""
        senders = {sender for heard in self.reads.values() for sender in heard}
        return [call for call in self.calls if call.node in senders]

    def message(self, node: str) -> str:
        """The text node `node` produced; raises KeyError when it was not called."""
        for call in self.calls:
            if call.node == node:
                return call.text
        raise KeyError(f"node {node!r} made no call; those that did: {[call.node for call in self.calls]}")

    def to_dict(self) -> dict[str, Any]:
        """The trace as JSON knows it."""
        record = asdict(self)
        del record["reads"]
        return record

    def __str__(self) -> str:
        """Every message, one call after the other, and the answer."""
        lines: list[str] = []
        for call in self.calls:
            reads = f" (reads {', '.join(self.reads[call.node])})" if self.reads.get(call.node) else ""
            cut = " …" if call.truncated else ""
            lines.append(f"{call.node}{reads}: {call.text.strip()}{cut}")
        return visible("\n".join([*lines, f"answer: {self.answer}"]))

    def _repr_html_(self) -> str:
        """The messages along the edges: who read whom, and what each node said."""
        readers = {call.node: ", ".join(self.reads.get(call.node, ())) for call in self.calls}
        names = {node: f"{node} ← {senders}" if senders else node for node, senders in readers.items()}
        rows = [(names[call.node], call.text.strip()) for call in self.calls]
        return html_table(f"question {self.question_id}, rollout {self.rollout}", [*rows, ("answer", self.answer)])


def messages_cut(traces: Iterable[Trace]) -> float | None:
    """The share of messages that the token limit ended, in [0, 1]; None where none was sent."""
    cut = [call.truncated for trace in traces for call in trace.messages]
    return sum(cut) / len(cut) if cut else None


def answers_cut(traces: Sequence[Trace]) -> float:
    """The share of answers that the token limit ended, in [0, 1]."""
    return sum(trace.calls[-1].truncated for trace in traces) / len(traces)


@dataclass(frozen=True)
class Grade:
    """The verdict on one answer."""

    reward: float  # in [0, 1]; 1 is right
    parsed: str | None  # the answer as understood; None when none could be read
    abstained: bool = False  # there is no verdict: the reply is left out, whatever `reward` says
    ambiguous: bool = False  # the reply commits to several answers at once, so that none could be read
    parts: dict[str, float] = field(default_factory=dict[str, float])  # rewards that were joined to this one, by name


@dataclass(frozen=True)
class Floors:
    """Accuracies in [0, 1] that need no understanding, on one split."""

    chance: float  # uniform guess among the possible answers; 0 when they cannot be listed
    majority: float  # the most frequent answer of the training split, given always
    best_constant: float  # the most frequent answer of this very split, given always
    constant_answer: str  # the answer that gives `best_constant`


class System(Protocol):
    """Anything that answers questions: a network or a baseline. Evaluation and serving know nothing else."""

    @property
    def name(self) -> str: ...

    @property
    def trainable_parameters(self) -> int: ...

    def answer(
        self, questions: list[Question], *, greedy: bool = True, seed: int = 0, rollouts: int = 1
    ) -> list[Trace]:
        """`len(questions) * rollouts` traces, question-major."""
        ...
