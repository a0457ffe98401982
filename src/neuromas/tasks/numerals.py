"""The number that a reply or a gold answer states, and the equality of two numbers.

A number is a numeral of digits, with an optional sign, separators of thousands ("1,234", "1 234", "1{,}234"), point,
fraction bar, exponent ("1.5e3", "4 × 10^-7") or word of scale ("3 million"), also a mixed number ("3 1/2", "2½"), in
plain text or LaTeX. What stands around it (currency, percent, a unit) is not looked at. Roots, powers, times of day and
sums are no numerals: nothing is computed. Lengths are bounded, so that no reply is costly.
"""

import re
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from itertools import islice

from neuromas.tasks.parsing import STATED, WIDE, corrected, denied, items
from neuromas.tasks.spelling import uniform

TOLERANCE = Fraction(1, 10**9)  # Relative, for numbers of 15 and more digits with a point, as rounded floats have.

_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3}){1,12}|[0-9]{1,3}(?:[ '’_][0-9]{3}){1,12}|[0-9]{1,2}(?:,[0-9]{2}){1,9},[0-9]{3}"
_EXPONENT = r"(?:[eE](?P<e>[+-]?[0-9]{1,3})|\s?[*x]\s?10\^[{(]?\s?(?P<times>[+-]?[0-9]{1,3})\s?[})]?)"
_POWERS = ("hundred", "thousand", "million", "billion", "trillion")
_SCALES: dict[str, int] = dict(zip(_POWERS, (2, 3, 6, 9, 12), strict=True))
NUMERAL = re.compile(
    r"(?<![A-Za-z0-9_^{/√±])(?<!\^[{(-])(?<![0-9][.,:])(?<!\w[-+])(?<!\{-)(?<!√\()(?<!sqrt\()"
    r"(?P<sign>(?:(?<![\w)\]}%°])[+-])?)(?:"
    rf"10\^[{{(]?\s?(?P<ten>[+-]?[0-9]{{1,3}})\s?[}})]?"
    r"|(?P<whole>[0-9]{1,40})(?:\s|\sand\s)(?P<part>[0-9]{1,40})/(?P<parts>[0-9]{1,40})"
    r"|(?P<continental>[0-9]{1,3}(?:[. ][0-9]{3}){1,12},[0-9]{1,40})"
    rf"|(?P<plain>(?:{_GROUPED}|[0-9]{{1,40}})(?:\.[0-9]{{1,40}})?|\.[0-9]{{1,40}}){_EXPONENT}?"
    rf"(?:\s?/\s?(?P<below>[0-9]{{1,40}})(?![0-9]|\.[0-9]))?(?:\s(?P<scale>{'|'.join(_POWERS)})\b)?)"
    r"(?![0-9]|[eEx][+-]?[0-9]|[.,:/][0-9])(?P<more>\s?(?:\\?sqrt|√|\\?pi\b|π|\^|\\frac|\.?\\(?:overline|bar|dot)\b)|[kMB]\b|\sdozen\b)?"
)

# -- what may stand around a gold answer --
_NO_UNIT = r"or|and|to|of|in|minus|plus|times|not|none|if|is|are|than|more|less|[nxyz]"
_WORD = (
    rf"(?!(?:{_NO_UNIT})\b)[A-Za-z°%µμΩ€£¥¢‰/]"
    r"[\w°%²³/.'’-]*(?:\^\{?-?[0-9]\}?[\w/]*)*"
)
_UNIT = re.compile(rf"\s*[(\[]?(?:%|°|\s*{_WORD}){{0,4}}[\s.)\]}}$]*")
_UNIT_BEFORE = re.compile(r"[\s({\[$]*(?:[A-Za-z]\s?=\s?|=\s?|≈\s?|USD\s?|EUR\s?|GBP\s?|Rs\.?\s?)?")

# -- where a reply states its number --
_MARK = re.compile(r"####")
_BOXED = re.compile(r"\\f?box(?:ed)?\s?\{")
_STATED = re.compile(STATED)
_EXPLAINS = re.compile(
    r"\n\s{0,9}[*_#]{0,4}\s?(?:explanation|reasoning|rationale|justification|working|note|because|steps?)\b",
    re.IGNORECASE,
)
_RUN_ON = re.compile(r"\s{0,9}\n\s{0,9}(?==)")
_CLAUSE = re.compile(
    r"[.!?][)*_\"']{0,3}\s+(?=[A-Z(\\*])|\n|</|[,;]?\s(?=(?:because|since|as|where|but|for|given)\s)"
    r"|,\s(?=(?:not|rather|instead)\s)|(?<=\w)\s\((?!or\b|and\b)(?=[^)]{0,80}[A-Za-z])"
)
_LINK = re.compile(
    r"(?:=|≈|≃|→|\\approx|\\implies|\b(?:is|are|be|equals|gives|makes|leaves|rounds\s(?:up\s|down\s)?to|i\.e\.|thus|so|therefore|or\sjust)\b)[,:\s]{0,3}"
    r"(?:(?:about|approximately|exactly|just|only)\s)?\Z"
)
# "is 0.25 (25%)": what stands in brackets says the same once more.
_ASIDE = re.compile(r"((?:=|≈|\b(?:is|are|equals))\s{0,3}-?[0-9][0-9.,/]{0,20}[%°]?)\s?\((?!or\b|and\b)[^()\n]{0,80}\)")
_RESULT = re.compile(r"(?:=|≈|→)\s{0,3}\Z")
_OPERATOR, _JOINT = (
    r"(?:[+*/^-]|\bx\b|\b(?:plus|minus|times|divided by)\b)",
    r"(?:,|;|:|&|\||,?\s?\b(?:or|oder)\b(?:\s(?:maybe|perhaps|possibly)\b)?|\band\b|\bund\b|\bto\b)",
)
_PART_BEHIND = re.compile(
    rf"\s{{0,3}}{_OPERATOR}\s{{0,3}}(?:[(√\\]|\.?[0-9])|\s{{0,3}}\(?{_JOINT}\s{{0,3}}-?\.?[0-9]"
    r"|(?:\s?[%°]|\s[a-z]{1,20})\sor\s-?\.?[0-9]|\s[<>]\s"
)
_JOINED = re.compile(rf"\s{{0,3}}(?:[%°]|[A-Za-z]{{1,20}})?\s{{0,3}}\(?{_JOINT}\s{{0,3}}-?\.?[0-9]")
_PART_BEFORE = re.compile(
    rf"[0-9)}}%]\s{{0,3}}{_OPERATOR}\s{{0,3}}\(?\Z|[0-9][%°]?\s{{0,3}}\(?{_JOINT}\s{{0,3}}\Z"
    r"|[0-9]\s[a-z]{1,20}\sor\s\Z|\bout of\s\Z"
    r"|(?:(?<![<\w/])[A-Za-z]\s?[<>]|≠|\\(?:neq?|gt|lt)\b)\s?\Z"
)


def final(text: str, prefix: str = "") -> str | None:
    """The number that a solution ends with, in canonical form ("1020", "-4.5", "3/4"); None without one.

    The first of these that states a number counts:

    1. the line behind the first "####"; the last \\boxed{…}; the last "answer is", "Answer:" or <answer>; where the
       answer prefix ends so, the first line
    2. a number alone, before an explanation of it ("12\\n\\nExplanation: …")
    3. the last sentence with a number

    Of a line that is committed to, it is the number behind the last "=" or "is" ("#### 5 + 3 = 8" → 8), else the first
    ("The answer is 72 clips, 48 in April" → 72). Of other sentences it is the one behind the last "=", else behind the
    last "is", else the last ("She has 21 - 7 = 14 left after 7 days." → 14). No number is a part of a sum, a list, a
    range, an inequality or a time ("Answer: 5 + 3", "5 or 6", "x = 5 or x = 6", "2 h 30 min", or 5 and 6 on two lines),
    nor one that is rejected ("not 5"). "3/4 (or 0.75)" is one.
    """
    text = corrected(text)
    if not prefix and _listed(text):
        return None
    if prefix and _STATED.search(prefix.rstrip() + " "):
        line = next((line for line in text.split("\n") if line.strip()), "")
        if found := final(line) if _marked(line) else _committed(uniform(_line(text[:2000]))):
            return found
    for stretch in _marked(text):
        numbers = NUMERAL.search(plain := uniform(stretch))
        if numbers:
            return _committed(plain)
    explains = _EXPLAINS.search(text, 0, 200)
    if explains:
        with suppress(ValueError):
            return only(text[: explains.start()])
    for sentence in reversed(_CLAUSE.split(_ASIDE.sub(r"\1", uniform(text[-4000:])))):
        hits = list(NUMERAL.finditer(sentence))
        if hits and not sentence.startswith(("not ", "rather ", "instead ")):
            links = [hit for hit in reversed(hits) if _LINK.search(sentence[max(0, hit.start() - 60) : hit.start()])]
            results = [hit for hit in links if _RESULT.search(sentence[max(0, hit.start() - 60) : hit.start()])]
            last = hits[-1]
            ordered = (last, *results, *links, *hits) if last in links else (*results, *links, last, *hits)
            return next((_canonical(hit) for hit in ordered if _alone(hit)), None)
    return None


def several(text: str, prefix: str = "") -> bool:
    """True where a reply commits to several numbers at once, so that `final` reads none.

    "5 or 6" → True. "Answer: 3, 4" → True. "5" → False. "Answer: 5 + 3" → False. "none" → False.
    """
    if final(text, prefix) is not None:
        return False
    text = corrected(text)
    if _listed(text):
        return True
    clauses = (uniform(part) for part in (*_marked(text), *reversed(_CLAUSE.split(text[-4000:]))))
    plain = next((part for part in clauses if NUMERAL.search(part)), "")
    return any(_JOINED.match(plain, hit.end()) for hit in NUMERAL.finditer(plain))


def _listed(text: str) -> bool:
    """True for a reply of nothing but different numbers, one a line."""
    if len(text) > 400 or "\n" not in text:
        return False
    hits = [NUMERAL.fullmatch(item) for item in items(uniform(text))]
    return all(hits) and len({_canonical(hit) for hit in hits if hit}) > 1


def committed(text: str) -> str:
    """The clause that states the answer, with the marks around it; "" in an empty text.

    It is that of the line behind "####", of the last \\boxed{…}, of what is stated last, or else of the last line.
    """
    text = corrected(text)[-4000:]
    lines = [line for line in text.split("\n") if line.strip()]
    stretch = lines[-1] if lines else ""
    if hits := list(_MARK.finditer(text)):
        stretch = _line(text[hits[0].end() :])
    elif hits := list(_BOXED.finditer(text)):
        stretch = _braced(text, hits[-1].end())
    elif hits := list(_STATED.finditer(text)):
        opens = re.search(r"[$\\(\[{]", hits[-1][0])  # the marks before an answer are a part of the pattern
        stretch = _line(text[hits[-1].start() + opens.start() if opens else hits[-1].end() :])
    return next((part for part in _CLAUSE.split(stretch) if part.strip()), "").strip()


def only(text: str) -> str:
    """The number that a gold answer is, in canonical form.

    A unit, currency or percent may stand around it, a solution that ends with "#### 72" or \\boxed{72} before it.
    Raises ValueError where it is no number, or more than one ("12:30", "(3, 4)", "2\\sqrt{3}", "1/0").
    """
    text = text.translate(WIDE)
    boxes = [_braced(text, hit.end()) for hit in islice(_BOXED.finditer(text), 2)]
    stated = text.rpartition("####")[2] if "####" in text else boxes[0] if len(boxes) == 1 else text
    plain = uniform(stated.strip()).strip().rstrip(".")
    hit = NUMERAL.search(plain)
    alone = hit and _UNIT_BEFORE.fullmatch(plain[: hit.start()]) and _UNIT.fullmatch(plain[hit.end() :])
    found = _canonical(hit) if hit and alone else None
    if found is None:
        raise ValueError("no single number")
    return found


def of(value: int | float | Decimal) -> str:
    """A number of a table by its value: 1e-05 → "0.00001". Raises ValueError where it is not finite."""
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise ValueError("not finite")
    return canonical(f"{exact:f}")


def equal(gold: str, answer: str) -> bool:
    """True where two numbers from `final` or `only` are equal, as "0.5" and "1/2" are.

    They are compared exactly: 0.0000004 is not 0.0000001, and 1/3 is not 0.333333. Only where one of them has 15 or
    more digits and a point, as a rounded float has, they may differ by a relative `TOLERANCE`.
    """
    try:
        one, other = (
            Fraction(top) / Fraction(bottom or 1) for top, _, bottom in (gold.partition("/"), answer.partition("/"))
        )
    except (ValueError, ZeroDivisionError):
        return False
    if any("." in text and len(text.strip("-0.").replace(".", "")) >= 15 for text in (gold, answer)):
        return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))
    return one == other


def canonical(digits: str) -> str:
    """A number without plus sign, separators, leading zeros, and zeros after the point; of any length."""
    plain = re.sub(r"[ ,'’_]", "", digits.replace("−", "-")).lstrip("+")
    sign, plain = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
    whole, _, fraction = plain.partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return value if value == "0" else sign + value


def _marked(text: str) -> list[str]:
    """The short stretches of a reply that it marks as its answer, those with stronger marks first."""
    found: list[str] = []
    for marker, which in ((_MARK, 0), (_BOXED, -1), (_STATED, -1)):
        if hits := list(marker.finditer(text)):
            end = hits[which].end()
            found.append(_braced(text, end) if marker is _BOXED else _line(text[end : end + 400]))
    return found


def _line(text: str) -> str:
    """The first line with something in it; a line that begins with "=" goes on with the one before."""
    return _RUN_ON.sub(" ", text.strip()).split("\n", 1)[0]


def _braced(text: str, start: int) -> str:
    """The text up to the brace that closes the one before `start`, at most 200 characters."""
    depth = 1
    for place in range(start, min(len(text), start + 200)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start : start + 200].split("\n", 1)[0]


def _committed(plain: str) -> str | None:
    """The number of a line that a reply commits to."""
    clauses = ((part, list(NUMERAL.finditer(part))) for part in _CLAUSE.split(plain) if part)
    said = ((part, hits) for part, hits in clauses if any(not denied(part, *hit.span()) for hit in hits))
    clause, hits = next(said, ("", []))
    linked = [hit for hit in reversed(hits) if _LINK.search(clause[: hit.start()])]
    return next((_canonical(hit) for hit in (*linked, *hits[:1]) if _alone(hit)), None)


def _alone(hit: re.Match[str]) -> bool:
    """True for a number that is no part of a sum, a list or a range, and not rejected."""
    before, text, end = hit.string[max(0, hit.start() - 40) : hit.start()], hit.string, hit.end()
    behind = _PART_BEHIND.match(text, end)
    part = (behind and not _repeated(hit, behind)) or _PART_BEFORE.search(before) or hit["more"]
    minus = hit["sign"] and before.rstrip()[-1:].isdigit()
    return not (part or minus or denied(text, hit.start(), end))


def _repeated(hit: re.Match[str], behind: re.Match[str]) -> bool:
    """True where what is offered with a number is the same number: "3/4 (or 0.75)"."""
    other = NUMERAL.search(hit.string, hit.end()) if re.search(r"\bor\b", behind[0]) else None
    return other is not None and equal(_canonical(hit) or "", _canonical(other) or "")


def _canonical(hit: re.Match[str]) -> str | None:
    """The canonical form of a numeral; None for a fraction without end and for what is no plain number."""
    sign = hit["sign"]
    if hit["more"]:
        return None
    if hit["ten"]:
        return of(Decimal(f"{sign}1e{hit['ten']}"))
    if hit["whole"]:
        below = int(hit["parts"])
        return f"{sign.strip('+')}{int(hit['whole']) * below + int(hit['part'])}/{below}" if below else None
    if hit["continental"]:
        return canonical(sign + re.sub("[. ]", "", hit["continental"]).replace(",", "."))
    shift = int(hit["e"] or hit["times"] or 0) + (_SCALES[hit["scale"]] if hit["scale"] else 0)
    value = canonical(sign + hit["plain"])
    value = of(Decimal(f"{value}e{shift}")) if shift else value
    if hit["below"] is None:
        return value
    return f"{value}/{canonical(hit['below'])}" if int(hit["below"]) else None
