"""Nested expressions whose every part has a name: a task with a known hierarchy, and an endless supply of it.

An expression is a full binary tree (`expressions.py`). Each inner part carries a letter, so that a node can say in a
few characters which part it worked out: `a3+5=8` reads "part a is 3+5, which is 8". The exact value of every part
comes with the question (`Question.metadata`), so what a network's nodes say can be checked against the truth.

Which split an expression belongs to is decided by a hash of its text, never by chance: training, validation and
test share no expression, whatever the seed, the sizes, or the other options are.

Shapes: n expressions, C characters.
"""

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from neuromas.errors import TaskError
from neuromas.tasks.base import SPLITS, Split, Task, check_split
from neuromas.tasks.expressions import ENUMERABLE, Bytes, Expressions, Kind, Space, splits_of
from neuromas.types import Grade, Question

DEFAULT_OPERATORS: dict[Kind, str] = {"arithmetic": "+*", "boolean": "&|"}
ALLOWED_OPERATORS: dict[Kind, str] = {"arithmetic": "+*-", "boolean": "&|^"}
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
        kind: Kind = "arithmetic",
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

        easy: share of expressions in the train split of which only the first `live_parts` bottom parts (half of them by
        default) count; the other splits are as ever. neutral: the parts that do not count add 0, so that they change
        nothing; False joins them by any operator, so that what joins them has to be worked out. See `Space.sample`.
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
            drawn = self._draw(split)
            self._questions[split] = [self._question(drawn, i) for i in range(len(drawn))]
        return self._questions[split]

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the last number in `text` is the answer, written as the answer is ("07" and "2.0" are wrong)."""
        found = _NUMBER.findall(text)
        if not found:
            return Grade(0.0, None)
        return Grade(float(found[-1] == question.answer), found[-1])

    def _draw(self, split: Split) -> Expressions:
        """Distinct expressions of one split, as many as asked for or as there are."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split)])
        wanted = self.sizes[split]
        if self.space.size <= ENUMERABLE:
            pool = self.space.everything()
            pool = pool[rng.permutation(len(pool))]
        else:  # so large that repetitions are rare; the smallest split is a twentieth of all
            pool = self.space.sample(wanted * (3 if split == "train" else 40) + 1000, rng)
            pool = _distinct(pool)
        pool = pool[np.flatnonzero(splits_of(pool.text) == SPLITS.index(split))[:wanted]]
        return self._with_easy(pool, rng) if split == "train" and self.easy else pool

    def _with_easy(self, pool: Expressions, rng: np.random.Generator) -> Expressions:
        """Distinct training expressions in a new order, of which the share asked for is easy.

        Fewer than `pool` holds where there are not enough easy ones.
        """
        wanted = round(self.easy * len(pool))
        easy = self.space.sample(wanted * 3 + 1000, rng, self.live_parts, self.neutral)
        easy = _distinct(easy[np.flatnonzero(splits_of(easy.text) == SPLITS.index("train"))])[:wanted]
        hard = pool[np.flatnonzero(~np.isin(_rows(pool.text), _rows(easy.text)))]
        hard = hard[: round(len(easy) * (1 / self.easy - 1))]
        both = Expressions(*(np.concatenate([getattr(x, f.name) for x in (easy, hard)]) for f in fields(Expressions)))
        return both[rng.permutation(len(both))]

    def _question(self, drawn: Expressions, row: int) -> Question:
        text = drawn.text[row].tobytes().decode()
        labels = self.space.labels
        statements = {k: drawn.statements[row, i, :-1].tobytes().decode() for i, k in enumerate(labels)}
        statements["r"] = statements["r"][1:]  # the root's work is the answer itself; it needs no label
        values = {k: int(drawn.values[row, i]) for i, k in enumerate(labels)}
        kind, modulus = self.space.kind, self.space.modulus
        return Question(
            id=f"{kind}-mod{modulus}:{text}",
            text=text,
            answer=str(values["r"]),
            instruction=_instruction(kind, modulus, self.space.operators),
            metadata={"statements": statements, "values": values},
        )


def _instruction(kind: Kind, modulus: int, operators: str) -> str:
    names = "Letters only name the parts of the expression."
    if kind == "boolean":
        words = {"&": "& is AND", "|": "| is OR", "^": "^ is XOR"}
        return f"{names} {', '.join(words[o] for o in operators)}. Reply with the value of the expression, 0 or 1."
    return (
        f"{names} The result of every operation is taken modulo {modulus}. "
        f"Reply with the final digit, 0 to {modulus - 1}."
    )


def _distinct(some: Expressions) -> Expressions:
    """Each expression once, in the order of their first places."""
    _, first = np.unique(some.text, axis=0, return_index=True)
    return some[np.sort(first)]


def _rows(text: Bytes) -> npt.NDArray[np.bytes_]:
    """Each row [n, C] as one value [n], to compare rows by."""
    return np.ascontiguousarray(text).view(f"S{text.shape[1]}")[:, 0]


def _check(
    kind: str, depth: int, modulus: int | None, operators: str | None, easy: float, live_parts: int | None
) -> None:
    """Raises TaskError for options that describe no expressions."""

    def problems() -> Iterator[str]:
        if kind not in DEFAULT_OPERATORS:
            yield f"kind {kind!r} is unknown; choose 'arithmetic' or 'boolean'"
            return
        if not 1 <= depth <= 4:
            yield f"depth {depth} is out of range; choose 1 to 4 (2 to 16 leaves)"
        if modulus is not None and (kind == "boolean" or not 2 <= modulus <= 10):
            yield f"modulus {modulus} cannot be used; arithmetic takes 2 to 10, booleans none"
        if not 0 <= easy <= 1 or (easy and depth == 1):
            yield f"easy {easy} cannot be used; choose a share from 0 to 1, and a depth of 2 or more"
        if live_parts is not None and not 1 <= live_parts < max(2, 2 ** (depth - 1)):
            yield f"live_parts {live_parts} is out of range; choose 1 or more, and fewer than all {2 ** (depth - 1)}"
        allowed = ALLOWED_OPERATORS[kind]
        if operators is not None and (
            not operators or len(set(operators)) < len(operators) or not set(operators) <= set(allowed)
        ):
            yield f"operators {operators!r} cannot be used; choose some of {allowed!r}, each once"

    for problem in problems():
        raise TaskError(f"task 'compositional': {problem}")
