"""The state of a network before its first update."""

from dataclasses import dataclass

from neuromas.results.evaluation import AnswerRecord
from neuromas.results.record import JsonRecord


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
    backbone: str = ""  # The path that the backbone takes, the reason, and the layers that have adapters.

    @property
    def solvable(self) -> float:
        """Share of questions with any rollout that earned something."""
        return 1 - self.all_wrong

    def __str__(self) -> str:
        cut = "" if self.messages_cut is None else f", {self.messages_cut:.0%} of the messages cut off by their limit"
        return (self.backbone and f"{self.backbone}\n") + (
            f"before the first update ({self.began}; {self.n} validation questions, {self.rollouts} rollouts each)\n"
            f"reward {self.sampled:.2f} sampled, {self.greedy:.2f} greedy; {self.parse_rate:.0%} of the answers "
            f"readable{cut}\n"
            f"questions with a right rollout {self.solvable:.0%}; groups all wrong {self.all_wrong:.0%}, mixed "
            f"{self.mixed:.0%}, all right {self.all_right:.0%}"
        )
