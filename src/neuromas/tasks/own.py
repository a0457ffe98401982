"""A task of one's own, from a TOML file: a table with a question and an answer column, and a choice of grader.

data = "capitals.jsonl"         # .jsonl, .csv or .parquet beside this file, or a data set on the hub ("org/name")
question = "country"            # the columns
answer = "capital"
instruction = "Answer with the name of the city alone."
grader = "exact"
"""

import csv
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from neuromas.config import Section
from neuromas.errors import TaskError
from neuromas.recipe import explain
from neuromas.tasks import choice, data, numerals, parsing
from neuromas.types import Grade, Question

FILES = (".jsonl", ".csv", ".parquet")
Grader = Literal["exact", "contains", "number", "yes-no", "choice"]


class Recipe(Section):
    """What such a file may say; see docs/own_data.md."""

    data: str  # the training rows, and the test rows where `test` is left out
    test: str | None = None  # rows to test on: another file, or another split of the data set
    config: str | None = None  # hub only: the data set's configuration
    split: str = "train"  # hub only: the split of `data`
    test_size: int = Field(default=200, ge=1)  # without `test`: so many rows of `data`, chosen by a hash of their text
    validation_size: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)  # chooses the rows of validation and, without `test`, of the test
    question: str = "question"
    answer: str = "answer"
    choices: str | None = None  # "choice" only: the column with the list of options
    grader: Grader = "exact"
    instruction: str = ""
    answer_prefix: str = ""
    max_answer_tokens: int = Field(default=32, ge=1)
    version: int = Field(default=1, ge=1)  # yours to raise when you change the rows or the grader


class OwnTask(data.LoadedTask):
    """Rows of a user's table. Graders, each given the reply without the answer prefix:

    exact      the whole reply is the answer, whatever the case, the spacing and a stop at its end
    contains   the answer stands in the reply as words of their own; any reply that lists many answers scores
    number     the reply's final number equals the answer's (`numerals.final`)
    yes-no     the first yes or no in the reply
    choice     the letter that the reply commits to; the answer is a letter, an option's text, or its 0-based index
    """

    changes: ClassVar = {}

    def __init__(self, file: str, **options: Any) -> None:
        """file: the TOML; options override what it says. Raises TaskError for what is missing or wrong in it."""
        self.name, self._folder = file, Path(file).parent
        self.recipe = recipe = _recipe(Path(file), options)
        self.version, self.max_answer_tokens = recipe.version, recipe.max_answer_tokens
        self.source = recipe.data
        self.answer_choices = ("No", "Yes") if recipe.grader == "yes-no" else None
        super().__init__(recipe.validation_size, recipe.seed)

    def load(self) -> tuple[list[Question], list[Question]]:
        r = self.recipe
        pool = self._questions(r.data, r.split)
        if r.test is not None:
            return pool, self._questions(r.test, r.test)
        distinct = {data.normalise(self.stem(q)): q for q in reversed(pool)}
        if len(distinct) <= r.test_size:
            raise TaskError(
                f"task {self.name!r}: test_size={r.test_size} leaves nothing to train on of {len(distinct)} different "
                "questions; choose a smaller one"
            )
        chosen = sorted(distinct, key=lambda stem: data.digest(f"test {r.seed}:{stem}"))[: r.test_size]
        test = [distinct[stem] for stem in chosen]  # `carve` drops them, and what asks the same, from the pool
        return pool, test

    def choices(self, question: Question) -> tuple[str, ...] | None:
        options = question.metadata.get("options")
        return tuple(parsing.LETTERS[: len(options)]) if options else self.answer_choices

    def grade(self, question: Question, text: str) -> Grade:
        """1 where the grader reads the right answer."""
        reply = parsing.without_prefix(text, question.answer_prefix)
        if self.recipe.grader == "number":
            said = numerals.final(reply)
            return Grade(float(said is not None and numerals.equal(question.answer, said)), said)
        if self.recipe.grader == "contains":
            found = f" {_words(question.answer)} " in f" {_words(reply)} "
            return Grade(float(found), question.answer if found else _words(reply) or None)
        if self.recipe.grader == "exact":
            said = _words(reply) or None
            return Grade(float(said == _words(question.answer)), said)
        letters = "".join(self.choices(question) or ())
        said = parsing.yes_no(reply) if self.recipe.grader == "yes-no" else parsing.letter(reply, letters)
        return Grade(float(said == question.answer), said)

    # -- rows ---------------------------------------------------------------------------------------------

    def _questions(self, table: str, split: str) -> list[Question]:
        rows = self._rows(table, split)
        ids = data.unique_ids(f"row-{data.digest(str(row.get(self.recipe.question)))[:12]}" for row in rows)
        return [self._question(table, n, id, row) for n, (id, row) in enumerate(zip(ids, rows, strict=True), 1)]

    def _rows(self, table: str, split: str) -> list[data.Row]:
        r, file = self.recipe, self._folder / table
        if table.endswith(FILES):
            try:
                rows = _read(file)
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                raise TaskError(
                    f"task {self.name!r}: cannot read {file} ({error}); paths are beside the task"
                ) from error
        else:
            rows = data.read_hub(r.data, r.config, split, f"or name a file that ends with {', '.join(FILES)}")
        wanted = [r.question, r.answer, *([r.choices] if r.choices else [])]
        if not rows:
            raise TaskError(f"task {self.name!r}: {table} has no rows")
        for number, row in enumerate(rows, 1):
            if missing := [column for column in wanted if row.get(column) is None]:
                raise TaskError(
                    f"task {self.name!r}: {table}, row {number} has no {missing[0]!r} (it has {', '.join(row)}); name "
                    "the columns with question, answer and choices, or remove the row"
                )
        return rows

    def _question(self, table: str, number: int, id: str, row: data.Row) -> Question:
        r, text, answer = self.recipe, str(row[self.recipe.question]).strip(), str(row[self.recipe.answer]).strip()
        try:
            if r.grader == "choice" and r.choices:
                options = [str(option) for option in row[r.choices]]
                asked = choice.render(id, text, options, _gold(answer, options))
                return Question(
                    id, asked.text, asked.answer, r.instruction or choice.INSTRUCTION, r.answer_prefix, asked.metadata
                )
            return Question(id, text, _canonical(answer, r.grader), r.instruction, r.answer_prefix)
        except (TypeError, ValueError) as error:
            raise TaskError(
                f"task {self.name!r}: {table}, row {number}: {error}; correct the row or remove it"
            ) from error


def _recipe(file: Path, options: dict[str, Any]) -> Recipe:
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
        recipe = Recipe.model_validate(said | options)
    except FileNotFoundError as error:
        raise TaskError(f"task file {str(file)!r} does not exist; see docs/own_data.md for what it says") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(f"task file {str(file)!r} cannot be read as TOML: {error}") from error
    except ValidationError as error:
        raise TaskError(f"task file {str(file)!r}: {explain(error)}") from error
    if (recipe.grader == "choice") != (recipe.choices is not None):
        raise TaskError(
            f"task file {str(file)!r}: grader is {recipe.grader!r} and choices is {recipe.choices!r}; grader 'choice' "
            "needs the column with the options, and the others have none"
        )
    return recipe


def _read(file: Path) -> list[data.Row]:
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as lines:
            return [dict(row) for row in csv.DictReader(lines)]
    return data.parse_lines(file) if file.suffix == ".jsonl" else data.parquet(file)


def _canonical(answer: str, grader: Grader) -> str:
    """The answer as the grader compares it; ValueError where it can never be given."""
    found = {"number": numerals.final, "yes-no": parsing.yes_no}.get(grader, lambda text: text or None)(answer)
    if found is None or not _words(found):
        raise ValueError(f"the answer is {answer!r}, which grader {grader!r} cannot read")
    return found


def _gold(answer: str, options: list[str]) -> int:
    """The 0-based index of the right option: by its text, its letter, or its number."""
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
    return data.normalise(text).strip(" .,;:!?\"'`*")
