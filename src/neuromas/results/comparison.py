"""A cell of a comparison with its answers and its score, a row of its table, and the paired test between rows."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

from neuromas.results.evaluation import AnswerRecord, FitCost, Result, Score
from neuromas.results.record import Interval, JsonRecord
from neuromas.types import Floors

CellKey = tuple[str, str, int]  # a cell: system, task, seed


@dataclass(frozen=True, kw_only=True)
class Versus(JsonRecord):
    """A system minus the reference on the same questions: a paired test."""

    difference: float  # Accuracy minus the reference's, in [-1, 1].
    ci95: Interval  # The paired bootstrap's 95 % interval over questions.
    test: Literal["McNemar", "paired bootstrap"]  # The test that gave p.
    p: float  # The two-sided p-value, in (0, 1].
    p_holm: float | None = None  # The p-value corrected by Holm's method; None before the correction.


@dataclass(frozen=True, kw_only=True)
class CellRecord(JsonRecord):
    """One system on one task with one seed: a line of a comparison's cells.jsonl."""

    comparison: str  # The comparison's title.
    system: str  # The row's name.
    task: str  # The task's title in the comparison.
    seed: int  # The seed of training and of sampling.
    split: str  # The split whose questions are asked.
    task_version: int  # The task's version.
    n: int  # Questions asked.
    floors: Floors  # Accuracies that need no understanding, on exactly these questions.
    backbone: str  # The backbone's name.
    about: str  # A few words on what the row is.
    control_for: list[str]  # What the row is a matched control for, and in what they are equal; empty for other rows.
    reference: bool  # True for the row that the others are tested against.
    delivery: str  # How messages are delivered: "as sent", or "blanked" for empty ones.
    samples: int  # Graded answers that training drew; 0 for what is not trained.
    matched_samples: bool  # True where all trained systems drew equally many.
    learning_rate: float | None  # The chosen learning rate; None for what is not trained.
    validation_by_rate: dict[str, float]  # Learning rate to validation accuracy; empty for what is not trained.
    note: str  # What is remarkable about the training; empty where nothing is.
    decoding: str | None = None  # How answers are decoded; None before the first answer.
    trainable_parameters: int | None = None  # Parameters that training may change; None before the first answer.
    fit: FitCost | None = None  # What fitting took; None for systems that are not fitted.

    @property
    def key(self) -> CellKey:
        return self.system, self.task, self.seed

    def of_system(self, other: "CellRecord") -> Self:
        """This cell with what `other` tells of the system itself: decoding, parameters and cost of fitting."""
        return replace(self, decoding=other.decoding, trainable_parameters=other.trainable_parameters, fit=other.fit)


@dataclass(frozen=True, kw_only=True)
class CellAnswer(AnswerRecord):
    """One answered question of a cell: a line of a comparison's answers.jsonl."""

    ORDER: ClassVar = ("system", "task", "seed", "index")

    system: str  # The name of the cell's row.
    task: str  # The task's title in the comparison.
    seed: int  # The seed of training and of sampling.
    index: int  # The question's number in the split, from 0.

    @property
    def key(self) -> CellKey:
        return self.system, self.task, self.seed


@dataclass(frozen=True, kw_only=True)
class CellResult(Score, CellRecord):
    """A cell and the score of its answers: an entry of a comparison's results.json."""


@dataclass(frozen=True, kw_only=True)
class ComparisonRow(Result):
    """One system on one task, pooled over its seeds: a row of a comparison's summary.json."""

    ORDER: ClassVar = (
        *("comparison", "system", "task", "split", "task_version", "n", "floors", "backbone", "about", "control_for"),
        *("reference", "delivery", "samples", "matched_samples", "learning_rate", "validation_by_rate", "decoding"),
        *("trainable_parameters", "fit", "accuracy", "ci95", "seeds", "by_seed", "calls", "sequential_calls"),
        *("generated_tokens", "sequential_tokens", "prompt_tokens", "parse_rate"),
    )

    comparison: str  # The comparison's title.
    backbone: str  # The backbone's name.
    about: str  # A few words on what the row is.
    control_for: list[str]  # What the row is a matched control for, and in what they are equal; empty for other rows.
    reference: bool  # True for the row that the others are tested against.
    by_seed: list[float] = field(default_factory=list[float])  # The accuracy of each seed.
    samples: int  # Graded answers that training drew with each seed; 0 for what is not trained.
    matched_samples: bool  # True where all trained systems of the comparison drew equally many.
    learning_rate: float | None  # The chosen learning rate; None for what is not trained.
    validation_by_rate: dict[str, float]  # Learning rate to validation accuracy; empty for what is not trained.
    notes: list[str]  # What is remarkable about the trainings; empty where nothing is.
    versus_reference: Versus | None  # The paired test against the reference; None where there is none.
