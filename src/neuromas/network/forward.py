"""A network of language-model nodes, and its forward pass: question -> layers -> answer. Read it top to bottom.

A network is a topology (who reads whom), a backbone (the frozen model all nodes share), an adapter bank (what makes
each node itself) and a prompt template. NeuroMAS, arXiv 2605.16757: node v writes
`m_v ~ π_{W,θ_v}( · | prompt_v(x, {m_u : u upstream of v}))`, layer by layer, and the output node's text is the answer.
"""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Self

from torch import Tensor
from torch.nn import Parameter

from neuromas.config import SamplingConfig
from neuromas.errors import ConfigError
from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.cpu import prepacked
from neuromas.network.environment import Environment, Inquiry
from neuromas.network.generate import Completion, Engine, GoOn, IsEnded, generate
from neuromas.network.packed import Group
from neuromas.network.prompt import Prompt
from neuromas.network.sampling import Decoding
from neuromas.network.stopping import shortened
from neuromas.network.topology import Topology, Unit
from neuromas.network.turns import Ask, Deliver, Rollout, Turn, asks_of, depth_of, replay_each, speak
from neuromas.network.wording import Words
from neuromas.types import Message, NodeCall, Position, Question, Trace

# The nodes and edges that do not exist: in every rollout, or as a function of (question id, rollout).
Absent = Collection[Unit] | Callable[[str, int], Collection[Unit]]


@dataclass(frozen=True)
class Limits:
    """Limits on what a node may write and on the rows of one batch."""

    message_tokens: int = 64
    answer_tokens: int = 64
    batch_rows: int = 512  # rows (questions × rollouts × nodes of a layer) that `answer` runs at once, about
    stop: tuple[str, ...] = ()  # texts that end a turn; see network/stopping.py

    def __post_init__(self) -> None:
        for name in ("message_tokens", "answer_tokens", "batch_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: must be 1 or more")

    @classmethod
    def from_config(cls, sampling: SamplingConfig, task_answer_tokens: int) -> "Limits":
        """The limits of a recipe; a task's own limit on the answer holds where the recipe gives none."""
        answer = (sampling.answer_tokens or task_answer_tokens) + sampling.thinking_tokens
        return cls(sampling.message_tokens, answer, sampling.batch_rows, sampling.stop)

    def of(self, answers: bool) -> int:
        """Tokens that a node may write: one that answers, or one whose message others read."""
        return self.answer_tokens if answers else self.message_tokens


class Network:
    """Topology, backbone and adapters. `forward` is the method; `answer` asks any number of questions through it."""

    def __init__(
        self,
        topology: Topology,
        backbone: Backbone,
        adapters: AdapterBank,
        limits: Limits | None = None,
        decoding: Decoding | None = None,
        name: str = "",
        words: Words | None = None,
        environment: Environment | None = None,
    ) -> None:
        missing = [node for node in topology.nodes if node not in adapters.index]
        if missing:
            raise ConfigError(f"nodes {missing} have no adapter; the bank serves {list(adapters.index)}")
        self.topology, self.backbone, self.adapters = topology, backbone, adapters
        self.limits, self.decoding = limits or Limits(), decoding or Decoding()
        self.name = name or f"{backbone.name} {topology.name}"
        self.words = words or Words.of(None, backbone.template.style)
        self.environment = environment  # what nodes may ask while they write
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
        targets: Sequence[str] | None = None,
        tied: bool = False,
        seed: int = 0,
        limits: Limits | None = None,
        decoding: Decoding | None = None,
        name: str = "",
        words: Words | None = None,
        environment: Environment | None = None,
    ) -> Self:
        """An untrained network: it speaks as the bare backbone does. alpha is 2 * rank when left out.

        targets: the linear layers that get adapters; by default those of the backbone.
        tied: one adapter for all nodes, e.g. a single model that writes to itself before it answers.
        """
        shape = topology if isinstance(topology, Topology) else Topology.parse(topology)
        bank = AdapterBank(
            {node: "shared" if tied else node for node in shape.nodes},
            backbone.adapter_shapes(targets),
            rank=rank,
            alpha=2.0 * rank if alpha is None else alpha,
            seed=seed,
            device=backbone.device,
        )
        return cls(shape, backbone, bank, limits, decoding, name, words, environment)

    @property
    def trainable_parameters(self) -> int:
        return self.adapters.trainable_parameters

    def forward(
        self,
        asks: Sequence[Ask],
        *,
        blank: Collection[str] = (),
        absent: Absent = (),
        deliver: Deliver | None = None,
    ) -> list[Rollout]:
        """One finished rollout for each number of each ask, in order: layer by layer, who speaks, and what was said.

        Every random draw is a function of (seed, step, question id, rollout, node, token position), so what an ask gets
        does not depend on the others of its pass, as far as arithmetic rounds alike in batches of any size. `blank`
        names nodes whose message is delivered empty: they are called as ever, but nobody hears them. `absent` names
        nodes and edges that do not exist: the rest stands as `Topology.without` leaves it, and absent nodes make no
        call. `deliver` changes messages on their way, edge by edge.
        """
        start = time.perf_counter()
        rollouts = self._begin(asks, absent)
        depth = depth_of([rollout.topology for rollout in rollouts])
        with self._prepacked(len(rollouts)):
            for layer in range(depth):
                speakers = [(r, node) for r in rollouts for node in r.topology.speakers(layer, depth)]
                turns = [self.turn(rollout, node, rollout.messages(node, deliver)) for rollout, node in speakers]
                for (rollout, node), call in zip(speakers, self.speak(turns), strict=True):
                    rollout.hear(call, blank=node in blank)
        for rollout in rollouts:
            rollout.seconds = (time.perf_counter() - start) / len(rollouts)
        return rollouts

    def prompt(self, position: Position, question: Question, messages: Sequence[Message]) -> Prompt:
        """The prompt of the node at `position`. Raises `PromptError` where it does not fit into the context window."""
        limit = self.limits.of(position.is_output)
        return self.backbone.template.render(position, question, messages, limit, self.words.at(position, limit))

    def turn(self, rollout: Rollout, node: str, messages: Sequence[Message]) -> Turn:
        """The turn of `node`, which reads the question as far as it sees it, and `messages`."""
        position, ask = rollout.topology.position(node), rollout.ask
        return Turn(
            speaker=node,
            adapter=self.adapters.index[node],
            prompt=self.prompt(position, ask.question, messages),
            limit=self.limits.of(position.is_output),
            decoding=ask.decoding,
            stream=rollout.stream(node),
            go_on=None if ask.listener is None else partial(ask.listener.wrote, rollout.number, node),
            stop=self.limits.stop,
            inquiry=Inquiry.of(self.environment, ask.question),
        )

    def speak(self, turns: Sequence[Turn], batch_rows: int | None = None) -> list[NodeCall]:
        """The calls of some turns, in order: all in one batch, or in batches of at most `batch_rows` rows."""
        return speak(turns, self.sample, self.backbone.template, batch_rows)

    def sample(
        self,
        groups: Sequence[Group],
        keys: Sequence[int],
        limit: int,
        how: Decoding | Sequence[Decoding],
        go_on: GoOn | None = None,
        ended: IsEnded | None = None,
    ) -> list[Completion]:
        """One completion for each row of `groups`, by the engine. Another one than this library's own answers whole
        turns, so rows that someone listens to token by token (`go_on`) are left to the latter."""
        if self.engine is None or go_on is not None:
            return generate(self.backbone, self.adapters, groups, keys, limit, how, go_on=go_on, ended=ended)
        done = self.engine.generate(self.adapters, groups, keys, limit, how)
        return done if ended is None else [shortened(completion, ended) for completion in done]

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
        decoding = replace(self.decoding, greedy=greedy)
        size = max(1, self.limits.batch_rows // (rollouts * max(map(len, self.topology.layers))))
        order = sorted(range(len(questions)), key=lambda i: len(questions[i].text))
        traces: dict[int, list[Trace]] = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            asks = asks_of([questions[i] for i in batch], rollouts, seed, decoding)
            finished = self.forward(asks, blank=blank, absent=absent, deliver=deliver)
            for k, i in enumerate(batch):
                traces[i] = [rollout.trace() for rollout in finished[k * rollouts : (k + 1) * rollouts]]
        return [trace for i in range(len(questions)) for trace in traces[i]]

    def replay(self, calls: Sequence[NodeCall]) -> list[Tensor]:
        """Log-probabilities [tokens] of the tokens of each call, in order, differentiable in the adapters.

        They are those under the adapters as they are now, at the temperature of `decoding`, in one pass for all calls.
        """
        return replay_each(self.backbone, self.adapters, list(enumerate(calls)), self.decoding.temperature)

    def _begin(self, asks: Sequence[Ask], absent: Absent) -> list[Rollout]:
        """A rollout for each number of each ask, in its effective topology, before anybody has spoken."""
        missing = absent if callable(absent) else lambda _question, _rollout: absent
        return [
            Rollout(ask, number, self._without(frozenset(missing(ask.question.id, number))))
            for ask in asks
            for number in ask.rollouts
        ]

    def _prepacked(self, rows: int) -> AbstractContextManager[None]:
        """Frozen weights prepacked for the products of a whole pass, where this library itself samples."""
        tokens = sum(self.limits.of(node == self.topology.output) for node in self.topology.nodes)
        return prepacked(self.backbone.model, rows if self.engine is None else 0, tokens)
