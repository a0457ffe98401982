"""The words of an answer: without what is put around them, and as they stand in a longer reply."""

import re
import unicodedata

from neuromas.tasks.parsing import TOLD, WIDE, corrected, denied

_TYPED = {ord("’"): "'", ord("‘"): "'", ord("“"): '"', ord("”"): '"', ord("−"): "-"}  # as keyboards have them
_TYPED |= {0x2080 + digit: str(digit) for digit in range(10)}  # CO₂
_LEAD = re.compile(
    rf"\A(?:\#{{1,6}}\s(?:(?:final\s)?answer:?\s)?|(?:[-=]?>|→)\s|[-•]\s(?![0-9.])|\W{{0,4}}(?:so|thus|therefore)?,?\s?(?:the\s|my\s)?(?:final\s|correct\s|right\s)?{TOLD}|\#{{4}}\s?)",
    re.IGNORECASE,
)
_PAIRS = (
    *(("**", "**"), ("\\(", "\\)"), ("$", "$"), ("_", "_"), ("(", ")"), ("[", "]"), ("{", "}")),
    *(("\\boxed{", "}"), ("\\text{", "}"), ("<answer>", "</answer>")),
)
_FENCED = re.compile(r"\s*(?P<fence>`{3,9}|~{3,9})\w*[ ]?\n(?P<inside>[^`~]*)(?P=fence)\s*")
_EDGES = " .,;:!?\"'`*«»「」『』„✅☑✔✓👉"


def bare(text: str) -> str:
    """The words of an answer without what is put around it: marks, quotes, brackets, \\boxed{…}, "The answer is".

    '**"Rome"**.' → "rome"; "It is Rome" → "it is rome".
    """
    fenced = _FENCED.fullmatch(text)
    words = _trimmed(_typed(fenced["inside"] if fenced else text))
    for _ in range(8):
        lead = _LEAD.match(words)
        inner = words[lead.end() :] if lead else words
        for left, right in _PAIRS:
            if inner.startswith(left) and inner.endswith(right) and len(inner) > len(left + right):
                inner = inner[len(left) : -len(right)]
        inner = _trimmed(inner)
        if inner == words or not inner:
            break
        words = inner
    return words


def normalise(text: str) -> str:
    """The words of a text, whatever their case and spacing. Two questions with equal words are the same."""
    return " ".join(text.casefold().split())


def _typed(text: str) -> str:
    """The words of a text as `normalise` gives them, with one form of each character, quote and minus sign."""
    one = unicodedata.normalize("NFC", text).translate(WIDE | _TYPED)
    return normalise(re.sub(r"\\(?=[%$&#])", "", re.sub("(?<=[0-9])–(?=[0-9])", "-", one)))


def _trimmed(text: str) -> str:
    """The text without marks at its ends; the point of ".5" is none."""
    words = text.strip(_EDGES)
    pointed = words[:1].isdigit() and text[: text.find(words)].endswith(".")
    return f".{words}" if pointed else words


def contains(text: str, gold: str) -> bool:
    """True where the gold answer stands in a text as words of their own, and is not rejected there.

    "Rome" stands in "The capital is **Rome**, in Italy." and in "Rome's walls", not in "Jerome" or "not Rome"; "5" does
    not stand in "5.5" or "-5".
    """
    words = re.sub(r"(?<!\w)(?:_|\*\*)|(?:_|\*\*)(?!\w)", "", _typed(corrected(text)))
    wanted = bare(gold)
    before = r"(?<!\w)(?<!\w-)" + (r"(?<![0-9][.,:/])(?<![-−.^])" if wanted[:1].isdigit() else "")
    behind = r"(?!-?\w)(?!['’](?!s\b)\w)(?!\+\+|#)" + (r"(?![.,:/][0-9])" if wanted[-1:].isdigit() else "")
    hits = re.finditer(before + re.escape(wanted) + behind, words)
    return any(not denied(words, hit.start(), hit.end()) for hit in hits)
