"""The state before the first step of training, each step, what all steps of a run cost, and how a network grew."""

from dataclasses import dataclass, field
from typing import Any

from neuromas.results.evaluation import AnswerRecord, TopAnswer
from neuromas.results.record import Interval, JsonRecord


@dataclass(frozen=True, kw_only=True)
class StartSample(JsonRecord):
    """One sampled answer of the network that is about to be trained."""

    question: str  # The question's text.
    record: AnswerRecord  # What the nodes said, and how the answer was graded.


@dataclass(frozen=True, kw_only=True)
class StartRecord(JsonRecord):
    """The content of start.json: the first validation questions, each answered `rollouts` times and once greedily.

    A group is the sampled rollouts of one question. Shares are in [0, 1].
    """

    began: str  # How the network began, in words.
    n: int  # Questions asked.
    rollouts: int  # Sampled rollouts of each.
    sampled: float  # Mean reward of the sampled rollouts.
    greedy: float  # Mean reward of the greedy answers.
    all_wrong: float  # Share of groups in which no rollout earned anything: nothing can be learned from them.
    mixed: float  # Share of groups that are neither all wrong nor all right.
    all_right: float  # Share of groups in which every rollout earned 1.
    parse_rate: float  # Share of sampled answers that the grader could read.
    messages_cut: float | None  # Share of the messages that their token limit ended; None where there are none.
    calls: int  # Language-model calls of all this. They are no part of the training's.
    generated_tokens: int  # Tokens sampled in them.
    seconds: float  # Wall time.
    advice: list[str]  # What to change; empty where the run has something to learn from.
    samples: list[StartSample]  # The first rollout of the first questions.
    answers_cut: float | None = None  # Share of all answers that their token limit ended; None in early files.
    backbone: str = ""  # The path that the backbone takes, the reason, and the layers that have adapters.

    @property
    def solvable(self) -> float:
        """Share of questions with any rollout that earned something."""
        return 1 - self.all_wrong

    def __str__(self) -> str:
        cut = "" if self.messages_cut is None else f", {self.messages_cut:.0%} of the messages cut off by their limit"
        cut += f", {self.answers_cut:.0%} of the answers cut off" if self.answers_cut else ""
        return (self.backbone and f"{self.backbone}\n") + (
            f"before the first update ({self.began}; {self.n} validation questions, {self.rollouts} rollouts each)\n"
            f"reward {self.sampled:.2f} sampled, {self.greedy:.2f} greedy; {self.parse_rate:.0%} of the answers "
            f"readable{cut}\n"
            f"questions with a right rollout {self.solvable:.0%}; groups all wrong {self.all_wrong:.0%}, mixed "
            f"{self.mixed:.0%}, all right {self.all_right:.0%}"
        )


@dataclass(frozen=True, kw_only=True)
class NodeMetrics(JsonRecord):
    """One node, or role of a trained baseline, in one step: means over the calls that it made. None: not measured."""

    entropy: float | None = None  # Entropy of the next-token distribution at the sampled tokens, in nats per token.
    length: float | None = None  # Tokens per message, the end-of-sequence token included.
    truncated: float | None = None  # Share of its calls that the token limit ended, in [0, 1].
    dropped: float | None = None  # Upstream message tokens per call that did not fit into its prompt.
    kl: float | None = None  # KL divergence from the bare backbone, in nats per token; 0 where nothing was replayed.
    loss: float | None = None  # Of MALT: the loss of the role's batch, for SFT in nats per token.
    examples: int | None = None  # Of MALT: examples or pairs in the role's batch.
    margin: float | None = None  # Of MALT's DPO: nats by which it prefers the good completion more than the reference.
    preferred: float | None = None  # Of MALT's DPO: share of pairs with a margin above 0.
    pool: int | None = None  # Of MALT: examples or pairs in all search trees.
    gradient_norm: float | None = None  # L2 norm of the adapter's gradient before it was clipped.
    decisive: float | None = None  # Of `counterfactual`: share of rollouts whose draws earned different rewards.
    value: float | None = None  # Of `difference`: mean reward minus that without the node's message.


@dataclass(frozen=True, kw_only=True)
class EngineMetrics(JsonRecord):
    """The mismatch between an external sampling engine's probabilities and the trainer's."""

    tokens: int  # Replayed tokens that the other numbers are over.
    kl: float  # KL divergence of the engine from the trainer, in nats per token.
    ratio_mean: float  # Mean importance ratio, trainer to engine, before truncation.
    ratio_max: float  # Largest importance ratio before truncation.
    capped: float  # Share of tokens whose ratio was truncated, in [0, 1].


@dataclass(frozen=True)
class MessageCost(JsonRecord):
    """The cost of withholding messages."""

    cost: float  # Accuracy lost, in [-1, 1].
    changed: float  # Share of answers that become another one, in [0, 1].


@dataclass(frozen=True, kw_only=True)
class Silenced(JsonRecord):
    """The loss of a network whose messages are withheld, over the first validation questions."""

    n: int = 0  # Answers that were replayed; 0 for a network of one node, which sends no messages.
    all: MessageCost | None = None  # The cost of withholding every message at once; None for a network of one node.
    nodes: dict[str, MessageCost] = field(default_factory=dict[str, MessageCost])  # For each hidden node by id.


@dataclass(frozen=True, kw_only=True)
class ValidationMetrics(JsonRecord):
    """Greedy answers on the first questions of the validation split."""

    accuracy: float  # The mean reward, in [0, 1].
    ci95: Interval  # Wilson's 95 % interval of the accuracy.
    n: int  # Questions asked.
    parse_rate: float  # Share of answers that the grader could read, in [0, 1].
    top_answer: TopAnswer | None  # The commonest answer.
    silenced: Silenced | None = None  # What withholding messages costs; None where it was not measured.


@dataclass(frozen=True, kw_only=True)
class StepMetrics(JsonRecord):
    """One line of metrics.jsonl: what one step of training did. Step 0 is before training and has a validation only.

    Numbers of rollouts are None in steps that sample none, such as step 0 and MALT's SFT and DPO.
    """

    step: int  # Updates done.
    learning_rate: float | None = None  # The learning rate of this update; None at step 0.
    stage: int | None = None  # The number of the stage, from 0; None for runs without stages.
    alpha: float | None = None  # Expected share of rollouts with what the stage added; None without stages.
    reward: float | None = None  # Mean reward of the rollouts, in [0, 1].
    accuracy: float | None = None  # Share of rollouts with reward exactly 1.
    parse_rate: float | None = None  # Share of rollouts whose answer the grader could read.
    equal_reward_groups: float | None = None  # Share of questions whose rollouts all got the same reward.
    wrong_groups: float | None = None  # Share of questions no rollout of which earned anything; None in early files.
    right_groups: float | None = None  # Share of questions all rollouts of which earned 1; None in early files.
    top_answer: str | None = None  # The commonest answer; None stands for answers that the grader could not read.
    top_answer_share: float | None = None  # Its share of the rollouts, in [0, 1].
    distinct_answers: int | None = None  # The number of different answers; all unreadable ones count as one.
    messages_cut: float | None = None  # Share of messages that the token limit ended; None where none were sent.
    rollouts: int | None = None  # Graded answers.
    abstained: int | None = None  # Those of them without a verdict, which nothing is learned from; None: none.
    reward_parts: dict[str, float] | None = None  # Mean of each named part of the reward; None where it has no parts.
    calls: int | None = None  # Language-model calls of the rollouts and of their branches.
    prompt_tokens: int | None = None  # Prompt tokens of all these calls; a prefix that calls share counts for each.
    generated_tokens: int | None = None  # Sampled tokens of all these calls.
    branch_calls: int | None = None  # The part of `calls` that branches took; None where none were made.
    branch_tokens: int | None = None  # The part of `generated_tokens` that branches took; None where none were made.
    value: float | None = None  # The critic's mean prediction before it saw the rewards; None without a critic.
    value_loss: float | None = None  # The critic's mean squared error; None without a critic.
    logprob_gap: float | None = None  # Largest |sampled - replayed log-probability| of a token, in nats.
    engine: EngineMetrics | None = None  # The external engine's mismatch; None where this library samples by itself.
    # Metrics of each node that spoke or learned, by its id; empty where none did.
    nodes: dict[str, NodeMetrics] = field(default_factory=dict[str, NodeMetrics])
    phase: str | None = None  # Of MALT: "search", "sft" or "dpo"; None for other methods.
    estimator: str | None = None  # The advantage estimator of this step; None for trained baselines.
    seconds: dict[str, float] = field(default_factory=dict[str, float])  # Wall seconds of each phase; empty at step 0.
    validation: ValidationMetrics | None = None  # The validation after this step; None where there was none.

    def to_dict(self) -> dict[str, Any]:
        """The line as it is written: `top_answer` is null where most answers were unreadable."""
        line = super().to_dict()
        if self.reward is None or self.top_answer is not None:
            return line
        before = list(line).index("right_groups" if self.right_groups is not None else "equal_reward_groups") + 1
        return dict([*list(line.items())[:before], ("top_answer", None), *list(line.items())[before:]])


@dataclass(frozen=True, kw_only=True)
class TrainingCost(JsonRecord):
    """The sampling and the updates of a run's training, summed over its steps. Validation and testing count nowhere."""

    rollouts: int  # Graded answers.
    calls: int  # Language-model calls of sampling.
    prompt_tokens: int  # Prompt tokens of these calls.
    generated_tokens: int  # Sampled tokens of these calls.
    updates: int  # Steps that changed weights.
    seconds: float  # Wall time of all steps, in seconds.


@dataclass(frozen=True, kw_only=True)
class GrowthRecord(JsonRecord):
    """One growth of a network: an entry of a checkpoint's lineage."""

    step: int  # The step after which it grew.
    operators: list[str]  # What was done to the topology, in words.
    mapping: dict[str, str]  # Id of each old node, which it keeps, to its id in the topology that was asked for.
    new: list[str]  # Ids of the new nodes.
    init: str  # How new adapters began, as the stage's setting `init` names it.
    copied: dict[str, str] | None = None  # New node to the sibling it copied; None where `init` is not "copy".
    run: str | None = None  # The folder's name of the run that this one grew out of; None where it grew within one run.
    checkpoint: str | None = None  # The name of the checkpoint it grew from; None where it grew within one run.
