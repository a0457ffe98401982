"""A network of language-model nodes, and its forward pass: question -> layers -> answer. Read it top to bottom.

A network is a topology (who reads whom), a backbone (the frozen model all nodes share), an adapter bank (what makes
each node itself) and a prompt template. NeuroMAS, arXiv 2605.16757: node v writes
`m_v ~ π_{W,θ_v}( · | prompt_v(x, {m_u : u upstream of v}))`, layer by layer, and the output node's text is the answer.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from torch.nn import Parameter

from neuromas.config import SamplingConfig
from neuromas.errors import ConfigError
from neuromas.network.adapters import AdapterBank
from neuromas.network.asks import Ask, going_on
from neuromas.network.backbone import Backbone
from neuromas.network.generate import Completion, Engine, GoOn, generate
from neuromas.network.packed import Group
from neuromas.network.products import laid_out
from neuromas.network.prompt import Prompt, PromptTemplate
from neuromas.network.sampling import Decoding, stream_key
from neuromas.network.topology import Topology, Unit
from neuromas.types import Message, NodeCall, Position, Question, Trace

# The nodes and edges that do not exist: in every rollout, or as a function of (question id, rollout).
Absent = Collection[Unit] | Callable[[str, int], Collection[Unit]]
# (question id, rollout, sender, reader, message) -> what the reader is given instead of the message.
Deliver = Callable[[str, int, str, str, str], str]


@dataclass(frozen=True)
class Limits:
    """How much a node may write, and how much is run at once."""

    message_tokens: int = 64
    answer_tokens: int = 64
    batch_rows: int = 512  # rows (questions × rollouts × nodes of a layer) that `answer` runs at once, about

    def __post_init__(self) -> None:
        for name in ("message_tokens", "answer_tokens", "batch_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: must be 1 or more")

    @classmethod
    def from_config(cls, sampling: SamplingConfig, task_answer_tokens: int) -> "Limits":
        """The limits of a recipe; a task's own limit on the answer holds where the recipe gives none."""
        return cls(sampling.message_tokens, sampling.answer_tokens or task_answer_tokens, sampling.batch_rows)


class Network:
    """Topology + backbone + adapters. `forward` is the whole method; `answer` is what evaluation and serving call."""

    def __init__(
        self,
        topology: Topology,
        backbone: Backbone,
        adapters: AdapterBank,
        limits: Limits | None = None,
        decoding: Decoding | None = None,
        name: str = "",
    ) -> None:
        missing = [node for node in topology.nodes if node not in adapters.index]
        if missing:
            raise ConfigError(f"nodes {missing} have no adapter; the bank serves {list(adapters.index)}")
        self.topology, self.backbone, self.adapters = topology, backbone, adapters
        self.limits, self.decoding = limits or Limits(), decoding or Decoding()
        self.name = name or f"{backbone.name} {topology.name}"
        self.extras: dict[str, Parameter] = {}  # what training keeps beside the adapters, e.g. a critic's memory
        self.engine: Engine | None = None  # who samples; None: this library itself
        self._without = lru_cache(4096)(topology.without)

    @classmethod
    def create(
        cls,
        topology: "Topology | str | Sequence[int]",
        backbone: Backbone,
        *,
        rank: int = 8,
        alpha: float | None = None,
        targets: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
        tied: bool = False,
        seed: int = 0,
        limits: Limits | None = None,
        decoding: Decoding | None = None,
        name: str = "",
    ) -> "Network":
        """An untrained network: it speaks as the bare backbone does. alpha is 2 * rank when left out.

        tied: one adapter for all nodes, e.g. a single model that writes to itself before it answers.
        """
        shape = topology if isinstance(topology, Topology) else Topology.parse(topology)
        bank = AdapterBank(
            {node: "shared" if tied else node for node in shape.nodes},
            backbone.adapter_shapes(tuple(targets)),
            rank=rank,
            alpha=2.0 * rank if alpha is None else alpha,
            seed=seed,
            device=backbone.device,
        )
        return cls(shape, backbone, bank, limits, decoding, name)

    @property
    def trainable_parameters(self) -> int:
        return self.adapters.trainable_parameters

    def forward(
        self,
        questions: Sequence[Question],
        *,
        rollouts: int,
        seed: int,
        step: int = 0,
        decoding: Decoding | None = None,
        blank: Collection[str] = (),
        absent: Absent = (),
        deliver: Deliver | None = None,
    ) -> list[Trace]:
        """`len(questions) * rollouts` traces, question-major.

        Every random draw is a function of (seed, step, question id, rollout, node, token position). `blank` names
        nodes whose message is delivered empty: they are called as ever, but nobody hears them. `absent` names nodes and
        edges that do not exist: the rest stands as `Topology.without` leaves it, and absent nodes make no call.
        `deliver` changes messages on their way, edge by edge.
        """
        numbered, how = number_rollouts(questions, rollouts), decoding or self.decoding
        asks = [Ask(question, range(first, first + rollouts), seed, how) for question, first in numbered]
        return self.run(asks, step=step, blank=blank, absent=absent, deliver=deliver)

    def run(
        self,
        asks: Sequence[Ask],
        *,
        step: int = 0,
        blank: Collection[str] = (),
        absent: Absent = (),
        deliver: Deliver | None = None,
    ) -> list[Trace]:
        """The pass itself: a trace for each rollout of each ask, in order. What an ask gets does not depend on the
        others of its pass, as far as arithmetic rounds alike in batches of any size."""
        start = time.perf_counter()
        rows = [(ask, g) for ask in asks for g in ask.rollouts]
        of = [number for number, ask in enumerate(asks) for _ in ask.rollouts]  # the ask of each row
        shapes = self.shapes([(ask.question.id, g) for ask, g in rows], absent)
        heard: list[dict[str, str]] = [{} for _ in rows]  # what each row's nodes have said so far
        calls: list[dict[str, NodeCall]] = [{} for _ in rows]
        longest = [0] * len(rows)  # tokens generated one after the other

        def message(row: int, sender: str, reader: str) -> Message:
            (ask, g), text = rows[row], heard[row][sender]
            return Message(sender, text if deliver is None else deliver(ask.question.id, g, sender, reader, text))

        tokens = sum(self._limit(node) for node in self.topology.nodes)
        deepest = max((len(shape.layers) for shape in shapes), default=0)
        own_rows = len(rows) if self.engine is None else 0
        with laid_out(self.backbone.model, own_rows, tokens):  # the weights, for the many products that follow
            for layer in range(deepest):  # those of fewer layers wait with their answer for the last one
                turns: dict[tuple[int, tuple[int, ...]], list[tuple[int, str, Prompt]]] = {}  # row, node, what it reads
                for at, rows_at in self._turns(shapes, layer, deepest, of):
                    limit = self._limit(at.id)
                    prompts = [
                        self.backbone.template.render(
                            at, rows[row][0].question, [message(row, u, at.id) for u in at.upstream], reserve=limit
                        )
                        for row in rows_at
                    ]
                    turn = turns.setdefault((self.adapters.index[at.id], tuple(prompts[0].prefix_ids)), [])
                    turn += [(row, at.id, prompt) for row, prompt in zip(rows_at, prompts, strict=True)]

                groups = [Group(a, list(prefix), [p.own_ids for *_, p in turn]) for (a, prefix), turn in turns.items()]
                members = [member for turn in turns.values() for member in turn]
                limit = self.limits.answer_tokens if layer == deepest - 1 else self.limits.message_tokens
                now = [(*rows[row], node) for row, node, _ in members]
                keys = [stream_key(ask.seed, step, ask.question.id, g, node) for ask, g, node in now]
                ways = [ask.decoding for ask, _, _ in now]
                replies = self.sample(groups, keys, limit, ways, going_on(now))
                spoken = [0] * len(rows)  # tokens of the longest call of this layer
                for (row, node, prompt), reply in zip(members, replies, strict=True):
                    call = calls[row][node] = node_call(self.backbone.template, node, prompt, reply)
                    heard[row][node] = "" if node in blank else call.text
                    if listener := rows[row][0].listener:
                        listener.said(rows[row][1], call)
                    spoken[row] = max(spoken[row], len(call.completion_ids))
                longest = [before + most for before, most in zip(longest, spoken, strict=True)]

        seconds = (time.perf_counter() - start) / max(1, len(rows))
        return [
            Trace(
                question_id=ask.question.id,
                rollout=g,
                calls=[calls[row][node] for node in shape.nodes],
                answer=ask.question.answer_prefix + heard[row][self.topology.output],
                sequential_calls=len(shape.layers),
                sequential_tokens=longest[row],
                seconds=seconds,
            )
            for row, ((ask, g), shape) in enumerate(zip(rows, shapes, strict=True))
        ]

    def sample(
        self,
        groups: Sequence[Group],
        keys: Sequence[int],
        limit: int,
        how: Decoding | Sequence[Decoding],
        go_on: GoOn | None = None,
    ) -> list[Completion]:
        """One completion for each row of `groups`, by the engine. Another one than this library's own answers whole
        turns, so rows that someone listens to token by token (`go_on`) are left to the latter."""
        if self.engine is None or go_on is not None:
            return generate(self.backbone, self.adapters, groups, keys, limit, how, go_on=go_on)
        return self.engine.generate(self.adapters, groups, keys, limit, how)

    def shapes(self, rollouts: Sequence[tuple[str, int]], absent: Absent) -> list[Topology]:
        """The effective topology of each (question id, rollout)."""
        missing = absent if callable(absent) else lambda _question, _rollout: absent
        return [self._without(frozenset(missing(*rollout))) for rollout in rollouts]

    def _turns(
        self, shapes: Sequence[Topology], layer: int, deepest: int, of: Sequence[int]
    ) -> list[tuple[Position, list[int]]]:
        """Who speaks in `layer` (from 0), and in which rows: those of one ask where it stands alike go together.

        Sorted by adapter. The output speaks in the last layer of the deepest topology, whatever the row's own depth.
        """
        turns: dict[tuple[int, int, int, Position], list[int]] = {}
        order = {node: n for n, node in enumerate(self.topology.nodes)}
        for row, shape in enumerate(shapes):
            if layer == deepest - 1:
                speakers = shape.layers[-1]
            else:
                speakers = shape.layers[layer] if layer < len(shape.layers) - 1 else ()
            for node in speakers:
                turn = (self.adapters.index[node], order[node], of[row], shape.position(node))
                turns.setdefault(turn, []).append(row)
        return [(turn[3], turns[turn]) for turn in sorted(turns, key=lambda turn: turn[:3])]

    def _limit(self, node: str) -> int:
        """Tokens that a node may write."""
        return self.limits.answer_tokens if node == self.topology.output else self.limits.message_tokens

    def answer(
        self,
        questions: list[Question],
        *,
        greedy: bool = True,
        seed: int = 0,
        rollouts: int = 1,
        blank: Collection[str] = (),
        absent: Absent = (),
        deliver: Deliver | None = None,
    ) -> list[Trace]:
        """Traces for any number of questions, in batches of similar length; the `System` protocol."""
        how = replace(self.decoding, greedy=greedy)
        widest = max(map(len, self.topology.layers))
        size = max(1, self.limits.batch_rows // (rollouts * widest))
        order = sorted(range(len(questions)), key=lambda i: len(questions[i].text))
        found: dict[int, list[Trace]] = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            traces = self.forward(
                [questions[i] for i in batch],
                rollouts=rollouts,
                seed=seed,
                decoding=how,
                blank=blank,
                absent=absent,
                deliver=deliver,
            )
            for k, i in enumerate(batch):
                found[i] = traces[k * rollouts : (k + 1) * rollouts]
        return [trace for i in range(len(questions)) for trace in found[i]]


def node_call(template: PromptTemplate, node: str, prompt: Prompt, reply: Completion) -> NodeCall:
    """The record of one call: what `node` read and what it said."""
    return NodeCall(
        node=node,
        prefix_ids=prompt.prefix_ids,
        own_ids=prompt.own_ids,
        completion_ids=reply.ids,
        logprobs=reply.logprobs,
        entropies=reply.entropies,
        text=template.decode(reply.ids),
        truncated=reply.truncated,
        dropped_tokens=prompt.dropped_tokens,
    )


def number_rollouts(questions: Sequence[Question], rollouts: int) -> list[tuple[Question, int]]:
    """Each question with the number of its first rollout: where it is asked twice in a batch, counting goes on."""
    asked: Counter[str] = Counter()
    out: list[tuple[Question, int]] = []
    for question in questions:
        out.append((question, asked[question.id] * rollouts))
        asked[question.id] += 1
    return out
