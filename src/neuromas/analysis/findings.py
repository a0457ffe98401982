"""The record of `neuromas inspect`, as findings.json holds it; docs/metrics.md explains how each number is made.

Shares, accuracies and their differences are in [0, 1] or [-1, 1], and intervals are 95 % intervals over questions.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from neuromas.network.topology import Unit
from neuromas.results import Interval, JsonRecord, MessageRecord, Score
from neuromas.types import Floors

InterventionKind = Literal["silenced", "blanked", "shuffled", "another's", "swapped"]
TargetScope = Literal["node", "layer", "edge", "all", "pair"]
NodeVerdict = Literal["needed", "replaceable", "idle", "harmful"]


@dataclass(frozen=True, kw_only=True)
class InterventionEffect(JsonRecord):
    """The accuracy with some messages disturbed."""

    kind: InterventionKind  # How they are disturbed.
    scope: TargetScope  # What sends them.
    target: str  # The nodes or the edge, in words.
    units: list[Unit]  # The ids of the nodes, or the edge as (sender, reader).
    accuracy: float  # The mean reward with the disturbance.
    ci95: Interval  # Wilson's interval of the accuracy.
    difference: float  # The accuracy minus that of the undisturbed network.
    difference_ci95: Interval  # The bootstrap's interval of the difference.
    p: float  # The p-value of the difference: McNemar's where rewards are 0 or 1, else the bootstrap's.
    follows: float | None = None  # Share of answers right for the other question; None except for "another's".
    p_holm: float  # The p-value corrected by Holm's method over all interventions.


@dataclass(frozen=True, kw_only=True)
class NodeValue(JsonRecord):
    """The worth of one hidden node."""

    cost: float  # The accuracy lost where the node alone is absent.
    cost_ci95: Interval  # The bootstrap's interval of the cost.
    shapley: float  # The node's Shapley value: its share of the accuracy.
    shapley_ci95: Interval  # The bootstrap's interval of the Shapley value.
    verdict: NodeVerdict  # What the two intervals say of the node; see `study.verdict`.
    partners: list[str] | None = None  # Nodes that stand in for it; None unless the verdict is "replaceable".


@dataclass(frozen=True, kw_only=True)
class NodeValues(JsonRecord):
    """The worth of all hidden nodes."""

    absent: Literal["silenced", "blanked"]  # How a node is absent: it does not exist, or its messages arrive empty.
    orders: int | None  # Random orders of joining for each question; None where the Shapley values are exact.
    nobody: float  # The accuracy without any hidden node.
    nodes: dict[str, NodeValue]  # By id.


@dataclass(frozen=True, kw_only=True)
class Distinctness(JsonRecord):
    """A test of whether the messages of a layer's siblings tell their writers apart."""

    layer: int  # The layer's number, from 1.
    nodes: list[str]  # The siblings' ids.
    bits: float  # Mutual information of a message's writer and the guessed one, corrected for bias; may be below 0.
    ci95: Interval  # The bootstrap's interval of the bits.
    most: float  # The largest possible value, log2 of the number of siblings.
    guessed: float  # The share of messages whose writer is guessed; chance is 1 / siblings.
    null_mean: float  # The mean of the bits with random labels.
    null_95: float  # The 95th percentile of the bits with random labels.
    p: float  # The share of labellings, the true one among them, with at least the bits of the true one.
    same: float  # The share of pairs of siblings that write the same text, of all pairs on all questions.
    marks: list[list[str]]  # For each sibling the tokens that point most clearly to it.

    def specialised(self, untrained: "Distinctness") -> str:
        """The answer to the question whether training made the siblings differ.

        yes: the lower end of the interval is above the 95th percentile with random labels and above the upper end of
        the untrained network's interval. no: it is not above the former. Else: not more than before training.
        """
        low = self.ci95[0]
        if low <= self.null_95:
            return "no"
        return "yes" if low > untrained.ci95[1] else "not more than before training"


@dataclass(frozen=True, kw_only=True)
class MessageStatistics(JsonRecord):
    """Means over one node's messages."""

    length: float  # Tokens per message, the end-of-sequence token included.
    truncated: float  # Share of messages that the token limit ended.
    empty: float  # Share of messages that are blank.
    distinct: float  # Number of different messages, divided by the number of messages.
    text_entropy: float  # Entropy of the distribution of whole messages, in bits.
    entropy: float  # Entropy of the next-token distribution, in nats per token.
    dropped: float  # Upstream message tokens that did not fit into the node's prompt, per message.


@dataclass(frozen=True, kw_only=True)
class PartShare(JsonRecord):
    """The share of a node's messages that report one named part of the question."""

    share: float  # The share of the node's messages that report the part.
    right: float  # The share of these that are right.
    n: int  # The number of messages that report the part.
    ci95: Interval  # Wilson's interval of `right`.


@dataclass(frozen=True, kw_only=True)
class ReportedParts(JsonRecord):
    """The named parts of the question that one node reports."""

    none: float  # The share of its messages that report no part.
    parts: dict[str, PartShare]  # By the part's name, the root last.


@dataclass(frozen=True, kw_only=True)
class MessageFindings(JsonRecord):
    """The messages of a network's nodes, and its accuracy."""

    distinctness: list[Distinctness]  # For each layer with siblings.
    messages: dict[str, MessageStatistics]  # By node, the output included.
    parts: dict[str, ReportedParts] | None  # By node; None for tasks without named parts.
    accuracy: float  # The mean reward.
    ci95: Interval  # Wilson's interval of the accuracy.


@dataclass(frozen=True, kw_only=True)
class ExampleTrace(JsonRecord):
    """One question with all messages on the way to its answer."""

    question: str  # The question's text.
    answer: str  # The gold answer.
    reply: str  # The text that was graded.
    reward: float  # The grade; 1 is right.
    messages: list[MessageRecord]  # In the order in which they were made, the answer included.


@dataclass(frozen=True, kw_only=True)
class DecodingFindings(MessageFindings):
    """All findings with one way of decoding."""

    ORDER: ClassVar = ("undisturbed", "interventions", "values")

    undisturbed: Score  # The network as it is.
    interventions: list[InterventionEffect]
    values: NodeValues
    examples: list[ExampleTrace]  # The first with a right answer, then the first with a wrong one.
    untrained: MessageFindings  # The same network before training.

    def all_blanked(self) -> InterventionEffect:
        """The effect of blanking every message. Where a layer or a node sends them all, it goes by that name."""
        rows = [row for row in self.interventions if row.kind == "blanked" and row.scope != "edge"]
        return next(row for row in rows if len(row.units) == len(self.values.nodes))


@dataclass(frozen=True, kw_only=True)
class Findings(JsonRecord):
    """All findings on one network."""

    system: str  # The network's name.
    backbone: str  # The backbone's name.
    topology: dict[str, Any]  # The topology as topology.json holds it.
    task: str  # The task's name.
    task_version: int  # The task's version.
    split: str  # The split whose questions were asked.
    n: int  # Questions asked.
    seed: int  # The seed of sampling and of everything else that is drawn at random.
    seeds: int  # Training runs behind the numbers; always 1.
    trainable_parameters: int  # Parameters that training may change.
    floors: Floors  # Accuracies that need no understanding, on exactly these questions.
    decodings: dict[str, DecodingFindings]  # By the way of decoding, "greedy" or "sampled".


@dataclass(frozen=True, kw_only=True)
class PassRewards(JsonRecord):
    """The reward of every question in one pass: a line of raw.jsonl."""

    decoding: str  # "greedy" or "sampled".
    kind: str  # "undisturbed", "untrained", "coalition", or the kind of an intervention.
    scope: TargetScope | None = None  # The scope of an intervention; None for other passes.
    target: str | None = None  # The target of an intervention; None for other passes.
    present: list[str] | None = None  # The hidden nodes of a coalition; None for other passes.
    rewards: list[float]  # In the order of the questions.


@dataclass(frozen=True)
class Inspection:
    """The findings of `study` with the passes behind them."""

    findings: Findings
    questions: list[str]  # The questions' ids, in the order in which they were asked.
    passes: list[PassRewards]

    def raw_lines(self) -> list[dict[str, Any]]:
        """The lines of raw.jsonl: the questions' ids, then each pass."""
        return [{"questions": self.questions}, *(rewards.to_dict() for rewards in self.passes)]
