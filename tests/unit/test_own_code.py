"""Programs as answers of one's own table: HumanEval's and MBPP's rows give the built-in tasks' questions and grades."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from neuromas.errors import TaskError
from neuromas.tasks import load_task
from neuromas.types import Question

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")


def own(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Any:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {"data": "rows.jsonl", "grader": "code", "test_size": 1, "validation_size": 1, **settings}
    (folder / "own.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    return load_task(str(folder / "own.toml"))


def content(question: Question) -> tuple[str, ...]:
    given = question.metadata
    return question.text, question.answer, question.answer_prefix, given["tests"], str(given["names"]), given["setup"]


HUMANEVAL = {
    "question": "prompt", "answer": "canonical_solution", "tests": "test", "function": "entry_point",
}  # fmt: skip
MBPP = {"question": "text", "answer": "code", "tests": "test_list", "setup": "test_setup_code"}


BENCHMARKS = [("humaneval", "humaneval_test", HUMANEVAL, 164), ("mbpp", "mbpp", MBPP, 870)]


@pytest.mark.parametrize(("name", "file", "columns", "count"), BENCHMARKS)
def test_the_rows_of_a_benchmark_are_the_built_in_tasks_questions(
    name: str, file: str, columns: dict[str, str], count: int, benchmark_data: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (benchmark_data / f"{file}.jsonl").read_text().splitlines()]
    mine = {content(question) for question in own(tmp_path, rows, **columns).questions_of("rows", rows)}
    splits = ("test",) if name == "humaneval" else ("train", "validation", "test")
    built_in = {content(question) for split in splits for question in load_task(name).questions(split)}
    assert len(built_in) >= count and built_in <= mine


BEGUN = [
    {
        "question": f'def add{n}(a, b):\n    """a + b + {n}"""\n',
        "answer": f"    return a + b + {n}\n",
        "tests": f"assert add{n}(1, 2) == {3 + n}\nassert add{n}(0, 0) == {n}",
        "function": f"add{n}",
    }
    for n in range(6)
]
TOLD = [
    {
        "question": f"Write a function that adds {n} to a number.",
        "answer": f"def plus{n}(a):\n    return a + {n}",
        "tests": [f"assert plus{n}(1) == {1 + n}", f"assert plus{n}(0) == {n}"],
    }
    for n in range(6)
]


@linux
@pytest.mark.parametrize(("rows", "columns"), [(BEGUN, {"function": "function"}), (TOLD, {})], ids=["begun", "told"])
def test_a_program_that_passes_the_rows_tests_is_right(rows: Any, columns: dict[str, str], tmp_path: Path) -> None:
    task = own(tmp_path, rows, tests="tests", **columns)
    question = task.questions("test")[0]
    fenced = f"```python\n{question.answer}\n```"
    wrong = question.answer.replace("return", "return 1 +")
    replies = [question.answer, fenced, f"<think>def x</think>{fenced}", wrong, "I do not know", "", "<think>" + fenced]
    assert [grade.reward for grade in task.grade_many([question] * 7, replies)] == [1, 1, 1, 0, 0, 0, 0]
    assert task.max_answer_tokens == 512 and task.pattern.answer_prefix == question.answer_prefix == "```python\n"


@pytest.mark.parametrize(
    ("settings", "row", "said"),
    [
        ({}, TOLD[0], "grader 'code' needs the column with the tests"),
        ({"tests": "tests", "grader": "exact"}, TOLD[0], "grader 'code' needs the column with the tests"),
        ({"tests": "checks"}, TOLD[0], "row 1 has no 'checks'"),
        ({"tests": "tests"}, TOLD[0] | {"tests": []}, "row 1: text, code and each of test_list must be text"),
        ({"tests": "tests"}, TOLD[0] | {"answer": "def plus0(a:"}, "row 1: code or tests are no Python"),
        ({"tests": "tests"}, TOLD[0] | {"tests": ["assert other(1)"]}, "row 1: the tests use nothing that the code"),
        ({"tests": "tests", "function": "function"}, BEGUN[0] | {"function": "other"}, "row 1: prompt and test do not"),
    ],
)
def test_rows_that_make_no_program_are_refused(settings: Any, row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=said):
        own(tmp_path, [row], **settings).questions("test")
