"""A user's own task, from a TOML file: a table with a question and an answer column, and a choice of grader.

data = "capitals.jsonl"         # a file or folder beside this file, or a data set on the hub ("org/name")
question = "country"            # the columns
answer = "capital"
instruction = "Answer with the name of the city alone."
grader = "exact"                # or a function of yours in a file beside this one: "reward.py:score"
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

from neuromas.errors import TaskError
from neuromas.tasks import cells, choice, golds, own_code, parsing
from neuromas.tasks.base import Split
from neuromas.tasks.golds import AnswerForm, Grader
from neuromas.tasks.humaneval import HumanEval
from neuromas.tasks.loaded import LoadedTask, digest, rendered
from neuromas.tasks.own_file import read_task_file
from neuromas.tasks.programs import FENCE
from neuromas.tasks.reward_process import RewardProcess
from neuromas.tasks.tables import KINDS, RawRow, from_hub, read_file, read_folder, read_hub, splits_in, validation_in
from neuromas.tasks.words import normalise
from neuromas.types import Grade, Question

_REMEDY = f"name a file that ends with {', '.join(KINDS)}"


class OwnTask(LoadedTask):
    """Rows of a user's table, graded by name (`tasks/graders.py`), or by

    code       the program in the reply passes the row's tests in the sandbox (`tasks/own_code.py`)
    F.py:NAME  the function NAME in a file beside the task's says what the reply is worth (`tasks/reward.py`)

    The grader `choice` lets the answer be a letter, an option's text, or an index; what the answers of a table may be
    stands in `golds`.
    """

    changes: ClassVar = {}

    def __init__(self, file: str, **options: Any) -> None:
        """file: the TOML file, or a table, whose settings are guessed (`tasks/guess.py`); options override either.

        Raises TaskError for what is missing or wrong in it.
        """
        self.name, self.folder = file, Path(file).parent
        self.file = read_task_file(Path(file), options)
        self.version, self.max_answer_tokens = self.file.version, self.file.max_answer_tokens
        if self.file.grader == "code" and "max_answer_tokens" not in self.file.model_fields_set:
            self.max_answer_tokens = HumanEval.max_answer_tokens
        self.source = self.file.data
        self.answer_form: AnswerForm | None = None
        self._places: dict[str, str] = {}  # For each question id its file and row.
        self.answer_choices = ("No", "Yes") if self.file.grader == "yes-no" else None
        own = self.file.grader not in get_args(Grader)
        how = (self.file.reward_threads, self.file.reward_seconds)
        self._reward = RewardProcess(file, self.file.grader, self.folder, *how) if own else None
        self.grader: Grader = "exact" if own else cast(Grader, self.file.grader)  # of the answers
        instruction, prefix = self.file.instruction, self.file.answer_prefix
        if self.file.choices is not None:
            instruction = instruction or choice.INSTRUCTION
        if self.file.grader == "code":
            instruction, prefix = instruction or own_code.INSTRUCTION, prefix or FENCE
        self.pattern = Question("asked", "", "", instruction, prefix)
        super().__init__(self.file.validation_size, self.file.seed)

    def is_local(self, table: str) -> bool:
        """True for a table that lies beside the task, and not on the hub."""
        return (self.folder / table).exists() or Path(table).suffix.lower() in (*KINDS, ".gz")

    def reward_source(self) -> str:
        if self._reward is None:
            return ""
        return (self.folder / self.file.grader.rpartition(":")[0]).read_text(encoding="utf-8")

    def load(self) -> tuple[list[Question], list[Question]]:
        file = self.file
        test, validation = self._test(), validation_in(self._others - {file.test})
        tables = {"train": (file.data, file.split)}
        tables |= {"validation": (file.data, validation)} if validation else {}
        tables |= {"test": (test, test) if file.test else (file.data, test)} if test else {}
        rows = {part: self._rows(*table) for part, table in tables.items()}
        brought = {part for part, (table, _) in tables.items() if part != "train" and table == file.data}
        named = {part: f"{table} ({split})" if part in brought else table for part, (table, split) in tables.items()}
        if file.choices is not None:
            self._decide_form([(named[part], found) for part, found in rows.items()])
        asked = {part: self._questions(named[part], found) for part, found in rows.items()}
        pool, self._brought = asked["train"], asked.get("validation")
        if self._brought is not None and "validation_size" not in file.model_fields_set:
            self.validation_size = len(self._brought)
        if "test" in asked:
            return pool, asked["test"]
        size, distinct = file.test_size, len({normalise(self.stem(question)) for question in pool})
        if distinct <= size:
            raise TaskError(
                f"task {self.name!r}: test_size={size} leaves nothing to train on of {distinct} different "
                "questions; choose a smaller one"
            )
        return pool, self.held_out(pool, size)

    @cached_property
    def _others(self) -> set[str]:
        """The splits that a folder or a data set on the hub brings, without those that are trained on."""
        file, folder = self.file, self.folder / self.file.data
        if self.is_local(file.data):
            found = splits_in(folder) if folder.is_dir() else ()
        else:
            found = from_hub(file.data, file.config, None, _REMEDY)
        return {str(name) for name in found if str(name) not in file.split}

    def _test(self) -> str | None:
        """The rows to test on: those named, or the split of that name that the data bring; None: some of `data`."""
        own = self.file.test is None and "test_size" not in self.file.model_fields_set and "test" in self._others
        return "test" if own else self.file.test

    def questions(self, split: Split) -> list[Question]:
        found, hardest = super().questions(split), self.file.hardest
        if split != "train" or hardest is None:
            return found
        kept = [question for question in found if question.metadata["difficulty"] <= hardest]
        if not kept:
            least = min(question.metadata["difficulty"] for question in found)
            raise TaskError(
                f"task {self.name!r}: hardest is {hardest:g}, and the easiest row to train on has {least:g}"
            )
        return kept

    def _questions(self, table: str, rows: list[RawRow]) -> list[Question]:
        questions = rendered(f"task {self.name!r}: {table}", enumerate(rows, 1), self.render)
        self._places |= {question.id: f"{table}, row {number}" for number, question in enumerate(questions, 1)}
        return questions

    def fits(self, rows: list[RawRow]) -> bool:
        """True where rows have the columns of questions and answers, and of options and tests where there are such."""
        file = self.file
        options = [file.choices] if isinstance(file.choices, str) else list(file.choices or ())[:2]
        columns = [file.question, file.answer, *options, *filter(None, (file.tests, file.function))]
        return all(row.get(column) is not None for row in rows for column in columns)

    def questions_of(self, table: str, rows: list[RawRow]) -> list[Question]:
        """The questions of other rows. Raises TaskError, which names `table` and the row, for one that makes none."""
        if self.file.choices is not None:
            self._decide_form([(table, rows)])
        return rendered(table, enumerate(rows, 1), self.render)

    def place(self, question: Question) -> str:
        return f"task {self.name!r}: {self._places[question.id]}"

    def _rows(self, table: str, split: str) -> list[RawRow]:
        """The rows of a file or folder beside the task, and only where there is none, of the hub."""
        path = self.folder / table
        try:
            if table == self.file.test and (folder := self.folder / self.file.data).is_dir() and not path.suffix:
                rows = read_folder(folder, split)
            elif path.is_dir():
                rows = read_folder(path, split)
            elif self.is_local(table):
                rows = read_file(path)
            else:
                rows = read_hub(self.file.data, self.file.config, split, _REMEDY)
        except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
            raise TaskError(
                f"task {self.name!r}: cannot read {path} ({error}); paths are beside the task, and rows do not travel "
                "with an export: put the table there, or name it with --task"
            ) from error
        if not rows:
            raise TaskError(f"task {self.name!r}: {table} has no rows")
        file = self.file
        options = file.choices if isinstance(file.choices, str) else None
        columns = (file.question, file.answer, options, file.difficulty, file.tests, file.function)
        for number, row in enumerate(rows, 1):
            for column in filter(None, columns):
                if row.get(column) is None:
                    raise TaskError(f"task {self.name!r}: {table}, row {number} {cells.missing(row, column)}")
        return rows

    def _decide_form(self, tables: list[tuple[str, list[RawRow]]]) -> None:
        """Find out how the answer column names options, for all rows of all tables alike."""
        file, rows = self.file, list[golds.ChoiceRow]()
        for table, found in tables:
            for number, row in enumerate(found, 1):
                place = f"{table}, row {number}"
                try:
                    options = self._options(row)
                except ValueError as error:
                    raise TaskError(f"task {self.name!r}: {place}: {error}; correct the row or remove it") from error
                rows.append(golds.ChoiceRow(place, row[file.answer], options))
        try:
            self.answer_form = golds.form_of(rows, file.answer_is)
        except ValueError as error:
            raise TaskError(f"task {self.name!r}: {error}") from error

    def render(self, row: RawRow) -> Question:
        file = self.file
        metadata: dict[str, Any] = {}
        if file.difficulty is not None:
            metadata["difficulty"] = cells.in_column(file.difficulty, row, cells.finite)
        if file.grader == "code":
            found = own_code.render(row, file)
            return replace(found, metadata=found.metadata | metadata)
        text = cells.in_column(file.question, row, cells.question)
        id = f"row-{digest(text)[:12]}"
        if file.choices is None:
            answers = cells.in_column(file.answer, row, lambda cell: golds.read(cell, self.grader))
            metadata |= golds.alternatives(answers)
            return Question(id, text, answers[0], file.instruction, file.answer_prefix, metadata=metadata)
        assert self.answer_form is not None
        options, form = self._options(row), self.answer_form
        found = cells.in_column(file.answer, row, lambda cell: golds.chosen(cell, options, form))
        question = choice.lettered(id, text, options.texts, found[0])
        metadata |= question.metadata | golds.alternatives([parsing.LETTERS[index] for index in found])
        instruction = file.instruction or choice.INSTRUCTION
        return replace(question, instruction=instruction, answer_prefix=file.answer_prefix, metadata=metadata)

    def _options(self, row: RawRow) -> cells.Options:
        columns = self.file.choices
        if isinstance(columns, tuple):
            return cells.options_in(row, columns)
        return cells.in_column(str(columns), row, cells.options)

    def describe(self) -> dict[str, Any]:
        """As of every task, and of choices how the answer column names them."""
        record = super().describe()
        return record if self.answer_form is None else record | {"answers_are": golds.FORMS[self.answer_form]}

    def choices(self, question: Question) -> tuple[str, ...] | None:
        options = question.metadata.get("options")
        return tuple(parsing.LETTERS[: len(options)]) if options else self.answer_choices

    def grade(self, question: Question, text: str) -> Grade:
        """1 where the grader reads the right answer, or what a function of the user's says."""
        if self._reward is not None or self.grader == "code":
            return self.grade_many([question], [text])[0]
        return super().grade(question, text)

    def grade_many(self, questions: Sequence[Question], texts: Sequence[str]) -> list[Grade]:
        if self.grader == "code":
            return own_code.graded(questions, texts)
        if self._reward is None:
            return super().grade_many(questions, texts)
        replies = [parsing.without_prefix(t, q.answer_prefix) for q, t in zip(questions, texts, strict=True)]
        return self._reward.grades(questions, replies)
