"""Programs as the answers of a user's own table, graded by its tests: rows as HumanEval or MBPP have them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from neuromas.tasks import humaneval, mbpp, programs, sandbox
from neuromas.tasks.loaded import digest
from neuromas.tasks.own_file import OwnTaskFile
from neuromas.tasks.tables import RawRow
from neuromas.types import Grade, Question

INSTRUCTION = "Answer with only the Python code."


def render(row: RawRow, file: OwnTaskFile) -> Question:
    """The question of a row. Raises ValueError for a row that makes none.

    With `function` the question is the beginning of that function, and the tests are a text with `check(candidate)`, or
    with assertions that call it. Without, the question is a sentence, the tests are assertions of which the first is
    shown, and the function is what they call of the answer.
    """
    tests, question, answer = row[str(file.tests)], row[file.question], row[file.answer]
    lines = tests.splitlines() if isinstance(tests, str) else list(tests)
    setup = str(row.get(file.setup) or "") if file.setup else ""
    if file.function is None:
        given = {"text": question, "code": answer, "test_list": [line for line in lines if str(line).strip()]}
        found = mbpp.render({"task_id": 0, "test_setup_code": setup, **given})
    else:
        text = tests if isinstance(tests, str) else "\n".join(map(str, lines))
        if "def check(" not in text:
            text = "def check(candidate):\n" + "".join(f"    {line}\n" for line in text.splitlines())
        names = {"task_id": "own", "prompt": question, "entry_point": row[file.function]}
        found = humaneval.render({**names, "canonical_solution": answer, "test": f"{setup}\n{text}" if setup else text})
    instruction, prefix = file.instruction or INSTRUCTION, file.answer_prefix or programs.FENCE
    return replace(found, id=f"row-{digest(str(question))[:12]}", instruction=instruction, answer_prefix=prefix)


def graded(questions: Sequence[Question], texts: Sequence[str]) -> list[Grade]:
    """1 for each program that passes all tests in the sandbox. Raises TaskError where there can be no sandbox."""
    return programs.graded(questions, texts, _program, sandbox.ResourceLimits())


def _program(question: Question, reply: str) -> str | None:
    given: dict[str, Any] = question.metadata
    if "stem" in given:  # of a sentence
        return mbpp.whole(question, reply)
    return humaneval.complete(question.text, given["names"][0], reply)
