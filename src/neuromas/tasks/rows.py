"""A task made of rows in memory: a list, a data set of the `datasets` library, or one for each split."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, get_args

from neuromas.errors import TaskError
from neuromas.recipe import TomlTable
from neuromas.tasks import cells, features, golds, parsing
from neuromas.tasks.base import source_of
from neuromas.tasks.graders import Plain
from neuromas.tasks.loaded import LoadedTask, digest, rendered
from neuromas.tasks.reward import Reward, rewarded
from neuromas.tasks.tables import RawRow, validation_in
from neuromas.types import Grade, Question


class RowsTask(LoadedTask):
    """Questions and answers given as rows. A reply is worth what a function of yours or a named grader says."""

    changes: ClassVar[dict[int, str]] = {}
    version = 2

    def __init__(
        self,
        rows: "Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]]",
        reward: Reward | Plain | None = None,
        *,
        name: str = "rows",
        question: str = "question",
        answer: str = "answer",
        instruction: str = "",
        answer_prefix: str = "",
        max_answer_tokens: int = 32,
        validation_size: int | None = None,
        test_size: int | None = None,
        seed: int = 0,
    ) -> None:
        """rows: mappings with the columns `question` and `answer`; or a mapping with such rows for "train", and perhaps
        "validation" and "test", which are taken as they are.

        reward: given the question and the reply, returns a number in [0, 1], a bool, None where it has no verdict, a
        `Grade`, or a dict of named numbers, each perhaps with its weight in a tuple; or the name of a grader that reads
        replies ("number", "yes-no", "contains", "math"); None: "exact", the reply must equal the answer, whatever the
        case and the spacing. validation_size, test_size: rows held out, chosen by a hash of their text; None: a fifth
        of the rows each, at most 100 and 200, and all rows given for validation. Raises TaskError for a row that lacks
        a column, for what is no reward, and where nothing is left to train on.
        """
        self.name, self.max_answer_tokens = name, max_answer_tokens
        self._reward, self.grader = _checked(reward)
        self.answer_choices = ("No", "Yes") if self.grader == "yes-no" else None
        self._columns, self._words = (question, answer), (instruction, answer_prefix)
        self.pattern = Question("asked", "", "", *self._words)
        self.source = "rows given in Python"
        splits: Mapping[Any, Any] = rows if isinstance(rows, Mapping) else {"train": rows}
        if "train" not in splits:
            raise TaskError(f"the rows are for {', '.join(map(str, splits))}; name those to train on 'train'")
        self._pool = self._questions("train", splits["train"])
        self._test = self._questions("test", splits["test"]) if "test" in splits else None
        own = validation_in(splits)
        brought = None if own is None else self._questions(own, splits[own])
        fifth = len(self._pool) // 5
        self._test_size = min(200, fifth) if test_size is None else test_size
        most = min(100, fifth) if brought is None else len(brought)
        super().__init__(most if validation_size is None else validation_size, seed)
        self._brought = brought

    @property
    def graded_by_answer(self) -> bool:
        """True where no reward function was given."""
        return self._reward is None

    def settings(self) -> TomlTable:
        """The settings of the same task in a file, with its rows in `rows.jsonl`."""
        question, answer = self._columns
        instruction, prefix = self._words
        return {
            "data": "rows.jsonl",
            "question": question,
            "answer": answer,
            "grader": self.grader,
            "instruction": instruction,
            "answer_prefix": prefix,
            "max_answer_tokens": self.max_answer_tokens,
            "validation_size": max(1, self.validation_size),
            "test_size": max(1, self._test_size),
            "seed": self.seed,
        }

    def reward_source(self) -> str:
        if self._reward is None:
            return "" if self.grader == "exact" else self.grader
        return source_of(self._reward)

    def load(self) -> tuple[list[Question], list[Question]]:
        return self._pool, self.held_out(self._pool, self._test_size) if self._test is None else self._test

    def grade(self, question: Question, text: str) -> Grade:
        """The reward function's verdict on the reply without the answer prefix; raises TaskError for no reward."""
        if self._reward is None:
            return super().grade(question, text)
        return rewarded(self, self._reward, question, parsing.without_prefix(text, question.answer_prefix))

    def render(self, row: RawRow) -> Question:
        """The question of a row; raises ValueError for one without question or answer."""
        for column in self._columns:
            if row.get(column) is None:
                names = ", ".join(map(str, row))
                raise ValueError(f"it has no {column!r} (it has {names}), name the columns with question= and answer=")
        text, answers = cells.question(row[self._columns[0]]), golds.read(row[self._columns[1]], self.grader)
        id = f"row-{digest(text)[:12]}"
        return Question(id, text, answers[0], *self._words, metadata=golds.alternatives(answers))

    @staticmethod
    def _typed(rows: Iterable[Mapping[str, Any]]) -> list[RawRow]:
        return features.read((cells.native(dict(row)) for row in rows), features.of_dataset(rows))

    def _questions(self, split: str, rows: Iterable[Mapping[str, Any]]) -> list[Question]:
        questions = rendered(f"task {self.name!r}: {split} rows", enumerate(self._typed(rows), 1), self.render)
        if not questions:
            raise TaskError(f"task {self.name!r}: there are no {split} rows; give some with a question and an answer")
        return questions


def _checked(reward: Any) -> tuple[Reward | None, Plain]:
    """The function, and the grader that reads the answers. Raises TaskError for what is neither."""
    if reward is None or callable(reward):
        return reward, "exact"
    if reward not in get_args(Plain):
        raise TaskError(
            f"reward is {reward!r}, which is neither a function of question and reply nor one of the graders "
            f"{', '.join(get_args(Plain))}; options and programs are graded by a task file; `neuromas init` writes one"
        )
    return None, reward
