"""The settings of a user's own task: a TOML file, or a guess from the table itself."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, ValidationError

from neuromas.errors import TaskError
from neuromas.recipe import Section, explain
from neuromas.tasks.golds import AnswerForm, Grader
from neuromas.tasks.guess import guess


def _known(grader: str) -> str:
    if grader not in get_args(Grader) and not re.fullmatch(r".+\.py:\w+", grader):
        raise ValueError(f"the graders are {', '.join(get_args(Grader))}, and FILE.py:FUNCTION beside this file")
    return grader


class OwnTaskFile(Section):
    """A task of one's own: a table, and how it is asked and graded; see docs/own_data.md."""

    data: str
    """The rows to train on; also those to test on where `test` is left out. A file or folder beside the task's file, or
    a data set of the hub."""
    test: str | None = None
    """Rows to test on: another file, or another split of the data set or folder. Where neither this nor `test_size` is
    set, the split `test` that the data bring is taken."""
    config: str | None = None
    """The configuration of a data set on the hub."""
    split: str = "train"
    """The split of `data`, on the hub or in a folder."""
    test_size: int = Field(default=200, ge=1)
    """Rows of `data` to test on where there is no `test`, chosen by a hash of their text."""
    validation_size: int = Field(default=100, ge=1)
    """Training rows that are held out for validation. Where the data bring a split `validation` (or `dev`), its
    rows are taken: so many of them at most if this is set, else all."""
    seed: int = Field(default=0, ge=0)
    """Chooses the rows of validation and, without `test`, of the test."""
    question: str = "question"
    """The column of questions."""
    answer: str = "answer"
    """The column of answers."""
    choices: str | tuple[str, ...] | None = None
    """For the grader `choice`: the column with the list of options, or the columns with an option each."""
    answer_is: AnswerForm | None = None
    """How `answer` names an option. None: found out of all rows."""
    difficulty: str | None = None
    """The column with how hard a row is, a number."""
    hardest: float | None = None
    """Train on rows up to this difficulty only; validation and test keep all."""
    tests: str | None = None
    """For the grader `code`: the column of tests, a text or a list of assertions. The answers are then programs."""
    function: str | None = None
    """For the grader `code`: the column with the name of the function that a question begins and the tests call, as in
    HumanEval. None: a question is a sentence, and the first assertion is shown with it, as in MBPP."""
    setup: str | None = None
    """For the grader `code`: the column of code that runs before the tests."""
    grader: Annotated[str, AfterValidator(_known)] = "exact"
    """`exact`, `contains`, `number`, `math`, `yes-no`, `choice`, `code`, or `FILE.py:FUNCTION`, whose file lies beside
    this one."""
    reward_threads: int = Field(default=1, ge=1)
    """Of a function: the replies that it grades at a time."""
    reward_seconds: float | None = Field(default=None, gt=0)
    """Of a function: the most seconds that a reply may take."""
    instruction: str = ""
    """How to answer; shown to the answering node only."""
    answer_prefix: str = ""
    """Text that the answer is prefilled with."""
    max_answer_tokens: int = Field(default=32, ge=1)
    """The most tokens that the answering node may write."""
    version: int = Field(default=1, ge=1)
    """Raise it when you change rows or grader: results record it."""


def read_task_file(file: Path, options: dict[str, Any]) -> OwnTaskFile:
    """The settings in a TOML file, or those guessed from a table; `options` override either.

    Raises `TaskError` for a file that is missing or wrong, and where settings contradict each other.
    """
    try:
        if file.suffix == ".toml":
            settings = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        else:
            settings = guess(file, options).settings
        parsed = OwnTaskFile.model_validate(settings | options)
    except FileNotFoundError as error:
        raise TaskError(f"task file {str(file)!r} does not exist; `neuromas init TABLE` writes one") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise TaskError(f"task file {str(file)!r} cannot be read as TOML: {error}") from error
    except ValidationError as error:
        raise TaskError(f"task file {str(file)!r}: {explain(error, OwnTaskFile)}") from error
    if parsed.hardest is not None and parsed.difficulty is None:
        raise TaskError(
            f"task file {str(file)!r}: hardest is set and difficulty is not; name the column with the numbers"
        )
    for grader, name, held in (("choice", "choices", "options"), ("code", "tests", "tests")):
        column = getattr(parsed, name)
        if (parsed.grader == grader) != (column is not None):
            raise TaskError(
                f"task file {str(file)!r}: grader is {parsed.grader!r} and {name} is {column!r}; grader {grader!r} "
                f"needs the column with the {held}, and the others have none"
            )
    return parsed
