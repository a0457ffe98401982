"""Guards the scorers of reasoning-gym: a reply is untrusted, and some of them evaluate it."""

import inspect
import re
from functools import lru_cache
from typing import Any

_FUNCTIONS = set("sin cos tan asin acos atan sinh cosh tanh exp log ln sqrt Abs pi".split())
_FORMULA = re.compile(r"[0-9A-Za-z+\-*/^(). \n]{1,500}")
_HEAVY = re.compile(r"\.[A-Za-z]|[0-9][eEjJ][0-9+-]|[0-9]{13}")
_POWER = re.compile(r"\*\*|\^")
_EXPONENT = (
    r"(?:\*\*|\^) ?(?:-?[0-9]{1,2}(?![0-9.])|[A-Za-z]|\( ?-?[0-9]{1,2} ?(?:/ ?[0-9]{1,2} ?)?\))(?! ?(?:\*\*|\^))"
)
_LISTING = re.compile(r"(?!.*(?:\bfor\b|\blambda\b|\.[A-Za-z]|__))[^()*={}:%&|<>~@^/+\\]{1,5000}", re.DOTALL)
_HUGE_NUMBER = re.compile(r"[0-9.]_?[eE][-+]?[0-9_]{4}")


def may_score(scorer: Any, reply: str) -> bool:
    """True where a reply may be given to a data set's `score_answer`.

    Several of them pass the reply to `eval`, or to sympy's `parse_expr`, which evaluates Python as well. They get
    lists without calls, operators and loops, and formulas of plain numbers, single letters and known functions,
    with small exponents, so that no reply can run code or keep the machine busy.
    """
    if len(reply) > 20_000 or _HUGE_NUMBER.search(reply):
        return False
    code = _scorer_code(scorer.__class__)
    if "parse_expr(" in code:
        return _is_plain_formula(reply)
    return "eval(" not in code or bool(_LISTING.fullmatch(reply))


def _is_plain_formula(reply: str) -> bool:
    powers = len(_POWER.findall(reply))
    return (
        bool(_FORMULA.fullmatch(reply))
        and not _HEAVY.search(reply)
        and set(re.findall(r"[A-Za-z]{2,}", reply)) <= _FUNCTIONS
        and powers == len(re.findall(_EXPONENT, reply))
        and len(re.findall(r"\) ?(?:\*\*|\^)", reply)) <= 2
    )


@lru_cache
def _scorer_code(kind: Any) -> str:
    return inspect.getsource(kind.score_answer)
