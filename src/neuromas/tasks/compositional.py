"""Nested expressions whose every part has a name: a task with a known hierarchy, and an endless supply of it.

An expression is a full binary tree. Each inner part carries a letter, so that a node can say in a few characters
which part it worked out: `a3+5=8` reads "part a is 3+5, which is 8". The exact value of every part comes with the
question (`Question.metadata`), so what a network's nodes say can be checked against the truth.

Which split an expression belongs to is decided by a hash of its text, never by chance: training, validation and
test share no expression, whatever the seed, the sizes, or the other options are.

Shapes: n expressions, L leaves (2**depth), S parts (L - 1, bottom level first, the root last), C characters.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from neuromas.errors import TaskError
from neuromas.tasks.base import SPLITS, Split, Task, check_split
from neuromas.types import Grade, Question

Kind = Literal["arithmetic", "boolean"]
Bytes = npt.NDArray[np.uint8]  # ASCII codes
Ints = npt.NDArray[np.int64]

DEFAULT_OPERATORS: dict[Kind, str] = {"arithmetic": "+*", "boolean": "&|"}
IDENTITY = {"+": 0, "-": 0, "*": 1, "&": 1, "|": 0, "^": 0}  # the right operand that changes nothing
ALLOWED_OPERATORS: dict[Kind, str] = {"arithmetic": "+*-", "boolean": "&|^"}
STATEMENT_WIDTH = 7  # characters of "a3+5=8;"

_TEST_PERCENT, _VALIDATION_PERCENT = 10, 5  # of all expressions; training has the rest
_ENUMERABLE = 200_000  # a space up to this size is enumerated, a larger one sampled
_NUMBER = re.compile(r"(?<![0-9])-?[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True)
class Expressions:
    """n expressions of one shape, as arrays, so that a million of them are cheap."""

    text: Bytes  # [n, C], e.g. "(a(3+5)*b(2*7))"
    statements: Bytes  # [n, S, 7], e.g. "a3+5=8;"; the root's letter is r
    values: Ints  # [n, S], the value of every part; the last one is the answer

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: Ints | slice) -> "Expressions":
        return Expressions(self.text[rows], self.statements[rows], self.values[rows])


@dataclass(frozen=True)
class Space:
    """All expressions of one kind, depth, modulus and set of operators."""

    kind: Kind = "arithmetic"
    depth: int = 2
    modulus: int = 10  # operands and values are 0 … modulus - 1; always 2 for booleans
    operators: str = "+*"

    @property
    def leaves(self) -> int:
        return 2**self.depth

    @property
    def labels(self) -> str:
        """Letters of the parts: bottom level from left to right, then the next; the root is r."""
        return "abcdefghijklmn"[: self.leaves - 2] + "r"

    @property
    def size(self) -> int:
        return self.modulus**self.leaves * len(self.operators) ** (self.leaves - 1)

    def sample(self, n: int, rng: np.random.Generator, live: int | None = None) -> Expressions:
        """n expressions, uniformly, with repetition, from all splits.

        live: only the first so many parts of the bottom level count. The other leaves are 0, and what joins them to a
        live part adds (or ORs), so that they change nothing, as in `(e(a(3+5)*b(2*7))+f(c(0*0)*d(0+0)))` with 2. Where
        the operators offer no such join, the leaves are 1 and it multiplies.
        """
        leaves = rng.integers(0, self.modulus, (n, self.leaves))
        choice = rng.integers(0, len(self.operators), (n, self.leaves - 1))
        if live is not None:
            zero = [i for i, o in enumerate(self.operators) if IDENTITY[o] == 0]
            leaves[:, 2 * live :] = 0 if zero else 1
            for part in _joins(self.depth, live):
                choice[:, part] = rng.choice(zero or len(self.operators), n)
        return self._build(leaves, choice)

    def everything(self) -> Expressions:
        """Every expression once; only for small spaces."""
        assert self.size <= _ENUMERABLE
        code = np.arange(self.size)
        radix = [self.modulus] * self.leaves + [len(self.operators)] * (self.leaves - 1)
        digits: list[Ints] = []
        for base in radix:
            code, digit = np.divmod(code, base)
            digits.append(digit)
        columns = np.stack(digits, 1)
        return self._build(columns[:, : self.leaves], columns[:, self.leaves :])

    def _build(self, leaves: Ints, choice: Ints) -> Expressions:
        """leaves [n, L] and operator indices [n, S] → the expressions; works upwards, level by level."""
        symbols = np.frombuffer(self.operators.encode(), np.uint8)[choice]  # [n, S]
        values, texts = leaves, [_digit(leaves[:, i]) for i in range(self.leaves)]
        statements: list[Bytes] = []
        results: list[Ints] = []
        while len(texts) > 1:
            above: list[Ints] = []
            joined: list[Bytes] = []
            for i in range(0, len(texts), 2):
                part = len(results)
                x, y, op = values[:, i], values[:, i + 1], symbols[:, part]
                value, label = self._apply(op, x, y), self.labels[part]
                joined.append(_join("" if label == "r" else label, "(", texts[i], op[:, None], texts[i + 1], ")"))
                statements.append(_join(label, _digit(x), op[:, None], _digit(y), "=", _digit(value), ";"))
                results.append(value)
                above.append(value)
            values, texts = np.stack(above, 1), joined
        return Expressions(texts[0], np.stack(statements, 1), np.stack(results, 1))

    def _apply(self, op: Bytes, x: Ints, y: Ints) -> Ints:
        """Elementwise x op y, all [n]."""
        if self.kind == "boolean":
            return np.select([op == ord("&"), op == ord("|")], [x & y, x | y], x ^ y)
        return np.select([op == ord("+"), op == ord("*")], [x + y, x * y], x - y) % self.modulus


def _joins(depth: int, live: int) -> Iterator[int]:
    """Numbers of the parts whose left side holds one of the first `live` bottom parts, and whose right side none."""
    number = 2 ** (depth - 1)  # of the first part above the bottom level
    for level in range(1, depth):
        width = 2**level  # bottom parts under each part of this level
        for first in range(0, 2 ** (depth - 1), width):
            if first < live <= first + width // 2:
                yield number
            number += 1


def splits_of(text: Bytes) -> npt.NDArray[np.int64]:
    """Which split each expression [n, C] belongs to, as an index into `SPLITS` [n]: FNV-1a hash of the text."""
    state = np.full(len(text), 0xCBF29CE484222325, np.uint64)
    for column in text.T:
        state = (state ^ column.astype(np.uint64)) * np.uint64(0x100000001B3)
    percent = ((state >> np.uint64(32)) % np.uint64(100)).astype(np.int64)
    return np.select([percent < _TEST_PERCENT, percent < _TEST_PERCENT + _VALIDATION_PERCENT], [2, 1], 0)


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
        train_size: int = 20_000,
        validation_size: int = 512,
        test_size: int = 2048,
        seed: int = 0,
    ) -> None:
        """Sizes are upper limits: a space that has fewer expressions gives all it has.

        easy: share of expressions in the train split of which only the first `live_parts` bottom parts (half of them by
        default) count, see `Space.sample`; the other splits are as ever.
        """
        _check(kind, depth, modulus, operators, easy, live_parts)
        modulus = 2 if kind == "boolean" else modulus or 10
        self.space = Space(kind, depth, modulus, operators or DEFAULT_OPERATORS[kind])
        self.answer_choices = tuple(map(str, range(modulus)))
        self.sizes: dict[Split, int] = {"train": train_size, "validation": validation_size, "test": test_size}
        if min(self.sizes.values()) < 0:
            raise TaskError(f"task 'compositional': sizes cannot be negative, got {self.sizes}; use 0 for none")
        self.easy, self.live_parts, self.seed = easy, live_parts or max(1, 2**depth // 4), seed
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
        if self.space.size <= _ENUMERABLE:
            pool = self.space.everything()
            pool = pool[rng.permutation(len(pool))]
        else:  # so large that repetitions are rare; the smallest split is a twentieth of all
            pool = self.space.sample(wanted * (3 if split == "train" else 40) + 1000, rng)
            _, first = np.unique(pool.text, axis=0, return_index=True)
            pool = pool[np.sort(first)]
        pool = pool[np.flatnonzero(splits_of(pool.text) == SPLITS.index(split))[:wanted]]
        return self._with_easy(pool, rng) if split == "train" and self.easy else pool

    def _with_easy(self, pool: Expressions, rng: np.random.Generator) -> Expressions:
        """Distinct training expressions in a new order, of which the share asked for is easy.

        Fewer than `pool` holds where there are not enough easy ones.
        """
        wanted = round(self.easy * len(pool))
        easy = self.space.sample(wanted * 3 + 1000, rng, self.live_parts)
        easy = easy[np.flatnonzero(splits_of(easy.text) == SPLITS.index("train"))]
        _, first = np.unique(easy.text, axis=0, return_index=True)
        easy = easy[np.sort(first)[:wanted]]
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


def _digit(value: Ints) -> Bytes:
    """[n] numbers 0 … 9 → their characters [n, 1]."""
    return (value + ord("0")).astype(np.uint8)[:, None]


def _join(*parts: Bytes | str) -> Bytes:
    """Concatenates columns of characters; a string is repeated in every row."""
    rows = next(len(p) for p in parts if not isinstance(p, str))
    columns = [
        np.broadcast_to(np.frombuffer(p.encode(), np.uint8), (rows, len(p))) if isinstance(p, str) else p for p in parts
    ]
    return np.concatenate(columns, 1)
