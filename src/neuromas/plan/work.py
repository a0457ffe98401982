"""What one training step of a network computes, as numbers of tokens. Plain data.

Legend: P question, G rollout, N node.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.prompt import PromptTemplate
from neuromas.network.topology import Topology
from neuromas.train.batching import micro_batches
from neuromas.types import Message, Question

LABEL_TOKENS = 10  # around a message, where no tokenizer is at hand
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Turn:
    """One node's turn in a rollout, in tokens."""

    node: str
    layer: int  # from 0
    prefix: int  # of the prompt: shared by the rollouts of a question
    own: int  # of the prompt: messages and what follows them
    writes: int  # the end token included

    @property
    def replayed(self) -> int:
        """Own tokens of a row when it is replayed; nothing is read after its last token."""
        return self.own + self.writes - 1


@dataclass(frozen=True)
class Pass:
    """The rectangles of one packed pass: U groups of up to G rows, prefixes of T and own tokens of up to C."""

    groups: int
    rows: int
    prefix: int
    own: int
    tokens: int  # real ones, all groups
    scored: int  # positions at which logits are wanted

    @property
    def slots(self) -> int:
        return self.groups * (self.prefix + self.rows * self.own)

    @property
    def scores(self) -> int:
        """Attention scores of one head."""
        return self.groups * (self.prefix**2 + self.rows * self.own * (self.prefix + self.own))


@dataclass(frozen=True)
class Work:
    """One step: every turn is taken by P × G rows."""

    turns: tuple[Turn, ...]  # in the order of the topology's nodes
    questions: int
    rollouts: int
    adapters: int  # of the bank
    rank: int
    targets: tuple[str, ...]
    dtype: str
    micro_tokens: int
    checkpointing: bool
    kl: bool  # a penalty: the update scores everything under the bare backbone too
    entropy: bool
    device: str = "cpu"

    @property
    def value_bytes(self) -> int:
        return BYTES[self.dtype]

    @property
    def rows(self) -> int:
        return self.questions * self.rollouts

    @property
    def sampled_tokens(self) -> int:
        return self.rows * sum(turn.writes for turn in self.turns)

    def layers(self) -> list[list[Turn]]:
        """Turns that are taken side by side."""
        return [[t for t in self.turns if t.layer == n] for n in range(1 + max(t.layer for t in self.turns))]

    def prefills(self) -> list[Pass]:
        """The first pass of each layer: prompts without what is then sampled."""
        return [
            self._pass([(t.prefix, t.own, 1) for t in turns for _ in range(self.questions)]) for turns in self.layers()
        ]

    def replays(self) -> Iterator[Pass]:
        """The passes of the update, divided as `train.step` divides them, no row left out."""
        whole = [(t.prefix, t.replayed, t.writes, rows) for t in self.turns for rows in self._divided(t)]
        for batch in micro_batches(whole, lambda g: g[0] + g[1] * g[3], self.micro_tokens):
            yield self._pass([g[:3] for g in batch], [g[3] for g in batch])

    def measured(self) -> Pass:
        """The pass over the rollouts of one question that measures KL."""
        return self._pass([(t.prefix, t.replayed, t.writes) for t in self.turns])

    def _divided(self, turn: Turn) -> list[int]:
        """Rows of each group of one turn, question by question: as many as the budget holds beside the prefix."""
        most = max(1, (self.micro_tokens - turn.prefix) // max(1, turn.replayed))
        full, rest = divmod(self.rollouts, most)
        return ([most] * full + [rest] * (rest > 0)) * self.questions

    def _pass(self, groups: Sequence[tuple[int, int, int]], rows: Sequence[int] | None = None) -> Pass:
        """groups: (prefix, own, scored) tokens; rows: of each group, G where left out."""
        rows = rows or [self.rollouts] * len(groups)
        return Pass(
            groups=len(groups),
            rows=max(rows),
            prefix=max(g[0] for g in groups),
            own=max(g[1] for g in groups),
            tokens=sum(g[0] + g[1] * r for g, r in zip(groups, rows, strict=True)),
            scored=sum(g[2] * r for g, r in zip(groups, rows, strict=True)),
        )


def work_of(config: RunConfig, topology: Topology, turns: Sequence[Turn], dtype: str, device: str = "cpu") -> Work:
    """A recipe's step. dtype and device: what "auto" comes to."""
    t, adapter = config.train, config.adapter
    return Work(
        turns=tuple(turns),
        questions=t.questions,
        rollouts=t.rollouts,
        adapters=1 if adapter.tied else len(topology.nodes),
        rank=adapter.rank,
        targets=adapter.targets,
        dtype=dtype,
        micro_tokens=t.micro_tokens,
        checkpointing=t.gradient_checkpointing,
        kl=t.kl > 0,
        entropy=t.entropy > 0,
        device=device,
    )


def rendered_turns(
    topology: Topology,
    template: PromptTemplate,
    questions: Sequence[Question],
    writes: Mapping[str, float],
    worst: bool,
) -> list[Turn]:
    """Turns with the prompt lengths of real questions: their mean, or with `worst` the longest.

    writes: tokens that each node writes.
    """
    if not questions:
        raise ConfigError("the task has no training questions to plan with; give it a train size above 0")
    middle = max if worst else lambda lengths: round(sum(lengths) / len(lengths))
    turns: list[Turn] = []
    for node in topology.nodes:
        at = topology.position(node)
        silent = [Message(u, "") for u in at.upstream]
        prompts = [template.render(at, question, silent, 1) for question in questions]
        heard = sum(writes[u] for u in at.upstream)
        own = middle([len(p.own_ids) for p in prompts]) + round(heard)
        turns.append(Turn(node, at.layer - 1, middle([len(p.prefix_ids) for p in prompts]), own, round(writes[node])))
    return turns


def assumed_turns(topology: Topology, prompt_tokens: int, writes: Mapping[str, float]) -> list[Turn]:
    """Turns where no tokenizer is at hand: every prefix has `prompt_tokens` tokens."""
    turns: list[Turn] = []
    for node in topology.nodes:
        at = topology.position(node)
        own = sum(round(writes[u]) + LABEL_TOKENS for u in at.upstream)
        turns.append(Turn(node, at.layer - 1, prompt_tokens, own, round(writes[node])))
    return turns


def fewer(work: Work, questions: int, rollouts: int) -> Work:
    return replace(work, questions=questions, rollouts=rollouts)
