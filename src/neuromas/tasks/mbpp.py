"""MBPP: short Python functions from one sentence; the training source of the code benchmarks, and a task itself."""

import ast
import builtins
import re
from typing import Any, ClassVar

from neuromas.tasks import data, programs
from neuromas.types import Question

_COLUMNS = ("task_id", "text", "code", "test_list", "test_setup_code")
_ALL = data.Source("mbpp", "google-research-datasets/mbpp", "full", "train+test+validation+prompt", _COLUMNS)
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
    version = 1
    changes: ClassVar = {1: "First version."}
    source = "google-research-datasets/mbpp, full (CC BY 4.0)"

    def __init__(self, validation_size: int = 50, seed: int = 0, cpu_seconds: int = 4) -> None:
        """Validation questions are carved from the training ids, the seed chooses which."""
        super().__init__(validation_size, seed, cpu_seconds)

    def load(self) -> tuple[list[Question], list[Question]]:
        return training(), _questions(TEST_IDS)

    def stem(self, question: Question) -> str:
        return question.metadata["stem"]

    def program(self, question: Question, reply: str) -> str | None:
        return whole(question, reply)


def training() -> list[Question]:
    """The questions that `mbpp` and `humaneval` learn from, validation included."""
    return _questions(TRAIN_IDS)


def whole(question: Question, reply: str) -> str | None:
    """The program in a reply: a fenced block, one with the wanted name before others, or all that precedes a fence."""
    before = programs.before_fence(reply)
    wanted = programs.definition(question.metadata["names"][-1])
    if re.search(wanted, before):
        return before
    found = programs.block(reply, wanted) or programs.block(reply) or before
    return found if found.strip() else None


def _questions(ids: range) -> list[Question]:
    rows = [(number, row) for number, row in enumerate(data.read(_ALL), 1) if row["task_id"] in ids]
    if len({row["task_id"] for _, row in rows}) < len(rows) or not rows:
        raise data.malformed(_ALL, rows[0][0] if rows else 1, f"ids {ids.start} to {ids.stop - 1} must be there once")
    return [_question(number, row) for number, row in sorted(rows, key=lambda pair: pair[1]["task_id"])]


def _question(number: int, row: data.Row) -> Question:
    tests: Any = row["test_list"]
    texts = [row["text"], row["code"], *(tests if isinstance(tests, list) else [None])]
    if len(texts) < 3 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise data.malformed(_ALL, number, "text, code and each of test_list must be text")
    prepare = str(row["test_setup_code"] or "").replace("\r\n", "\n")
    code, tests = row["code"].replace("\r\n", "\n"), [test.strip() for test in tests]
    try:
        names, setup = _surroundings(code, "\n".join([prepare, *tests]))
    except (SyntaxError, ValueError) as error:
        raise data.malformed(_ALL, number, f"code or tests are no Python ({error})") from error
    if not names:
        raise data.malformed(_ALL, number, "the tests use nothing that the code defines")
    text = row["text"].strip()
    return Question(
        id=f"mbpp-{row['task_id']}",
        text=f"{text}\nYour code should satisfy this test:\n{tests[0]}",
        answer=code,
        instruction="Answer with only the Python code.",
        answer_prefix=programs.FENCE,
        metadata={"stem": text, "tests": "\n".join([prepare, *tests]), "names": names, "setup": setup},
    )


def _surroundings(code: str, tests: str) -> tuple[list[str], str]:
    """Of the reference solution: the names that the tests use, the tested function last; the imports they need."""
    called: dict[str, None] = {}
    bound: set[str] = set()
    for node in ast.walk(ast.parse(tests)):
        if isinstance(node, ast.Name):
            called[node.id] = None
            bound |= {node.id} if isinstance(node.ctx, ast.Store) else set()
    defined: set[str] = set()
    imports: list[str] = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            defined.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom) and called.keys() & _brought(statement):
            imports.append(ast.unparse(statement))
    names = [name for name in called if name in defined and name not in bound]
    first = ast.parse(tests.strip().splitlines()[-1])
    outer = [n.func.id for n in ast.walk(first) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    tested = [name for name in outer if name in names and not hasattr(builtins, name)] or names
    return sorted(names, key=lambda name: name == tested[0]), "\n".join(imports)


def _brought(statement: ast.Import | ast.ImportFrom) -> set[str]:
    return {alias.asname or alias.name for alias in statement.names}
