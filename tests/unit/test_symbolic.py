"""Expressions as answers: equality by math-verify, within limits of time and length."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from neuromas.errors import TaskError
from neuromas.tasks import golds, load_task, symbolic
from neuromas.types import Question

pytest.importorskip("math_verify")


def asked(folder: Path, gold: Any) -> tuple[Any, Question]:
    rows = [{"question": f"Q{n}", "answer": gold} for n in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "own.toml").write_text('data = "rows.jsonl"\ngrader = "math"\ntest_size = 1\nvalidation_size = 1\n')
    task = load_task(str(folder / "own.toml"))
    return task, task.questions("test")[0]


RIGHT = [
    ("2\\sqrt{3}", "The answer is $\\sqrt{12}$."),
    ("2\\sqrt{3}", "So \\boxed{2\\sqrt{3}}"),
    ("$2\\sqrt{3}$", "#### 2\\sqrt{3}"),
    ("x^2+2x+1", "\\boxed{(x+1)^2}"),
    ("\\{1,2\\}", "\\boxed{\\{2,1\\}}"),
    ("(3, 4)", "Answer: $(3, 4)$"),
    ("2\\pi", "<think>\\boxed{3}</think>The answer is $2\\pi$, not $\\pi$."),
    ("\\frac{1}{2}", "0.5"),
    ("5", "The answer is 5 apples."),
    (0.25, "\\boxed{\\frac14}"),
    (["\\sqrt{2}", "-\\sqrt{2}"], "$-\\sqrt{2}$"),
]
WRONG = [
    ("2\\sqrt{3}", "\\boxed{3\\sqrt{2}}"),
    ("2\\sqrt{3}", "The answer is not $2\\sqrt{3}$."),
    ("2\\sqrt{3}", "The answer is $3\\sqrt{2}$, not $2\\sqrt{3}$."),
    ("2\\sqrt{3}", "<think>$2\\sqrt{3}$</think>"),
    ("2\\sqrt{3}", "<think>$2\\sqrt{3}$"),
    ("2\\sqrt{3}", ""),
    ("2\\sqrt{3}", "I do not know"),
    ("2\\pi", "6.28"),
    ("\\sqrt{2}", "1.414"),
    ("0.0000004", "0.0000001"),
    ("1/3", "0.333333"),
    ("x^2", "$9^{9^{9^{9^9}}}$"),
    ("x^2", "$" + "(" * 300 + "$"),
    ("x^2", "$x^2" + " + 0" * 200 + "$"),
]


@pytest.mark.parametrize(("gold", "reply"), RIGHT)
def test_equal_expressions_are_right(gold: Any, reply: str, tmp_path: Path) -> None:
    task, question = asked(tmp_path, gold)
    assert task.grade(question, reply).reward == 1


@pytest.mark.parametrize(("gold", "reply"), WRONG)
def test_others_are_wrong_and_costly_ones_end(gold: str, reply: str, tmp_path: Path) -> None:
    task, question = asked(tmp_path, gold)
    start = time.monotonic()
    assert task.grade(question, reply).reward == 0
    assert time.monotonic() - start < 60
    assert task.grade(question, f"\\boxed{{{gold}}}").reward == 1  # the next reply is graded as if nothing had been


def test_a_question_over_its_limit_ends_the_child_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert symbolic.same("2\\sqrt{3}", "$2\\sqrt{3}$")[1]
    child = symbolic._child
    assert child is not None
    child.kill()
    child.wait()
    assert symbolic.same("2\\sqrt{3}", "$2\\sqrt{3}$")[1] and symbolic._child is not child


@pytest.mark.parametrize("cell", ["", "?", b"x", None, float("nan"), {}])
def test_what_is_no_expression_is_refused(cell: Any) -> None:
    with pytest.raises(ValueError, match="an expression that math-verify reads|holds no answer"):
        golds.read(cell, "math")


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "math_verify", None)
    with pytest.raises(TaskError, match="grader 'math' needs the package math-verify"):
        symbolic.same("x", "y")
