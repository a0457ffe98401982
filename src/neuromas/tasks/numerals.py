"""The final number of a worked solution, and the equality of two numbers, by `math-verify`.

`math-verify` evaluates what it is given, and its time limits use signals, which work in the main thread only. So it is
given nothing but a numeral that was cut out here: digits, separators, a sign, one fraction bar. That needs no time
limit, and is the same in every thread and process.
"""

import logging
import re
from functools import lru_cache
from typing import Any

from neuromas.errors import require
from neuromas.tasks import parsing

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}|[0-9]{1,40})"
_SIGN = r"(?<![A-Za-z0-9])(?<![0-9]\.)(?:(?<![0-9A-Za-z)])[-+−]\$?)?"
_PLAIN = rf"{_SIGN}{_DIGITS}(?:\.[0-9]{{1,40}})?(?![0-9]|[eE][+-]?[0-9])"
_NUMERAL = re.compile(
    rf"(?P<plain>{_PLAIN})(?:[ ]?/[ ]?(?P<below>[0-9]{{1,40}})(?![0-9/]))?"
    r"|(?P<sign>-?)\\[dt]?frac\{(?P<top>-?[0-9]{1,40})\}\{(?P<bottom>[0-9]{1,40})\}"
)
_MARK = re.compile(r"####")
_BOXED = re.compile(r"\\boxed\{")
_STATED = re.compile(r"\banswer(?:[*_]{0,3}\s{0,3}:|\s{1,4}is\b)", re.IGNORECASE)
_NEAR = 60  # The number must begin within this many characters behind a marker.


def final(text: str) -> str | None:
    """The number a solution ends with: digits with an optional sign, point, or fraction bar; None without one.

    The first of these that has a number counts: the first "####"; the last \\boxed{…}; the last "answer is" or
    "answer:" (for each, the first number on the rest of its line); the last number of all.
    """
    for marker in (_MARK, _BOXED, _STATED):
        hits = list(marker.finditer(text))
        if not hits:
            continue
        end = hits[0 if marker is _MARK else -1].end()
        line = text[end : end + 3 * _NEAR].split("\n", 1)[0]
        number = _NUMERAL.search(line)
        if number and number.start() <= _NEAR:
            return _canonical(number)
    numbers = list(_NUMERAL.finditer(text))
    return _canonical(numbers[-1]) if numbers else None


def _canonical(hit: re.Match[str]) -> str:
    if hit["top"] is not None:
        top = hit["top"][1:] if hit["sign"] and hit["top"].startswith("-") else hit["sign"] + hit["top"]
        return f"{parsing.canonical(top)}/{parsing.canonical(hit['bottom'])}"
    plain = parsing.canonical(hit["plain"].replace("$", ""))
    return plain if hit["below"] is None else f"{plain}/{parsing.canonical(hit['below'])}"


def equal(gold: str, answer: str) -> bool:
    """True where two numbers from `final` are equal, as "0.5" and "1/2" are. Raises TaskError without the package."""
    return bool(_library().verify(_value(gold), _value(answer), timeout_seconds=None))


@lru_cache(maxsize=4096)
def _value(numeral: str) -> Any:
    math_verify = _library()
    return math_verify.parse(numeral, [math_verify.ExprExtractionConfig()], parsing_timeout=None)


@lru_cache(maxsize=1)
def _library() -> Any:
    math_verify = require("math_verify", "comparing numbers", "pip install -e '.[math]'")
    for part in ("parser", "grader"):  # They warn at each call that no time limit is set.
        logging.getLogger(f"math_verify.{part}").setLevel(logging.CRITICAL)
    return math_verify
