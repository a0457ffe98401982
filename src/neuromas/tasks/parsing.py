"""Reads a letter, a yes or no, or a number out of a reply.

In all of them the first commitment counts, and later words cannot take it back. Nothing here raises, and every pattern
is linear in the length of the text.
"""

import re
from functools import lru_cache

LETTERS = "ABCDEFGHIJ"

_YES_NO = re.compile(r"(?<![\w-])(yes|no)(?![\w'’-])", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![A-Za-z0-9])(?<![0-9]\.)[-+−]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
_OPENING = " \t\r\n*_`\"'“‘([{<#>-:.$"  # These characters may precede a letter at the start of a reply.


def without_prefix(text: str, prefix: str) -> str:
    """The text without leading white space, and without the answer prefix where it begins with that."""
    return text.lstrip().removeprefix(prefix)


def letter(text: str, letters: str) -> str | None:
    """The option letter a reply commits to, one of `letters` ("ABCD"), or None.

    Tried in this order, the first hit counts:

    1. a letter at the start: "B", "B.", "(B)", "**B**", "B: because", "Option B", "b)"
    2. a letter after "answer is" or "answer:": "I think the answer is (B)"
    3. a letter that is marked anywhere: "option B", "(B)", "**B**", "\\boxed{B}"

    A capital counts only as a word of its own that no lowercase word follows ("A dog …" is no answer, "A is right"
    is one); a small letter only where a bracket, a stop, or the end follows it.
    """
    start, stated, marked = _letter_patterns(letters)
    reply = text.strip()
    hit = start.match(reply.lstrip(_OPENING)) or stated.search(reply) or marked.search(reply)
    return next(group for group in hit.groups() if group).upper() if hit else None


@lru_cache
def _letter_patterns(letters: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    word = rf"([{letters}])(?![\w/-])(?!['’.]\w)"
    capital = rf"{word}(?![ \t]{{1,4}}(?!(?:is|because|since)\b)[a-z])"
    small = rf"([{letters.lower()}])(?!\.\w)(?=[).:,\]}}*]|\Z)"
    one = f"(?:{capital}|{small})"
    opening = r"[\s:*_\"'`(\[{$]{0,8}(?:\\[a-z]{1,8}\{){0,2}"
    start = re.compile(rf"(?:(?i:option|choice|answer){opening})?(?:\\[a-z]{{1,8}}\{{)?{one}")
    stated = re.compile(
        rf"\b(?i:answer)[*_]{{0,3}}(?:\s{{1,4}}(?i:is)|\s{{0,4}}:){opening}(?i:option\s|choice\s)?\(?{one}"
    )
    group, bare = f"([{letters}])", f"[{letters}]"
    marked = re.compile(
        rf"\b(?i:option|choice)\s{{1,4}}\(?{word}|\({group}\)|\*\*\(?{group}[).:]{{0,2}}\*\*"
        rf"|\\boxed\{{(?:\\[a-z]{{1,8}}\{{)?({bare})\}}"
    )
    return start, stated, marked


def yes_no(text: str) -> str | None:
    """ "Yes" or "No", whichever stands first as a word of its own, in any case; None without either."""
    hit = _YES_NO.search(text)
    if hit is None:
        return None
    return "Yes" if hit[1][0] in "yY" else "No"


def number(text: str) -> str | None:
    """The first number, written canonically ("+1,020.00" → "1020"), or None."""
    hit = _NUMBER.search(text)
    return canonical(hit[0]) if hit else None


def canonical(digits: str) -> str:
    """A number without plus sign, thousands commas, leading zeros, and zeros after the point; of any length."""
    plain = digits.replace("−", "-").replace(",", "").lstrip("+")
    sign, plain = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
    whole, _, fraction = plain.partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return value if value == "0" else sign + value
