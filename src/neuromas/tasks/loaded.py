"""Tasks made of published rows: rendering the rows, and dividing them into splits that share no question."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import ClassVar

from neuromas.errors import TaskError
from neuromas.tasks import graders, parsing
from neuromas.tasks.base import SPLITS, Split, Task, check_count, check_split
from neuromas.tasks.golds import Grader
from neuromas.tasks.tables import RawRow, Source, read
from neuromas.tasks.words import normalise
from neuromas.types import Grade, Question


class LoadedTask(Task):
    """A benchmark with published rows. Its test split stays as published, validation is carved from training, unless
    the data bring it.

    Training rows that ask what a test row asks, or that repeat another training row, are dropped. A hash of their text
    and the seed decide which rows become validation. Questions with the same stem go the same way.
    """

    train_rows: ClassVar[Source]  # The table of training rows, validation included.
    test_rows: ClassVar[Source]  # The table of test rows.
    default_validation_size: ClassVar[int] = 0  # The number of validation questions, unless an option says otherwise.
    grader: Grader  # How a reply is read and compared (`tasks/graders.py`), unless `grade` does it in another way.
    balanced: ClassVar[bool] = False  # True: validation holds every answer equally often, as far as possible.

    def __init__(self, validation_size: int | None = None, seed: int = 0) -> None:
        """validation_size: None for the task's own default. seed: chooses which questions become validation."""
        self.validation_size = self.default_validation_size if validation_size is None else validation_size
        self.seed = seed
        check_count(self.name, "validation_size", self.validation_size)
        check_count(self.name, "seed", seed)
        self._splits: dict[Split, list[Question]] = {}
        self._brought: list[Question] | None = None  # Questions that the data bring for validation; `load` may set it.

    @abstractmethod
    def render(self, row: RawRow) -> Question:
        """The question of one row. Raises ValueError or TypeError for a row that makes none."""

    def load(self) -> tuple[list[Question], list[Question]]:
        """The questions of the training rows (validation included), and of the test rows."""
        return self.questions_in(self.train_rows), self.questions_in(self.test_rows)

    def questions_in(self, table: Source) -> list[Question]:
        """The questions of all rows of a table. Raises TaskError where it cannot be had or a row makes no question."""
        return rendered(table, enumerate(read(table), 1), self.render)

    def stem(self, question: Question) -> str:
        """The question without its options. Two questions with one stem never stand in different splits."""
        return question.metadata.get("stem", question.text)

    def questions(self, split: Split) -> list[Question]:
        check_split(self.name, split)
        if not self._splits:
            pool, test = self.load()
            how = (self.seed, self.balanced)
            if self._brought is None:
                train, validation = carve(pool, test, self.stem, self.validation_size, *how)
            else:
                _, validation = carve(self._brought, test, self.stem, self.validation_size, *how)
                train, _ = carve(pool, [*test, *self._brought], self.stem, 0, *how)
            if not train:
                raise TaskError(
                    f"task {self.name!r}: validation_size={self.validation_size} leaves nothing to train on of "
                    f"{len(validation)} usable rows; choose a smaller one"
                )
            self._splits = dict(zip(SPLITS, (train, validation, test), strict=True))
        return self._splits[split]

    def held_out(self, pool: list[Question], size: int) -> list[Question]:
        """`size` different questions of a pool, chosen by a hash of their stems, for data that bring no test split.

        `carve` drops them from the pool, and what asks the same.
        """
        distinct = {normalise(self.stem(question)): question for question in reversed(pool)}
        chosen = sorted(distinct, key=lambda stem: digest(f"test {self.seed}:{stem}"))[:size]
        return [distinct[stem] for stem in chosen]

    def grade(self, question: Question, text: str) -> Grade:
        """1 where the grader reads a right answer in the reply, without thoughts and without the answer prefix."""
        reply = parsing.without_prefix(text, question.answer_prefix)
        return graders.grade(self.grader, question, reply, "".join(self.choices(question) or ()))


def rendered(table: object, rows: Iterable[tuple[int, RawRow]], render: Callable[[RawRow], Question]) -> list[Question]:
    """The questions of some rows, given with their 1-based numbers in the table. The second of equal ids gets "-2", ….

    Raises TaskError, which names the table and the row, where `render` refuses a row.
    """
    seen: Counter[str] = Counter()
    questions: list[Question] = []
    for number, row in rows:
        try:
            question = checked(render(row))
        except (TypeError, ValueError) as error:
            raise TaskError(f"{table}, row {number}: {error}; correct the row or remove it") from error
        seen[question.id] += 1
        again = seen[question.id]
        questions.append(question if again == 1 else replace(question, id=f"{question.id}-{again}"))
    return questions


def checked(question: Question) -> Question:
    """The question. Raises ValueError where it is blank, or holds text that no tokenizer takes."""
    if not question.text.strip():
        raise ValueError("the question is empty")
    for text in (question.text, question.answer):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{text[:60]!r} holds half of a surrogate pair, which is no character") from error
    return question


def carve(
    pool: list[Question], test: list[Question], stem: Callable[[Question], str], size: int, seed: int, balanced: bool
) -> tuple[list[Question], list[Question]]:
    """Training and validation questions from `pool`, at most `size` of them for validation.

    Both come in the order of their hashes, so that the first few are a fair sample of all.
    """
    tested = {normalise(stem(question)) for question in test}
    distinct = {normalise(question.text): question for question in reversed(pool)}  # The first of equal ones stays.
    groups: dict[str, list[Question]] = {}
    for question in reversed(distinct.values()):
        key = normalise(stem(question))
        if key not in tested:
            groups.setdefault(key, []).append(question)
    order = sorted(groups, key=lambda key: digest(f"{seed}:{key}"))
    if balanced:
        seen: Counter[str] = Counter()
        rank: dict[str, int] = {}  # The place of a group among those with the same answer.
        for key in order:
            answer = groups[key][0].answer
            seen[answer] += 1
            rank[key] = seen[answer]
        order.sort(key=rank.__getitem__)
    train: list[Question] = []
    validation: list[Question] = []
    for key in order:
        fits = len(validation) + len(groups[key]) <= size
        (validation if fits else train).extend(groups[key])
    return train, validation


def digest(text: str) -> str:
    """The SHA-256 hash of a text in hexadecimal. It is the same in every process, unlike `hash`."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
