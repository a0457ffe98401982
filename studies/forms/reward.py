"""The reward of words.toml: the last number in words of a reply counts, so thinking aloud before it costs nothing."""

import re

from neuromas import Grade, Question

_UNITS = "one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_HUNDREDS = "hundred.*"  # with all that follows: "one hundred fifteen" is not fifteen
_NUMBER = re.compile(rf"\b(?:(?:{_TENS})(?:[- ](?:{_UNITS}))?|{_TEENS}|{_UNITS}|{_HUNDREDS})(?!\w)")


def score(question: Question, reply: str) -> Grade:
    """1 where the last number in words is the right one."""
    found = [match.group().replace(" ", "-") for match in _NUMBER.finditer(reply.lower())]
    parsed = found[-1] if found else None
    return Grade(float(parsed == question.answer), parsed)
