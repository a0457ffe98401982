"""One system measured on one split of a task, and one answered question."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from neuromas.markup import html_table
from neuromas.results.record import Interval, JsonRecord
from neuromas.types import Floors


@dataclass(frozen=True)
class TopAnswer(JsonRecord):
    """The commonest answer of an evaluation; a share near 1 shows a collapse to a constant."""

    answer: str | None  # The answer as the grader read it; None stands for those that it could not read.
    share: float  # Its share of all answers, in [0, 1].


@dataclass(kw_only=True)
class FitCost(JsonRecord):
    """The cost of fitting a baseline on the training split before it answers. It is part of no other count."""

    questions: int  # Training questions that were asked.
    calls: int  # Language-model calls.
    prompt_tokens: int  # Prompt tokens of all these calls.
    generated_tokens: int  # Generated tokens of all these calls.
    seconds: float | None = None  # Wall time in seconds; None in comparisons, which keep no clock times.
    reward: float  # The summed reward of these questions.


@dataclass(frozen=True, kw_only=True)
class Score(JsonRecord):
    """The score of answered questions. Calls and tokens are means per question; shares are in [0, 1]."""

    n: int  # Distinct questions asked.
    seeds: int  # Training runs behind the numbers, all asked the same questions.
    accuracy: float  # The mean reward; where several seeds are pooled, the mean over them.
    ci95: Interval  # Wilson's 95 % interval at n questions. It covers the choice of questions, not of seeds.
    parse_rate: float  # The share of answers that the grader could read.
    answers_cut: float | None = None  # Share of answers that the token limit ended; None where none were.
    thoughts_cut: float | None = None  # Share of answers with nothing behind their marked thoughts; None likewise.
    ambiguous: float | None = None  # Share of answers that commit to several at once; None where none do.
    top_answer: TopAnswer | None = None  # The commonest answer; None where several seeds are pooled.
    calls: float  # Language-model calls.
    sequential_calls: float  # Calls on the longest chain of calls that wait for one another: the latency in calls.
    generated_tokens: float  # Generated tokens of all calls.
    # Tokens generated one after the other, the latency in tokens: of calls that run side by side the longest counts.
    sequential_tokens: float | None = None  # None only in early files, which did not count them.
    prompt_tokens: float  # Prompt tokens of all calls.
    dropped_tokens: float | None = None  # Message tokens that did not fit into prompts; None where seeds are pooled.


@dataclass(frozen=True, kw_only=True)
class Result(Score):
    """One system measured on one split of a task."""

    ORDER: ClassVar = ("task", "task_version", "split", "seed", "decoding", "fit", "system")

    task: str  # The task's name.
    task_version: int  # The task's version; results of different versions do not compare.
    split: str  # The split whose questions were asked: "train", "validation" or "test".
    seed: int | None = None  # The seed of sampling; None where several seeds are pooled.
    decoding: str  # How answers were decoded: "greedy", "sampled", or what a baseline says of itself.
    fit: FitCost | None = None  # What fitting took; None for systems that are not fitted.
    system: str  # The name of what was measured.
    trainable_parameters: int  # Parameters that training may change; 0 for most baselines.
    floors: Floors  # Accuracies that need no understanding, on exactly these questions.
    # Share of a network's messages that the token limit ended; None where none were sent, and for several seeds pooled.
    messages_cut: float | None = None
    abstained: int | None = None  # Questions left out, since the reward gave no verdict; None where there were none.
    checkpoint: str | None = None  # "untrained", "last" or "best" state of a run; None outside final.json.
    delivery: str | None = None  # Messages are delivered "as sent", or empty: "blanked". None where not told.
    votes: int | None = None  # Answers of which each counted answer is the majority; None where there was no vote.
    by_seed: list[float] | None = None  # The accuracy of each seed; None for a single evaluation.

    def __str__(self) -> str:
        low, high = self.ci95
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        notes = [self.decoding, *(["messages blanked"] if self.delivery == "blanked" else [])]
        notes += [f"vote of {self.votes}"] if self.votes else []
        lines = "".join(f"{line}\n" for line in reading_lines(self))
        if self.abstained:
            lines += f"{self.abstained} further questions are left out: the reward gave no verdict on the reply\n"
        return (
            f"{self.system} on {self.task} ({self.split}), {', '.join(notes)}\n"
            f"accuracy {self.accuracy:.1%} [{low:.1%}, {high:.1%}], n = {self.n}, {seeds}, "
            f"parse rate {self.parse_rate:.1%}\n"
            f"per question {self.calls:.4g} calls ({self.sequential_calls:.4g} in sequence) and "
            f"{self.generated_tokens:.1f} generated tokens; {self.trainable_parameters:,} trainable parameters\n"
            f"{lines}{floors_line(self)}" + (f"\n{fit_line(self.fit)}" if self.fit else "")
        )

    def _repr_html_(self) -> str:
        low, high = self.ci95
        floors = self.floors
        return html_table(
            f"{self.system} on {self.task} ({self.split}, {self.decoding})",
            [
                ("accuracy", f"{self.accuracy:.1%} [{low:.1%}, {high:.1%}]"),
                ("questions, seeds", f"{self.n}, {self.seeds}"),
                ("parse rate", f"{self.parse_rate:.1%}"),
                *((fate, f"{share:.1%}") for share, fate in _fates(self) if share),
                ("calls per question", f"{self.calls:.4g} ({self.sequential_calls:.4g} in sequence)"),
                ("generated tokens per question", f"{self.generated_tokens:.1f}"),
                ("trainable parameters", f"{self.trainable_parameters:,}"),
                (f"best constant answer ({floors.constant_answer!r})", f"{floors.best_constant:.1%}"),
                ("chance", f"{floors.chance:.1%}"),
            ],
        )


class HasFloors(Protocol):
    """A record of something measured on n questions with these floors."""

    @property
    def n(self) -> int: ...
    @property
    def floors(self) -> Floors: ...


def floors_line(measured: HasFloors) -> str:
    """The floors of a record, in words."""
    f = measured.floors
    return (
        f"floors on these {measured.n} questions: chance {f.chance:.1%}, majority of training answers "
        f"{f.majority:.1%}, best constant ({f.constant_answer!r}) {f.best_constant:.1%}"
    )


def reading_lines(result: Result) -> list[str]:
    """Shares of messages and answers that could not be read whole, in words; nothing where all could be."""
    return [f"{_short(share)} of the {fate}" for share, fate in _fates(result) if share]


def _short(share: float) -> str:
    if share < 0.0005:
        return "under 0.1%"  # one of thousands is not none
    return f"{share:{'.0%' if share >= 0.01 else '.1%'}}"


def _fates(result: Result) -> list[tuple[float | None, str]]:
    return [
        (result.messages_cut, "messages were cut by the token limit"),
        (result.answers_cut, "answers were cut by the token limit"),
        (result.thoughts_cut, "answers have nothing behind their thoughts"),
        (result.ambiguous, "answers commit to several at once"),
    ]


def fit_line(cost: FitCost) -> str:
    """The cost of fitting a baseline, in words."""
    if not cost.questions:
        return "not fitted"
    return (
        f"fitted before on {cost.questions} train questions: {cost.calls} calls, {cost.prompt_tokens} prompt and "
        f"{cost.generated_tokens} generated tokens (not counted above), {cost.reward / cost.questions:.1%} right"
    )


@dataclass(frozen=True)
class MessageRecord(JsonRecord):
    """One node's message on the way to an answer."""

    node: str  # The node's id.
    text: str  # Its message, or for the output node its answer.
    truncated: bool  # True where the token limit ended it.


@dataclass(frozen=True, kw_only=True)
class AnswerRecord(JsonRecord):
    """One answered question: a line of answers.jsonl. All numbers of a `Result` are made of these."""

    id: str  # The question's id.
    answer: str  # The gold answer.
    parsed: str | None  # The answer as the grader read it; None where it could read none.
    reward: float  # The grade, in [0, 1]; 1 is right.
    reply: str  # The text that was graded.
    ambiguous: bool = False  # True where the reply commits to several answers at once.
    calls: int  # Language-model calls.
    sequential_calls: int  # Calls on the longest chain of calls that wait for one another.
    generated_tokens: int  # Generated tokens of all calls.
    sequential_tokens: int  # Tokens generated one after the other.
    prompt_tokens: int  # Prompt tokens of all calls.
    dropped_tokens: int  # Upstream message tokens left out because a prompt would not fit.
    # All messages in the order in which they were made, the answer included; None where they were not published.
    messages: list[MessageRecord] | None
