"""Arithmetic with a calculator: an example of a task whose nodes may ask while they write.

A node that writes `calc(12*34)=` is given `408` and writes on.
"""

import ast
import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from neuromas.errors import TaskError
from neuromas.tasks import numerals, parsing
from neuromas.tasks.base import SPLITS, Split, Task, check_count, check_split
from neuromas.types import Grade, Question

_ASKED = re.compile(r"calc\(([\d+\-* ()]{1,60})\)=$")
_LONGEST = 40  # digits of a value; products of longer numbers are refused
_MOST_DIGITS = 18  # that a number of 64 bits has


class Calculator(Task):
    """Sums of two products of numbers with some digits, such as 12 * 34 + 56 * 78; generated, no question twice.

    Nodes may ask a calculator three times in a call; what it says is no act of theirs and is not trained on. The grader
    reads the number that the reply states. A real sample:

        text         86 * 67 + 56 * 34
        instruction  You may write calc(12*34)= and will be given the value. Answer with the number.
        answer       7666
    """

    name = "calculator"
    version = 1
    changes: ClassVar = {1: "First version."}
    max_answer_tokens = 64
    turns, pauses = 4, (")=",)

    def __init__(
        self,
        digits: int = 2,
        train_size: int = 2000,
        validation_size: int = 100,
        test_size: int = 200,
        seed: int = 0,
    ) -> None:
        """digits: of every number. Raises TaskError for sizes that are no counts."""
        check_count(self.name, "digits", digits, least=2)
        if digits > _MOST_DIGITS:
            raise TaskError(f"task {self.name!r}: digits is {digits}; choose {_MOST_DIGITS} or fewer")
        check_count(self.name, "seed", seed)
        sizes = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        for split, size in sizes.items():
            check_count(self.name, f"{split}_size", size, least=1)
        rng = np.random.default_rng(seed)
        rows: dict[tuple[int, ...], None] = {}
        while len(rows) < sum(sizes.values()):
            drawn = rng.integers(10 ** (digits - 1), 10**digits, (sum(sizes.values()), 4))
            rows |= dict.fromkeys(map(tuple, drawn.tolist()))
        questions = [_question(row) for row in rows]
        self._splits: dict[str, Sequence[Question]] = {}
        for split, size in sizes.items():
            self._splits[split], questions = questions[:size], questions[size:]

    def questions(self, split: Split) -> list[Question]:
        check_split(self.name, split)
        return list(self._splits[split])

    def grade(self, question: Question, text: str) -> Grade:
        """1 where the number that the reply states is the value."""
        reply = parsing.without_prefix(text, question.answer_prefix)
        parsed = numerals.final(reply, question.answer_prefix)
        return Grade(float(parsed is not None and numerals.equal(question.answer, parsed)), parsed)

    def respond(self, question: Question, text: str) -> str | None:
        """The value of the expression that the text asks for; "?" where it has none."""
        asked = _ASKED.search(text)
        if asked is None:
            return None
        try:
            return str(_value(ast.parse(asked[1].strip(), mode="eval").body))
        except (SyntaxError, ValueError, RecursionError):
            return "?"


def _question(row: Sequence[int]) -> Question:
    a, b, c, d = row
    text = f"{a} * {b} + {c} * {d}"
    instruction = "You may write calc(12*34)= and will be given the value. Answer with the number."
    return Question(f"calc-{a}-{b}-{c}-{d}", text, str(a * b + c * d), instruction)


def _value(node: ast.expr) -> int:
    """The value of sums, differences and products of whole numbers. Raises ValueError for anything else."""
    match node:
        case ast.Constant(value=int(value)):
            return _short(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _short(_value(left) + _value(right))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _short(_value(left) - _value(right))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _short(_value(left) * _value(right))
        case _:
            raise ValueError("no sum, difference or product of whole numbers")


def _short(value: int) -> int:
    if abs(value) >= 10**_LONGEST:
        raise ValueError("too long")
    return value
