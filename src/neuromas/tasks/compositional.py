"""Nested expressions whose every part has a name: a task with a known hierarchy and endless questions.

An expression is a full binary tree (`expressions.py`). Each inner part carries a letter, so that a node can say in a
few characters which part it worked out: `a3+5=8` reads "part a is 3+5, which is 8". The exact value of every part
comes with the question (`Question.metadata`), so a network's messages can be checked against the truth.

A hash of its text decides to which split an expression belongs: training, validation and test share no expression,
whatever the seed, the sizes, or the other options are.

Shapes: n expressions, C characters.
"""

import re
from dataclasses import fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from neuromas.errors import TaskError
from neuromas.tasks.base import SPLITS, Split, Task, check_split
from neuromas.tasks.expressions import ENUMERABLE, Bytes, ExpressionKind, Expressions, Space, splits_of
from neuromas.types import Grade, Question

DEFAULT_OPERATORS: dict[ExpressionKind, str] = {"arithmetic": "+*", "boolean": "&|"}
ALLOWED_OPERATORS: dict[ExpressionKind, str] = {"arithmetic": "+*-", "boolean": "&|^"}
_NUMBER = re.compile(r"(?<![0-9])-?[0-9]+(?:\.[0-9]+)?")


class Compositional(Task):
    """Nested modular arithmetic (or booleans) of a chosen depth, every part labelled.

    A real sample (depth 2, i.e. 4 leaves):

        text      (a(3+5)*b(2*7))
        answer    2
        metadata  {"statements": {"a": "a3+5=8", "b": "b2*7=4", "r": "8*4=2"}, "values": {"a": 8, "b": 4, "r": 2}}

    At depth 3 (8 leaves) the same grows by one level: `(e(a(3+5)*b(2*7))+f(c(1+1)*d(2+3)))`.
    The last number of a reply is its answer; without one the reply is unparsed and scores 0.
    """

    name = "compositional"
    version = 1
    changes: ClassVar = {1: "First version."}
    max_answer_tokens = 16

    def __init__(
        self,
        kind: ExpressionKind = "arithmetic",
        depth: int = 2,
        modulus: int | None = None,
        operators: str | None = None,
        easy: float = 0.0,
        live_parts: int | None = None,
        neutral: bool = True,
        train_size: int = 20_000,
        validation_size: int = 512,
        test_size: int = 2048,
        seed: int = 0,
    ) -> None:
        """Sizes are upper limits: a space that has fewer expressions gives all it has.

        easy: the share of training expressions in which only the first `live_parts` bottom parts (half of them by
        default) count. neutral: the other parts add 0, so that they change nothing; False joins them by any operator,
        so that the joins have to be worked out. See `Space.sample`. Raises TaskError for options that do not fit.
        """
        _check(kind, depth, modulus, operators, easy, live_parts)
        modulus = 2 if kind == "boolean" else modulus or 10
        self.space = Space(kind, depth, modulus, operators or DEFAULT_OPERATORS[kind])
        self.answer_choices = tuple(map(str, range(modulus)))
        self.sizes: dict[Split, int] = {"train": train_size, "validation": validation_size, "test": test_size}
        if min(self.sizes.values()) < 0:
            raise TaskError(f"task 'compositional': sizes cannot be negative, got {self.sizes}; use 0 for none")
        self.easy, self.live_parts, self.neutral = easy, live_parts or max(1, 2**depth // 4), neutral
        self.seed = seed
        self._questions: dict[Split, list[Question]] = {}

    def questions(self, split: Split) -> list[Question]:
        """The questions of "train", "validation" or "test": distinct, in an order fixed by the seed."""
        check_split(self.name, split)
        if split not in self._questions:
            expressions = self._draw(split)
            self._questions[split] = [self._question(expressions, row) for row in range(len(expressions))]
        return self._questions[split]

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the last number in `text` is the answer, written as the answer is ("07" and "2.0" are wrong)."""
        numbers = _NUMBER.findall(text)
        parsed = numbers[-1] if numbers else None
        return Grade(float(parsed == question.answer), parsed)

    def _draw(self, split: Split) -> Expressions:
        """Distinct expressions of one split: as many as its size, or all that there are."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split)])
        wanted = self.sizes[split]
        if self.space.size <= ENUMERABLE:
            pool = self.space.everything()
            pool = pool[rng.permutation(len(pool))]
        else:  # The space is so large that repetitions are rare. The smallest split is a twentieth of it.
            pool = _distinct(self.space.sample(wanted * (3 if split == "train" else 40) + 1000, rng))
        pool = pool[np.flatnonzero(splits_of(pool.text) == SPLITS.index(split))[:wanted]]
        return self._with_easy(pool, rng) if split == "train" and self.easy else pool

    def _with_easy(self, pool: Expressions, rng: np.random.Generator) -> Expressions:
        """Distinct training expressions in a new order, of which the share `easy` is easy.

        They are fewer than `pool` holds where there are not enough easy ones.
        """
        wanted = round(self.easy * len(pool))
        easy = self.space.sample(wanted * 3 + 1000, rng, self.live_parts, self.neutral)
        easy = _distinct(easy[np.flatnonzero(splits_of(easy.text) == SPLITS.index("train"))])[:wanted]
        hard = pool[np.flatnonzero(~np.isin(_rows(pool.text), _rows(easy.text)))]
        hard = hard[: round(len(easy) * (1 / self.easy - 1))]
        mixed = Expressions(*(np.concatenate([getattr(x, f.name) for x in (easy, hard)]) for f in fields(Expressions)))
        return mixed[rng.permutation(len(mixed))]

    def _question(self, expressions: Expressions, row: int) -> Question:
        text = expressions.text[row].tobytes().decode()
        labels = self.space.labels
        statements = {k: expressions.statements[row, i, :-1].tobytes().decode() for i, k in enumerate(labels)}
        statements["r"] = statements["r"][1:]  # The value of the root is the answer itself; it needs no label.
        values = {label: int(expressions.values[row, i]) for i, label in enumerate(labels)}
        kind, modulus = self.space.kind, self.space.modulus
        return Question(
            id=f"{kind}-mod{modulus}:{text}",
            text=text,
            answer=str(values["r"]),
            instruction=_instruction(kind, modulus, self.space.operators),
            metadata={"statements": statements, "values": values},
        )


def _instruction(kind: ExpressionKind, modulus: int, operators: str) -> str:
    names = "Letters only name the parts of the expression."
    if kind == "boolean":
        words = {"&": "& is AND", "|": "| is OR", "^": "^ is XOR"}
        return f"{names} {', '.join(words[o] for o in operators)}. Reply with the value of the expression, 0 or 1."
    return (
        f"{names} The result of every operation is taken modulo {modulus}. "
        f"Reply with the final digit, 0 to {modulus - 1}."
    )


def _distinct(expressions: Expressions) -> Expressions:
    """Each expression once, in the order of their first places."""
    _, first = np.unique(expressions.text, axis=0, return_index=True)
    return expressions[np.sort(first)]


def _rows(text: Bytes) -> npt.NDArray[np.bytes_]:
    """Each row of characters [n, C] as one value [n], so that rows can be compared."""
    return np.ascontiguousarray(text).view(f"S{text.shape[1]}")[:, 0]


def _check(
    kind: ExpressionKind, depth: int, modulus: int | None, operators: str | None, easy: float, live_parts: int | None
) -> None:
    """Raises TaskError for options that describe no expressions."""

    def need(fits: bool, problem: str) -> None:
        if not fits:
            raise TaskError(f"task 'compositional': {problem}")

    need(kind in DEFAULT_OPERATORS, f"kind {kind!r} is unknown; choose 'arithmetic' or 'boolean'")
    need(1 <= depth <= 4, f"depth {depth} is out of range; choose 1 to 4 (2 to 16 leaves)")
    modulus_fits = modulus is None or (kind == "arithmetic" and 2 <= modulus <= 10)
    need(modulus_fits, f"modulus {modulus} cannot be used; arithmetic takes 2 to 10, booleans none")
    easy_fits = easy == 0 or (0 < easy <= 1 and depth > 1)
    need(easy_fits, f"easy {easy} cannot be used; choose a share from 0 to 1, and a depth of 2 or more")
    parts = 2 ** (depth - 1)
    live_fits = live_parts is None or 1 <= live_parts < max(2, parts)
    need(live_fits, f"live_parts {live_parts} is out of range; choose 1 or more, and fewer than all {parts}")
    allowed = ALLOWED_OPERATORS[kind]
    once = operators is None or 0 < len(operators) == len(set(operators) & set(allowed))
    need(once, f"operators {operators!r} cannot be used; choose some of {allowed!r}, each once")
