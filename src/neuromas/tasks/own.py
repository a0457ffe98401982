"""A user's own task, from a TOML file: a table with a question and an answer column, and a choice of grader.

data = "capitals.jsonl"         # .jsonl, .csv or .parquet beside this file, or a data set on the hub ("org/name")
question = "country"            # the columns
answer = "capital"
instruction = "Answer with the name of the city alone."
grader = "exact"
"""

import csv
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from neuromas.config import Section
from neuromas.errors import TaskError
from neuromas.recipe import explain
from neuromas.tasks import choice, numerals, parsing
from neuromas.tasks.base import Split
from neuromas.tasks.loaded import LoadedTask, digest, normalise, rendered
from neuromas.tasks.tables import RawRow, read_file, read_hub
from neuromas.types import Grade, Question

FILES = (".jsonl", ".csv", ".parquet")
Grader = Literal["exact", "contains", "number", "yes-no", "choice"]


class OwnTaskFile(Section):
    """The content of such a file; see docs/own_data.md."""

    data: str  # The table of the training rows, and of the test rows where `test` is left out.
    test: str | None = None  # The table of the test rows: another file, or another split of the data set.
    config: str | None = None  # The data set's configuration on the hub.
    split: str = "train"  # The split of `data` on the hub.
    test_size: int = Field(default=200, ge=1)  # Without `test`: rows of `data` to test on, chosen by a hash.
    validation_size: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)  # Chooses the rows of validation and, without `test`, of the test.
    question: str = "question"  # The column of questions.
    answer: str = "answer"  # The column of answers.
    choices: str | None = None  # The column with the list of options, for the grader "choice" only.
    difficulty: str | None = None  # The column with how hard a row is, a number.
    hardest: float | None = None  # Train on rows up to this difficulty only.
    grader: Grader = "exact"
    instruction: str = ""
    answer_prefix: str = ""
    max_answer_tokens: int = Field(default=32, ge=1)
    version: int = Field(default=1, ge=1)  # The user raises it after changing the rows or the grader.


class OwnTask(LoadedTask):
    """Rows of a user's table. Graders, each given the reply without the answer prefix:

    exact      the whole reply is the answer, whatever the case, the spacing and a stop at its end
    contains   the answer stands in the reply as words of their own; any reply that lists many answers scores
    number     the reply's final number equals the answer's (`numerals.final`)
    yes-no     the first yes or no in the reply
    choice     the letter that the reply commits to; the answer is a letter, an option's text, or its 0-based index
    """

    changes: ClassVar = {}

    def __init__(self, file: str, **options: Any) -> None:
        """file: the TOML file; options override what it says. Raises TaskError for what is missing or wrong in it."""
        self.name, self._folder = file, Path(file).parent
        self.file = _read_task_file(Path(file), options)
        self.version, self.max_answer_tokens = self.file.version, self.file.max_answer_tokens
        self.source = self.file.data
        self.answer_choices = ("No", "Yes") if self.file.grader == "yes-no" else None
        super().__init__(self.file.validation_size, self.file.seed)

    def load(self) -> tuple[list[Question], list[Question]]:
        pool = self._questions(self.file.data, self.file.split)
        if self.file.test is not None:
            return pool, self._questions(self.file.test, self.file.test)
        distinct = {normalise(self.stem(question)): question for question in reversed(pool)}
        size, seed = self.file.test_size, self.file.seed
        if len(distinct) <= size:
            raise TaskError(
                f"task {self.name!r}: test_size={size} leaves nothing to train on of {len(distinct)} different "
                "questions; choose a smaller one"
            )
        chosen = sorted(distinct, key=lambda stem: digest(f"test {seed}:{stem}"))[:size]
        return pool, [distinct[stem] for stem in chosen]  # `carve` drops them from the pool, and what asks the same.

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

    def _questions(self, table: str, split: str) -> list[Question]:
        return rendered(f"task {self.name!r}: {table}", enumerate(self._rows(table, split), 1), self.render)

    def _rows(self, table: str, split: str) -> list[RawRow]:
        if table.endswith(FILES):
            file = self._folder / table
            try:
                rows = _read_csv(file) if file.suffix == ".csv" else read_file(file)
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                raise TaskError(
                    f"task {self.name!r}: cannot read {file} ({error}); paths are beside the task"
                ) from error
        else:
            remedy = f"name a file that ends with {', '.join(FILES)}"
            rows = read_hub(self.file.data, self.file.config, split, remedy)
        if not rows:
            raise TaskError(f"task {self.name!r}: {table} has no rows")
        columns = [
            column
            for column in (self.file.question, self.file.answer, self.file.choices, self.file.difficulty)
            if column
        ]
        for number, row in enumerate(rows, 1):
            for column in columns:
                if row.get(column) is None:
                    raise TaskError(
                        f"task {self.name!r}: {table}, row {number} has no {column!r} (it has {', '.join(row)}); name "
                        "the columns with question, answer, choices and difficulty, or remove the row"
                    )
        return rows

    def render(self, row: RawRow) -> Question:
        file = self.file
        id = f"row-{digest(str(row[file.question]))[:12]}"
        text, answer = str(row[file.question]).strip(), str(row[file.answer]).strip()
        known = {} if file.difficulty is None else {"difficulty": float(row[file.difficulty])}
        if file.choices is None:
            canonical = _canonical(answer, file.grader)
            return Question(id, text, canonical, file.instruction, file.answer_prefix, metadata=known)
        options = [str(option) for option in row[file.choices]]
        question = choice.lettered(id, text, options, _gold(answer, options))
        instruction = file.instruction or choice.INSTRUCTION
        metadata = question.metadata | known
        return replace(question, instruction=instruction, answer_prefix=file.answer_prefix, metadata=metadata)

    def choices(self, question: Question) -> tuple[str, ...] | None:
        options = question.metadata.get("options")
        return tuple(parsing.LETTERS[: len(options)]) if options else self.answer_choices

    def grade(self, question: Question, text: str) -> Grade:
        """1 where the grader reads the right answer."""
        reply = parsing.without_prefix(text, question.answer_prefix)
        words, gold = _words(reply), _words(question.answer)
        match self.file.grader:
            case "number":
                parsed = numerals.final(reply)
                return Grade(float(parsed is not None and numerals.equal(question.answer, parsed)), parsed)
            case "contains":
                contained = f" {gold} " in f" {words} "
                return Grade(float(contained), question.answer if contained else words or None)
            case "exact":
                return Grade(float(words == gold), words or None)
            case "yes-no":
                parsed = parsing.yes_no(reply)
            case "choice":
                parsed = parsing.letter(reply, "".join(self.choices(question) or ()))
        return Grade(float(parsed == question.answer), parsed)


def _read_task_file(file: Path, options: dict[str, Any]) -> OwnTaskFile:
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        parsed = OwnTaskFile.model_validate(settings | options)
    except FileNotFoundError as error:
        raise TaskError(f"task file {str(file)!r} does not exist; see docs/own_data.md for what it says") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(f"task file {str(file)!r} cannot be read as TOML: {error}") from error
    except ValidationError as error:
        raise TaskError(f"task file {str(file)!r}: {explain(error)}") from error
    if parsed.hardest is not None and parsed.difficulty is None:
        raise TaskError(
            f"task file {str(file)!r}: hardest is set and difficulty is not; name the column with the numbers"
        )
    if (parsed.grader == "choice") != (parsed.choices is not None):
        raise TaskError(
            f"task file {str(file)!r}: grader is {parsed.grader!r} and choices is {parsed.choices!r}; grader 'choice' "
            "needs the column with the options, and the others have none"
        )
    return parsed


def _read_csv(file: Path) -> list[RawRow]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [dict(row) for row in csv.DictReader(lines)]


def _canonical(answer: str, grader: Grader) -> str:
    """The answer in the form that the grader compares. Raises ValueError where it can never be given."""
    canonical: str | None = answer
    if grader == "number":
        canonical = numerals.final(answer)
    elif grader == "yes-no":
        canonical = parsing.yes_no(answer)
    if not canonical or not _words(canonical):
        raise ValueError(f"the answer is {answer!r}, which grader {grader!r} cannot read")
    return canonical


def _gold(answer: str, options: list[str]) -> int:
    """The 0-based index of the right option, which the answer gives by its text, its letter, or its number.

    Raises ValueError where it gives none.
    """
    if not 2 <= len(options) <= len(parsing.LETTERS):
        raise ValueError(f"there are {len(options)} options, and must be 2 to {len(parsing.LETTERS)}")
    letters = parsing.LETTERS[: len(options)]
    if answer in options:
        return options.index(answer)
    if len(answer) == 1 and answer.upper() in letters:
        return letters.index(answer.upper())
    if answer.isdecimal() and int(answer) < len(options):
        return int(answer)
    raise ValueError(f"the answer is {answer!r}, which is no option, no letter of one and no 0-based index")


def _words(text: str) -> str:
    """The words of a text without the marks around them."""
    return normalise(text).strip(" .,;:!?\"'`*")
