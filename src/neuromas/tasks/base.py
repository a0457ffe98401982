"""The interface of a task: questions in three splits, a grader, and the floors that results are printed with."""

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal, get_args

from neuromas.errors import TaskError
from neuromas.tasks.reward import graded, one_by_one
from neuromas.types import Floors, Grade, Question

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Task(ABC):
    """Loads, renders and grades the questions of one benchmark.

    The questions of a split are the same, in the same order, in every process; no question of one split occurs in
    another. `grade` never raises, whatever a model writes: it is given untrusted text. What a
    user's `grade` returns instead of a `Grade` is read as `tasks.reward.verdict` says, and checked where it is used.
    """

    name: str  # The name that `load_task` takes.
    version: int  # Raised whenever a rendered question, a split or a grade changes. Results record it.
    changes: ClassVar[dict[int, str]] = {}  # For each version of a listed task, what it changed.
    max_answer_tokens: int  # The most tokens that the answering node may write; ample for any gold answer.
    source: str = "generated"  # The origin of the questions.
    answer_choices: tuple[str, ...] | None = None  # Every possible answer; None when they cannot be listed.

    turns: int = 1  # The most segments of one call; above 1 nodes may ask `respond` while they write.
    pauses: tuple[str, ...] = ()  # Texts that end a segment, with which a node asks.
    pattern: Question | None = None  # Others are asked like it; None: like the first test question, or else another.

    @abstractmethod
    def questions(self, split: Split) -> list[Question]:
        """All questions of one split, in a fixed order."""

    @abstractmethod
    def grade(self, question: Question, text: str) -> Grade:
        """The verdict on a reply, with or without the answer prefix in front. No readable answer scores 0."""

    def grade_many(self, questions: Sequence[Question], texts: Sequence[str]) -> list[Grade]:
        """`grade` for each pair, in order. Tasks whose grading takes long grade several at a time."""
        return one_by_one(self, self.grade, questions, texts)

    def respond(self, question: Question, text: str) -> str | None:
        """The environment's answer to a node whose text so far ends with one of `pauses`; None ends the node's call.

        What a node writes is untrusted, so this must not raise. The answer is read by the node, and never trained on.
        """
        return None

    def parse(self, question: Question, text: str) -> str | None:
        """The answer that `grade` reads in a reply; None where it can read none."""
        return graded(self, [question], [text], abstain=True)[0].parsed

    def asked(self, text: str) -> Question:
        """A question of one's own, with the instruction and the answer prefix of the task's.

        Raises TaskError where the task has no question.
        """
        first = (question for split in ("test", *SPLITS) for question in self.questions(split)[:1])
        like = self.pattern or next(first, None)
        if like is None:
            raise TaskError(f"task {self.name!r} has no questions; give a split a size above 0")
        return replace(like, id="asked", text=text, answer="", metadata={})

    def choices(self, question: Question) -> tuple[str, ...] | None:
        """The possible answers of one question; None when they cannot be listed."""
        return self.answer_choices

    def place(self, question: Question) -> str:
        """The place that a question comes from, as errors name it."""
        return f"task {self.name!r}, question {question.id!r}"

    def counts_thinking(self) -> bool | None:
        """True where the grader finds an answer behind thoughts (`sampling.thinking_tokens`); False where they cost it.

        Tried on the first validation question, with its answer behind a sentence that names another one. None where it
        cannot be tried, as where an answer is a program.
        """
        questions = self.questions("validation")
        grade = lambda question, text: graded(self, [question], [text], abstain=True)[0]
        if not questions or grade(first := questions[0], first.answer).reward < 1:
            return None
        other = next((question.answer for question in questions if question.answer != first.answer), "something else")
        thoughts, endings = f"Let me think: {other} is wrong.", ("\n{}", " So the answer is {}.")
        return any(grade(first, thoughts + end.format(first.answer)).reward == 1 for end in endings)

    def floors(self, split: Split, limit: int | None = None) -> Floors:
        """The accuracies on the first `limit` questions of `split` (all by default) that need no understanding.

        Raises TaskError where there is no question.
        """
        questions = self.questions(split)[:limit]
        if not questions:
            raise TaskError(
                f"task {self.name!r} has no {split} questions, so no floors; give that split a size above 0"
            )
        counts = Counter(question.answer for question in questions)
        constant = most_frequent(counts)
        train_counts = Counter(question.answer for question in self.questions("train"))
        majority = counts[most_frequent(train_counts)] if train_counts else 0
        listed = [self.choices(question) for question in questions]
        n = len(questions)
        return Floors(
            chance=sum(1 / len(choices) if choices else 0.0 for choices in listed) / n,
            majority=majority / n,
            best_constant=counts[constant] / n,
            constant_answer=constant,
        )

    def fingerprint(self) -> dict[str, str]:
        """Of what training depends on besides the settings, part by part: version, questions of each split, reward."""
        parts = {"task": f"{self.name}, version {self.version}"}
        for split in SPLITS:
            asked = self.questions(split)
            told = lambda q: [q.id, q.text, q.answer, q.instruction, q.answer_prefix, *q.metadata.get("answers", [])]
            text = json.dumps(list(map(told, asked)))
            parts[f"{split} split"] = f"{len(asked)} questions with hash {_hash(text)}"
        source = self.reward_source()
        return parts | ({"reward source": f"of hash {_hash(source)}"} if source else {})

    def reward_source(self) -> str:
        """The source of a grader that a user wrote; "" where this library grades, and `version` says it all."""
        return "" if type(self).__module__.startswith("neuromas.") else source_of(type(self))

    def describe(self) -> dict[str, Any]:
        """Name, version, change notes, source, size and floors of every split with questions, and what the grader does
        with thoughts; ready for JSON."""
        sizes = {split: len(self.questions(split)) for split in SPLITS}
        floors = {split: asdict(self.floors(split)) for split in SPLITS if sizes[split]}
        about = {"name": self.name, "version": self.version, "changes": dict(self.changes), "source": self.source}
        return about | {"sizes": sizes, "floors": floors, "counts_thinking": self.counts_thinking()}


def most_frequent(counts: Counter[str]) -> str:
    """The most frequent answer; of equally frequent ones the first in alphabetical order."""
    return min(counts, key=lambda answer: (-counts[answer], answer))


def source_of(made: object) -> str:
    """The source of a class, a function, or an object's class; "" where Python has none."""
    try:
        return inspect.getsource(made if inspect.isroutine(made) or inspect.isclass(made) else type(made))
    except (OSError, TypeError):
        return ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_split(task: str, split: str) -> None:
    """Raises TaskError unless `split` is one of the three."""
    if split not in SPLITS:
        raise TaskError(f"task {task!r} has no split {split!r}; it has {', '.join(SPLITS)}")


def check_count(task: str, option: str, value: int, least: int = 0) -> None:
    """Raises TaskError unless the value of an option is a whole number of at least `least`."""
    if type(value) is not int or value < least:
        raise TaskError(f"task {task!r}: {option} must be a whole number of at least {least}, got {value!r}")
