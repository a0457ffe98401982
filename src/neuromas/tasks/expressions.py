"""Expressions whose every part has a name, as arrays: made by the million, and split by a hash of their text.

An expression is a full binary tree; each inner part carries a letter. Shapes: n expressions, L leaves (2**depth),
S parts (L - 1, bottom level first, the root last), C characters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

ExpressionKind = Literal["arithmetic", "boolean"]
Bytes = npt.NDArray[np.uint8]  # ASCII codes.
Ints = npt.NDArray[np.int64]

IDENTITY = {"+": 0, "-": 0, "*": 1, "&": 1, "|": 0, "^": 0}  # The right operand that changes nothing.
STATEMENT_WIDTH = 7  # Characters of "a3+5=8;".
_TEST_PERCENT, _VALIDATION_PERCENT = 10, 5  # Shares of all expressions; training has the rest.
ENUMERABLE = 200_000  # A space up to this size is enumerated, a larger one sampled.


@dataclass(frozen=True)
class Expressions:
    """n expressions of one shape, as arrays, so that a million of them are cheap."""

    text: Bytes  # [n, C], the expressions, such as "(a(3+5)*b(2*7))".
    statements: Bytes  # [n, S, 7], a statement on each part, such as "a3+5=8;"; the root's letter is r.
    values: Ints  # [n, S], the value of every part; the last one is the answer.

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: Ints | slice) -> "Expressions":
        return Expressions(self.text[rows], self.statements[rows], self.values[rows])


@dataclass(frozen=True)
class Space:
    """All expressions of one kind, depth, modulus and set of operators."""

    kind: ExpressionKind = "arithmetic"
    depth: int = 2
    modulus: int = 10  # Operands and values are 0 … modulus - 1; always 2 for booleans.
    operators: str = "+*"

    @property
    def leaves(self) -> int:
        return 2**self.depth

    @property
    def labels(self) -> str:
        """The letters of the parts: the bottom level from left to right, then the next; the root is r."""
        return "abcdefghijklmn"[: self.leaves - 2] + "r"

    @property
    def size(self) -> int:
        """The number of different expressions."""
        return self.modulus**self.leaves * len(self.operators) ** (self.leaves - 1)

    def sample(self, n: int, rng: np.random.Generator, live: int | None = None, neutral: bool = True) -> Expressions:
        """n expressions drawn uniformly with repetition, from all splits.

        live: the number of parts of the bottom level that count. The other leaves are 0, and their join with a live
        part adds (or ORs), so that they change nothing, as in `(e(a(3+5)*b(2*7))+f(c(0*0)*d(0+0)))` with 2. Where no
        operator joins like this, the leaves are 1 and it multiplies.
        neutral: False joins them by any operator, so that the joins have to be worked out, too.
        """
        leaves = rng.integers(0, self.modulus, (n, self.leaves))
        choice = rng.integers(0, len(self.operators), (n, self.leaves - 1))
        if live is not None:
            zero = [i for i, o in enumerate(self.operators) if IDENTITY[o] == 0]
            leaves[:, 2 * live :] = 0 if zero else 1
            for part in _joins(self.depth, live) if neutral else ():
                choice[:, part] = rng.choice(zero or len(self.operators), n)
        return self._build(leaves, choice)

    def everything(self) -> Expressions:
        """Every expression once, for spaces of at most `ENUMERABLE` expressions."""
        assert self.size <= ENUMERABLE
        code = np.arange(self.size)
        radix = [self.modulus] * self.leaves + [len(self.operators)] * (self.leaves - 1)
        digits: list[Ints] = []
        for base in radix:
            code, digit = np.divmod(code, base)
            digits.append(digit)
        columns = np.stack(digits, 1)
        return self._build(columns[:, : self.leaves], columns[:, self.leaves :])

    def _build(self, leaves: Ints, choice: Ints) -> Expressions:
        """The expressions with these leaves [n, L] and operator indices [n, S], built upwards level by level."""
        symbols = np.frombuffer(self.operators.encode(), np.uint8)[choice]  # [n, S]
        values, texts = leaves, [_digit(leaves[:, i]) for i in range(self.leaves)]
        statements: list[Bytes] = []
        results: list[Ints] = []
        while len(texts) > 1:
            joined: list[Bytes] = []
            for i in range(0, len(texts), 2):
                part = len(results)
                x, y, op = values[:, i], values[:, i + 1], symbols[:, part]
                value, label = self._apply(op, x, y), self.labels[part]
                joined.append(_join("" if label == "r" else label, "(", texts[i], op[:, None], texts[i + 1], ")"))
                statements.append(_join(label, _digit(x), op[:, None], _digit(y), "=", _digit(value), ";"))
                results.append(value)
            values, texts = np.stack(results[-len(joined) :], 1), joined
        return Expressions(texts[0], np.stack(statements, 1), np.stack(results, 1))

    def _apply(self, op: Bytes, x: Ints, y: Ints) -> Ints:
        """Elementwise x op y, all [n]."""
        if self.kind == "boolean":
            return np.select([op == ord("&"), op == ord("|")], [x & y, x | y], x ^ y)
        return np.select([op == ord("+"), op == ord("*")], [x + y, x * y], x - y) % self.modulus


def _joins(depth: int, live: int) -> Iterator[int]:
    """Numbers of the parts whose left side holds one of the first `live` bottom parts, and whose right side none."""
    number = 2 ** (depth - 1)  # The number of the first part above the bottom level.
    for level in range(1, depth):
        width = 2**level  # The number of bottom parts below each part of this level.
        for first in range(0, 2 ** (depth - 1), width):
            if first < live <= first + width // 2:
                yield number
            number += 1


def splits_of(text: Bytes) -> npt.NDArray[np.int64]:
    """The split of each expression [n, C], as an index into `SPLITS` [n], by the FNV-1a hash of its text."""
    state = np.full(len(text), 0xCBF29CE484222325, np.uint64)
    for column in text.T:
        state = (state ^ column.astype(np.uint64)) * np.uint64(0x100000001B3)
    percent = ((state >> np.uint64(32)) % np.uint64(100)).astype(np.int64)
    return np.select([percent < _TEST_PERCENT, percent < _TEST_PERCENT + _VALIDATION_PERCENT], [2, 1], 0)


def _digit(value: Ints) -> Bytes:
    """The characters [n, 1] of numbers 0 … 9 [n]."""
    return (value + ord("0")).astype(np.uint8)[:, None]


def _join(*parts: Bytes | str) -> Bytes:
    """Columns of characters side by side [n, C]; a string is repeated in every row."""
    n = next(len(part) for part in parts if not isinstance(part, str))
    repeat = lambda text: np.broadcast_to(np.frombuffer(text.encode(), np.uint8), (n, len(text)))
    return np.concatenate([repeat(part) if isinstance(part, str) else part for part in parts], 1)
