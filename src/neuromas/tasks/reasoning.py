"""Generated tasks of the package reasoning-gym: any of its data sets, or several joined into one task.

A hash of its text decides to which split a question belongs, so the splits share no question, whatever the seed and the
sizes are.
"""

import difflib
import math
import re
from dataclasses import fields
from typing import Any, ClassVar

from neuromas.errors import TaskError, require
from neuromas.tasks import gym, numerals, parsing
from neuromas.tasks.base import SPLITS, Split, Task, check_count, check_split
from neuromas.tasks.loaded import digest
from neuromas.tasks.scorers import may_score
from neuromas.types import Grade, Question

_SIZES_AND_SEED = ("train_size", "validation_size", "test_size", "seed")
_SETTINGS = (*_SIZES_AND_SEED, "partial")
_INTEGER = re.compile(r"[-+]?[0-9]+")


class ReasoningGym(Task):
    """Questions of one or several reasoning-gym data sets, in turn, each question once.

    Where every answer of a data set is an integer, the number that a reply states is its answer (`numerals.final`).
    Elsewhere the whole reply is scored by the data set's own `score_answer`, and only a full score of 1 counts, unless
    `partial` is set.
    A small data set gives fewer questions than asked for, namely all it has.

    A real sample (chain_sum, max_terms=2, max_digits=1):

        text         State the final answer to the following arithmetic problem: 3 + 4 =
        instruction  Answer with only the number.
        prefix       The final answer is
        answer       7
    """

    version = 4
    changes: ClassVar = {
        1: "First version.",
        2: "Other splits: what version 1 held out is never a test question.",
        3: "Of a line that shows its sum the result counts, not the first number; thoughts are left out.",
        4: "Data sets that drew otherwise in each process (codeio, ransom_note …) have the same questions in all.",
    }
    source = "reasoning-gym (Apache 2.0), generated"

    def __init__(
        self,
        dataset: str,
        train_size: int = 2000,
        validation_size: int = 200,
        test_size: int = 500,
        seed: int = 0,
        partial: bool = False,
        **options: Any,
    ) -> None:
        """dataset: one data set, or several joined: "chain_sum+products". Sizes are upper limits.

        partial: train on the partial scores of the data sets' own scorers too; accuracy counts full ones alone. Look at
        them first: many give a wrong number that holds the gold's digits its share of them.

        options: of one data set its own (`max_terms=2`), of several a table for each (`chain_sum={"max_terms": 2}`).
        Raises TaskError for unknown data sets, for options that do not fit, and without the package.
        """
        self.name = f"reasoning-gym/{dataset}"
        names = dataset.split("+")
        classes = _option_classes()
        for name in names:
            if name not in classes:
                close = difflib.get_close_matches(name, classes, n=3) or ["chain_sum", "products"]
                raise TaskError(f"reasoning-gym has no data set {name!r}; did you mean {' or '.join(close)}?")
        if len(set(names)) < len(names):
            raise TaskError(f"{self.name} names a data set twice; name each once")
        for option, value in zip(_SIZES_AND_SEED, (train_size, validation_size, test_size, seed), strict=True):
            check_count(self.name, option, value)
        self.sizes: dict[Split, int] = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        self.seed = seed
        if partial not in (True, False):
            raise TaskError(f"task {self.name!r}: partial must be true or false, got {partial!r}")
        self.partial = partial
        self.configs = {names[0]: options} if len(names) == 1 else self._tables(names, options)
        for name, config in self.configs.items():
            _check_config(name, config, classes[name])
        self._scorers: dict[str, Any] = {}
        self._items: dict[str, tuple[str, gym.GymItem]] = {}  # For each question id its data set and record.
        self._integer: dict[str, bool] = {}  # For each data set, True where all its answers are integers.
        self._splits: dict[Split, list[Question]] = {}

    def _tables(self, names: list[str], options: gym.GymOptions) -> dict[str, gym.GymOptions]:
        """The options of each of several data sets."""
        for key, value in options.items():
            if key not in names:
                valid = ", ".join([*_SETTINGS, *names])
                raise TaskError(
                    f"task {self.name!r} has no option {key!r}; valid options: {valid}, the latter with a table of "
                    "that data set's own options each"
                )
            if not isinstance(value, dict):
                raise TaskError(f"option {key!r} must be a table of that data set's options, got {value!r}")
        return {name: dict(options.get(name, {})) for name in names}

    @property
    def max_answer_tokens(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """16 for numbers, else ample for the longest answer (a token is at least one byte)."""
        self._draw()
        texts = [item["answer"].encode() for name, item in self._items.values() if not self._integer[name]]
        return min(1024, max(16, max(map(len, texts), default=0) + 8))

    def questions(self, split: Split) -> list[Question]:
        check_split(self.name, split)
        self._draw()
        return self._splits[split]

    def grade(self, question: Question, text: str) -> Grade:
        """1 for the right number, or for a full score; with `partial` else the score that the reply gets.

        A reply that a scorer cannot read, or must not get, scores 0.
        """
        self._draw()
        if question.id not in self._items:
            raise TaskError(f"question {question.id!r} is not one of {self.name}; grade it with the task it came from")
        name, item = self._items[question.id]
        reply = parsing.without_prefix(text, question.answer_prefix).strip()
        parsed = reply or None
        if self._integer[name]:
            parsed = numerals.final(reply, question.answer_prefix)
            right = parsed == numerals.canonical(question.answer)
            if parsed is None or right or not self.partial:
                return Grade(float(right), parsed, ambiguous=numerals.several(reply, question.answer_prefix))
        elif reply == item["answer"].strip():
            return Grade(1.0, parsed)
        score = self._score(name, reply, item)
        if score is None:
            return Grade(0.0, None)
        return Grade(score if self.partial else float(score >= 1.0), parsed)

    def _draw(self) -> None:
        if self._splits:
            return
        found = gym.drawn(self.configs, self.sizes, self.seed)
        self._integer = dict.fromkeys(self.configs, True)
        for name, item in (pair for split in SPLITS for pair in found[split]):
            self._integer[name] &= bool(_INTEGER.fullmatch(item["answer"]))
        self._splits = {split: [self._question(name, item) for name, item in found[split]] for split in SPLITS}

    def _score(self, name: str, reply: str, item: gym.GymItem) -> float | None:
        """The score that a data set's own scorer gives a reply; None for one that it cannot read, or must not get."""
        if name not in self._scorers:
            self._scorers[name] = gym.dataset(name, self.configs[name], self.seed)
        if not reply or not may_score(self._scorers[name], reply):
            return None
        try:
            score = float(self._scorers[name].score_answer(reply, item))
        except Exception:  # A scorer may trip over an odd reply.
            return None
        return min(1.0, max(0.0, score)) if math.isfinite(score) else None

    def _question(self, name: str, item: gym.GymItem) -> Question:
        integer = self._integer[name]
        id = f"{name}-{digest(item['question'])[:16]}"
        self._items[id] = (name, item)
        return Question(
            id=id,
            text=item["question"].strip(),
            answer=item["answer"],
            instruction="Answer with only the number." if integer else "Give only the answer, in the form asked for.",
            answer_prefix="The final answer is" if integer else "",
            metadata={"dataset": name},
        )


def _option_classes() -> dict[str, type[Any]]:
    """For each data set its class of options. Raises TaskError without the package."""
    factory = require("reasoning_gym.factory", "a reasoning-gym task", "pip install reasoning-gym")
    return {name: options for name, (_, options) in factory.DATASETS.items() if name != "composite"}


def _check_config(name: str, config: gym.GymOptions, options: type[Any]) -> None:
    """Raises TaskError where a data set's class of options does not take these."""
    valid = [field.name for field in fields(options) if field.name not in ("size", "seed")]
    for option in config:
        if option not in valid:
            raise TaskError(
                f"reasoning-gym's {name} has no option {option!r} here; valid options: "
                f"{', '.join([*_SETTINGS, *valid])}"
            )
    try:
        getattr(options(**config), "validate", lambda: None)()
    except (AssertionError, TypeError, ValueError) as error:
        raise TaskError(f"reasoning-gym's {name} rejects the options {config} ({error}); change them") from error
