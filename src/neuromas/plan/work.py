"""The tokens of one training step of a network, turn by turn and pass by pass. Plain data.

Legend: P question, G rollout.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.prompt import PromptTemplate
from neuromas.network.topology import Topology
from neuromas.network.wording import Words
from neuromas.train.batching import micro_batches, room_beside
from neuromas.types import Message, Question

LABEL_TOKENS = 10  # Tokens around a message, where no tokenizer is at hand.
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
Lengths = Mapping[str, tuple[int, int]]  # node -> prompt tokens that rollouts share, and own ones without messages


@dataclass(frozen=True)
class TurnWork:
    """One node's turn in a rollout, in tokens."""

    node: str
    layer: int  # Counted from 0.
    prefix: int  # Tokens of the prompt that all rollouts of a question share.
    own: int  # The rollout's own tokens of the prompt: messages and what follows them.
    writes: int  # The end token counts.

    @property
    def replayed(self) -> int:
        """Own tokens of a row when it is replayed; nothing is read after its last token."""
        return self.own + self.writes - 1


@dataclass(frozen=True)
class PassWork:
    """The rectangles of one packed pass: U groups of up to G rows, prefixes of T and own tokens of up to C."""

    groups: int
    rows: int
    prefix: int
    own: int
    tokens: int  # Real tokens of all groups, padding left out.
    scored: int  # Positions at which logits are wanted.

    @classmethod
    def of(cls, groups: Sequence[tuple[int, int, int, int]]) -> "PassWork":
        """The pass over groups of (prefix tokens, own tokens of a row, scored tokens of a row, rows)."""
        prefix, own, _, rows = map(max, zip(*groups, strict=True))
        tokens = sum(t + c * g for t, c, _, g in groups)
        return cls(len(groups), rows, prefix, own, tokens, sum(scored * g for _, _, scored, g in groups))

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

    turns: tuple[TurnWork, ...]  # In the order of the topology's nodes.
    questions: int
    rollouts: int
    adapters: int  # Adapters in the bank.
    rank: int
    targets: tuple[str, ...]
    dtype: str
    micro_tokens: int
    checkpointing: bool
    kl: bool  # With a penalty the update scores everything under the bare backbone too.
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

    def layers(self) -> list[list[TurnWork]]:
        """Turns that are taken side by side."""
        return [[t for t in self.turns if t.layer == n] for n in range(1 + max(t.layer for t in self.turns))]

    def prefills(self) -> list[PassWork]:
        """The first pass of each layer: prompts without what is then sampled."""
        of = lambda turns: [(t.prefix, t.own, 1, self.rollouts) for t in turns]
        return [PassWork.of(of(turns) * self.questions) for turns in self.layers()]

    def replays(self) -> Iterator[PassWork]:
        """The passes of the update, divided as `train.step` divides them, no row left out."""
        groups = [(t.prefix, t.replayed, t.writes, rows) for t in self.turns for rows in self._divided(t)]
        for batch in micro_batches(groups, lambda g: g[0] + g[1] * g[3], self.micro_tokens):
            yield PassWork.of(batch)

    def measured(self) -> PassWork:
        """The pass over the rollouts of one question that measures KL."""
        return PassWork.of([(t.prefix, t.replayed, t.writes, self.rollouts) for t in self.turns])

    def _divided(self, turn: TurnWork) -> list[int]:
        """Rows of each group of one turn, question by question: as many as the budget holds beside the prefix."""
        most = max(1, room_beside(turn.prefix, self.micro_tokens) // max(1, turn.replayed))
        full, rest = divmod(self.rollouts, most)
        return ([most] * full + [rest] * (rest > 0)) * self.questions


def work_of(
    config: RunConfig,
    topology: Topology,
    lengths: Lengths,
    writes: Mapping[str, float],
    device: str,
    targets: tuple[str, ...],
) -> Work:
    """A recipe's step on a "cpu" or "cuda" device, with prompts of `lengths` and as many tokens a node as `writes`.

    targets: the layers that get adapters where the recipe names none.
    """
    t, adapter, dtype = config.train, config.adapter, config.backbone.dtype
    turns: list[TurnWork] = []
    for node in topology.nodes:
        heard = sum(writes[sender] for sender in topology.parents(node))
        prefix, own = lengths[node]
        turns.append(TurnWork(node, topology.position(node).layer - 1, prefix, own + round(heard), round(writes[node])))
    return Work(
        turns=tuple(turns),
        questions=t.questions,
        rollouts=t.rollouts,
        adapters=1 if adapter.tied else len(topology.nodes),
        rank=adapter.rank,
        targets=adapter.targets or targets,
        dtype=dtype if dtype != "auto" else "float32" if device == "cpu" else "bfloat16",
        micro_tokens=t.micro_tokens,
        checkpointing=t.gradient_checkpointing,
        kl=t.kl > 0,
        entropy=t.entropy > 0,
        device=device,
    )


def mean(lengths: Sequence[int]) -> int:
    return round(sum(lengths) / len(lengths))


def prompt_lengths(
    topology: Topology,
    template: PromptTemplate,
    words: Words,
    questions: Sequence[Question],
    middle: Callable[[Sequence[int]], int] = mean,
) -> Lengths:
    """The lengths of each node's prompts to real questions: their mean, or what else `middle` takes of them.

    Raises `ConfigError` where there is no question.
    """
    if not questions:
        raise ConfigError("the task has no training questions to plan with; give it a train size above 0")
    lengths: dict[str, tuple[int, int]] = {}
    for node in topology.nodes:
        silent = [Message(sender, "") for sender in topology.parents(node)]
        at = topology.position(node)
        prompts = [template.render(at, question, silent, 1, words.at(at, 1)) for question in questions]
        lengths[node] = middle([len(p.prefix_ids) for p in prompts]), middle([len(p.own_ids) for p in prompts])
    return lengths
