"""What a task is: questions in three splits, a grader, and the floors that any result is printed beside."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, get_args

from neuromas.errors import TaskError
from neuromas.types import Floors, Grade, Question

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Task(ABC):
    """Loads, renders and grades the questions of one benchmark.

    The questions of a split are the same, in the same order, in every process; no question of one split occurs in
    another. `grade` never raises, whatever a model writes: it is given untrusted text.
    """

    name: str  # as `load_task` takes it
    version: int  # raised whenever a rendered question, a split or a grade changes; results record it
    changes: ClassVar[dict[int, str]] = {}  # version → what it changed; every version of a listed task has a note
    max_answer_tokens: int  # what the answering node may write at most; ample for any gold answer
    source: str = "generated"  # where the questions come from
    answer_choices: tuple[str, ...] | None = None  # every possible answer; None when they cannot be listed

    @abstractmethod
    def questions(self, split: Split) -> list[Question]:
        """All questions of one split, in a fixed order."""

    @abstractmethod
    def grade(self, question: Question, text: str) -> Grade:
        """The verdict on a reply, with or without the answer prefix in front; no readable answer scores 0."""

    def grade_many(self, questions: Sequence[Question], texts: Sequence[str]) -> list[Grade]:
        """`grade` for each pair, in order; tasks whose grading takes long do several at a time."""
        return [self.grade(question, text) for question, text in zip(questions, texts, strict=True)]

    def parse(self, question: Question, text: str) -> str | None:
        """The answer that `grade` reads in a reply; None where it can read none."""
        return self.grade(question, text).parsed

    def choices(self, question: Question) -> tuple[str, ...] | None:
        """The possible answers of one question; override it where they differ between questions."""
        return self.answer_choices

    def floors(self, split: Split, limit: int | None = None) -> Floors:
        """What can be scored on the first `limit` questions of `split` (all by default) without reading one.

        Raises TaskError where there is no question.
        """
        asked = self.questions(split)[:limit]
        if not asked:
            raise TaskError(
                f"task {self.name!r} has no {split} questions, so no floors; give that split a size above 0"
            )
        counts = Counter(q.answer for q in asked)
        constant = most_frequent(counts)
        train = Counter(q.answer for q in self.questions("train"))
        majority = counts[most_frequent(train)] if train else 0
        chances = [1 / len(listed) if (listed := self.choices(q)) else 0.0 for q in asked]
        return Floors(
            chance=sum(chances) / len(asked),
            majority=majority / len(asked),
            best_constant=counts[constant] / len(asked),
            constant_answer=constant,
        )

    def describe(self) -> dict[str, Any]:
        """Name, version, change notes, source, and size and floors of every split with questions; ready for JSON."""
        sizes = {split: len(self.questions(split)) for split in SPLITS}
        floors = {split: asdict(self.floors(split)) for split in SPLITS if sizes[split]}
        about = {"name": self.name, "version": self.version, "changes": dict(self.changes), "source": self.source}
        return about | {"sizes": sizes, "floors": floors}


def most_frequent(counts: Counter[str]) -> str:
    """The commonest answer; of equally common ones the first in alphabetical order."""
    return min(counts, key=lambda answer: (-counts[answer], answer))


def check_split(task: str, split: str) -> None:
    """Raises TaskError unless `split` is one of the three."""
    if split not in SPLITS:
        raise TaskError(f"task {task!r} has no split {split!r}; it has {', '.join(SPLITS)}")
