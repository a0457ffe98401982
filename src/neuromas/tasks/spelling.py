"""One spelling of numbers for what can be written in many ways: signs, fractions, powers, currencies, LaTeX."""

import re
import unicodedata

_LONG, _TOP_BELOW = "[0-9]{1,40}", r" \1\3\2\4/\5\6"
_UNITS = r"(?:year|month|week|day|hour|hr|h|minute|min|feet|foot|ft|pound|lb|dollar|kilogram|kg|meter|metre|m|km)s?"
_SMALLER = r"(?:month|week|day|hour|hr|minute|min|second|sec|inche?|ounce|oz|cent|gram|g|cm|m)s?"
_OF_TWO_UNITS = rf"\b([0-9]{{1,9}})\s?{_UNITS}(?:,|,?\sand)?\s([0-9]{{1,9}})\s?{_SMALLER}\b"
_SPELLINGS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), spelling)
    for pattern, spelling in (
        (r"[−‐‑‒–﹣-]|(?<!\S)—(?=[0-9.])", "-"),
        ("[\u00a0\u2007\u2009\u202f]", " "),
        (r"\{,\}|,\\!|\{\\,\}", ","),
        (r"\\(?=[%$€£#&_])|\\(?:left|right|displaystyle|!|[()\[\]])", ""),
        (r"\\(?:[,;: ]|q?quad\b)|~", " "),
        (r"\\(?:text|mathrm|textbf|mathbf|textit|operatorname|mbox)\s?\{([^{}]{0,60})\}", r"\1"),
        (r"(?<=[\w)])\*\*(?=[\w(-])", "^"),
        (r"\*\*|__|(?<!\S)[*_](?=\S)|(?<=\S)[*_](?!\S)|`", ""),
        (r"\\times|\\cdot|×|·", "*"),
        (r"\\div|÷", " / "),
        (r"(?<![\w)])-\s?\\[dtc]?frac\s?\{\s?-", r"\\frac{"),
        (rf"\\[dtc]?frac\s?(?:\{{\s?(-?)\s?({_LONG})\s?\}}|()([0-9]))\s?(?:{{\s?({_LONG})\s?\}}|([0-9]))", _TOP_BELOW),
        (r"(?<![\w)])([+-])\s?(?:US|C|A|R)?[$€£¥₹]\s?(?=[0-9.])", r"\1"),
        (r"\^\{?\s?\\circ\s?\}?|\\%|\\degree", "°"),
        (r"\b(?:US|C|A|R)?\$|[$€£¥₹]", " "),
        (_OF_TWO_UNITS, r"\1:\2"),  # as a time of day, which is no numeral either
        (r"(?<![\w)] )(?<![\w)])(?i:minus|negative)\s(?=[0-9.])", "-"),
        (r"(?:\A|(?<=[=:(#{>])|(?<=\bis)|(?<=\bof)|(?<=equals))(\s{0,3})-\s(?=[0-9.])", r"\1-"),
    )
]  # fmt: skip
# "x = 3 or x = 4", "x = 3, x = 4": two values of one unknown.
_VALUES = re.compile(
    r"\b([A-Za-z])(?:_\{?[0-9]\}?)?\s?=\s?-?[0-9.]{1,20}(?:/[0-9]{1,20}(?!\s?[,0-9]))?"
    r"(?:\s{0,3}(?:,?\s{1,3}(?:or|and)\s{1,3}|,\s{0,3})\1(?:_\{?[0-9]\}?)?\s?=\s?-?[0-9.]{1,20}(?![0-9/])){1,9}"
)
_SMALL = re.compile("[¼½¾⅐-⅞]")
_RAISED = re.compile("[⁺⁻⁰¹²³⁴-⁹]{1,9}")
_BULLETS = re.compile(r"^\s{0,9}[-*•]\s", re.MULTILINE)


def uniform(text: str) -> str:
    """The text with one spelling for what can be written in many ways: signs, fractions, powers, LaTeX."""
    text = _RAISED.sub(lambda hit: "^" + unicodedata.normalize("NFKC", hit[0]), text)
    text = _SMALL.sub(lambda hit: " " + unicodedata.normalize("NFKC", hit[0]).replace("⁄", "/"), text)
    text = text.replace("⁄", "/")
    if len(_BULLETS.findall(text)) > 1:
        text = _BULLETS.sub(" ", text)
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return _VALUES.sub(lambda hit: re.sub(r"(?<=.)[A-Za-z](?:_\{?[0-9]\}?)?\s?=\s?", "", hit[0]), text)
