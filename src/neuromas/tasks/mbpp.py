"""MBPP: short Python functions from one sentence; the training source of the code benchmarks, and a task itself."""

import ast
import builtins
import re
from typing import Any, ClassVar

from neuromas.errors import TaskError
from neuromas.tasks import programs
from neuromas.tasks.loaded import rendered
from neuromas.tasks.tables import RawRow, Source, read
from neuromas.types import Question

_COLUMNS = ("task_id", "text", "code", "test_list", "test_setup_code")
_ROWS = Source("mbpp", "google-research-datasets/mbpp", "full", "train+test+validation+prompt", _COLUMNS)
TEST_IDS, TRAIN_IDS = range(11, 511), range(601, 975)


class Mbpp(programs.CodeTask):
    """Austin et al. 2021 (CC BY 4.0): 500 test questions, ids 11 to 510; ids 601 to 974 to learn from.

    Three assertions grade a program and the question shows the first, which tells the name and the arguments. The
    paper shows all three; here a program that only knows the shown ones must not earn a reward. The published
    validation ids 511 to 600 are not used: `mbpp` and `humaneval` learn from the same pool, less what a test repeats.

    The first fenced block is the program; without one, the text before the first fence is.

    A real sample (training id 604):

        text         Write a function to reverse words in a given string.
                     Your code should satisfy this test:
                     assert reverse_words("python program")==("program python")
        instruction  Answer with only the Python code.
        prefix       ```python
        answer       def reverse_words(s):
                        return ' '.join(reversed(s.split()))
    """

    name = "mbpp"
    version = 2
    changes: ClassVar = {
        1: "First version.",
        2: "Fences in lists, of tildes, and several blocks are read; thoughts are left out.",
    }
    source = "google-research-datasets/mbpp, full (CC BY 4.0)"

    def load(self) -> tuple[list[Question], list[Question]]:
        return published(TRAIN_IDS), published(TEST_IDS)

    def render(self, row: RawRow) -> Question:
        return render(row)

    def program(self, question: Question, reply: str) -> str | None:
        return whole(question, reply)


def published(ids: range) -> list[Question]:
    """The questions with these ids, in their order. Raises TaskError where an id is there twice, or none is."""
    rows = [(number, row) for number, row in enumerate(read(_ROWS), 1) if row["task_id"] in ids]
    if not rows or len({row["task_id"] for _, row in rows}) < len(rows):
        number = rows[0][0] if rows else 1
        raise TaskError(
            f"{_ROWS}, row {number}: ids {ids.start} to {ids.stop - 1} must be there once; correct the row or remove it"
        )
    rows.sort(key=lambda numbered: numbered[1]["task_id"])
    return rendered(_ROWS, rows, render)


def whole(question: Question, reply: str) -> str | None:
    """The program in a reply: all that precedes a fence where that defines the wanted name, or a fenced block.

    A block with the wanted name goes before others. None where the reply has no code.
    """
    before = programs.before_fence(reply)
    definition = programs.definition(question.metadata["names"][-1])
    if re.search(definition, before):
        return programs.unfenced(before)
    program = programs.block(reply, definition) or programs.block(reply) or before
    return program if program.strip() else None


def render(row: RawRow) -> Question:
    """The question of one row. Raises ValueError for a row that makes none."""
    tests: Any = row["test_list"]
    texts = [row["text"], row["code"], *(tests if isinstance(tests, list) else [None])]
    if len(texts) < 3 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("text, code and each of test_list must be text")
    prepare = str(row["test_setup_code"] or "").replace("\r\n", "\n")
    text, code, tests = row["text"].strip(), row["code"].replace("\r\n", "\n"), [test.strip() for test in tests]
    all_tests = "\n".join([prepare, *tests])
    try:
        names, setup = _surroundings(code, all_tests)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"code or tests are no Python ({error})") from error
    if not names:
        raise ValueError("the tests use nothing that the code defines")
    return Question(
        id=f"mbpp-{row['task_id']}",
        text=f"{text}\nYour code should satisfy this test:\n{tests[0]}",
        answer=code,
        instruction="Answer with only the Python code.",
        answer_prefix=programs.FENCE,
        metadata={"stem": text, "tests": all_tests, "names": names, "setup": setup},
    )


def _surroundings(code: str, tests: str) -> tuple[list[str], str]:
    """The names of the reference solution that the tests use, the tested function last; the imports they need."""
    used: dict[str, None] = {}
    bound: set[str] = set()
    for node in ast.walk(ast.parse(tests)):
        if isinstance(node, ast.Name):
            used[node.id] = None
            if isinstance(node.ctx, ast.Store):
                bound.add(node.id)
    defined: set[str] = set()
    imports: list[str] = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            defined.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom) and any(
            (alias.asname or alias.name) in used for alias in statement.names
        ):
            imports.append(ast.unparse(statement))
    names = [name for name in used if name in defined and name not in bound]
    last_test = ast.parse(tests.strip().splitlines()[-1])
    called = [n.func.id for n in ast.walk(last_test) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    tested = [name for name in called if name in names and not hasattr(builtins, name)] or names
    return sorted(names, key=lambda name: name == tested[0]), "\n".join(imports)
