"""Reads a letter, or a yes or no, out of a reply, as a careful person would.

What a model thinks aloud between marks such as `<think>` is not its answer. An answer that is stated ("the answer is
…") counts before one at the start, and of several stated ones the last. What is rejected ("not B", "B is wrong") is no
answer, and two answers at once are none. Nothing here raises, and every pattern is linear in the length of the text.
"""

import re
from functools import lru_cache

LETTERS = "ABCDEFGHIJ"

_NAME = r"(?:[a-z]{1,12}[:_])?(?:think|thinking|thoughts?|reason|reasoning|reflection|scratchpad|analysis)"
_THOUGHTS = re.compile(
    rf"(?P<closes></{_NAME}>|\[/think\]|◁/think▷|<\|end_of_thought\|>|<\|end_thinking\|>|<channel\|>"
    r"|<\|channel\|>final(?:<\|message\|>)?|assistantfinal)"
    rf"|<{_NAME}(?:\s[^<>\n]{{0,60}})?>|\[think\]|◁think▷|<\|begin_of_thought\|>|<\|start_thinking\|>"
    r"|<\|channel\|?>(?:analysis|thought)|\Aanalysis(?=(?-i:[A-Z]))",
    re.IGNORECASE,
)
_END_OF_TURN = re.compile(r"(?:</s>|<\|(?:im_end|eot_id|end|endoftext|end_of_text)\|>|<end_of_turn>)\s{0,9}\Z")
WIDE = {0xFF01 + place: 0x21 + place for place in range(94)} | {0x3000: 0x20}  # the full-width forms of ASCII
# "B. Wait, no: C" takes back what stands before it.
_TAKEN_BACK = re.compile(
    r"\b(?:(?:wait|hold\son|oops)[\s,.!…–—-]{1,4}(?:(?:no|that['’]s\s(?:wrong|not\sright))(?=\s{0,2}(?:[,.:;!…–—]|\Z))"
    r"|actually\b)|no[,.…–—]{1,3}\s?wait\b|scratch\sthat\b|correction(?=:))(?:[,.:;!…–—]{1,4}\s+|—|\s*)",
    re.IGNORECASE,
)
_NEXT_QUESTION = re.compile(r"\n\s{0,9}(?:Question|Q)(?:[ ]?[0-9]{1,4})?:")  # Base models write on with one.

# -- what leads to an answer, for every kind of it --
_JOINTS = r"and/or|and|or|und|oder|vs\.?|versus"
_OPENING = " \t\r\n*_`\"'“‘([{<#>-:.$✅☑✔✓👉"  # These characters may precede an answer.
_MARKS = r"[\s:*_\"'“‘`(\[{$]{0,8}(?:\\(?![dtc]?frac|sqrt)[a-z]{1,8}\{){0,2}"
_NOUN = (
    r"(?:(?:correct|right|best|final|my)_)?answer|ans|correct|solution|letter|verdict|final(?=:)"
    r"|(?:correct|right|best|final|my)[\s_](?:option|choice)"
    r"|antwort|lösung|richtig|ответ|(?:réponse|respuesta|resposta|risposta)(?:\s(?:correcte|correcta|correta|corretta))?"
)
_BE = r"is|ist|lautet|est|es|é|è|equals|(?:must|should|would|will|has\sto|seems\sto|appears\sto)\sbe"
_SURELY = r"(?:(?:therefore|thus|hence|then|so|clearly|definitely|probably|likely|simply|just|indeed)[,\s]{1,2})?"
_OF_WHAT = r"(?:\s(?:here|to\s[^.,:;?!\n]{1,40}?)(?=\s)|,\s(?:therefore|then|thus|hence|of\scourse),)?"
TOLD = (
    rf"(?<!\bif\sthe\s)\b(?i:{_NOUN})\b[*_\"')]{{0,3}}{_OF_WHAT}"
    rf"(?:(?:\s{{1,4}}(?i:{_BE})|['’]s)\b|\.?\s{{0,4}}(?::|=>?|->|→)|\s[-–—](?=\s)){_MARKS}(?i:{_SURELY}){_MARKS}"
)
_HEADING = r"(?m:^[#*_ ]{0,8}(?i:(?:final|correct)\sanswer|answer)[*_ ]{0,4}$)"
_EASTERN = r"(?<!不)(?:(?:答案|答え|正解|정답)\s?[是为:は은]|[选選][择擇]?(?!项))"
STATED = rf"(?:{TOLD}|(?:{_HEADING}|{_EASTERN}|<(?i:answer)>|\\boxed\{{|\#{{4}}){_MARKS})"
_PERHAPS = r"(?:(?:maybe|perhaps|possibly|even),?\s)?"
_OR_ELSE = re.compile(rf"(?:[.,]\s|\s)[Oo]r\s{_PERHAPS}(?:(?i:it|that)(?:['’]s|\sis)\s|(?:the\s)?{TOLD})?")
_BOX_OR_BOX = re.compile(
    r"\}{1,2}(?:\s?(?:\$|\\\)))?\s?(?:\\(?:text|mbox)\{\s?)?(,|,?\s?\b(?:or|and|oder|und)\b)\s?\}?\s?(?:\$|\\\()?\s?\\boxed\{(?:\\[a-z]{4,6}\{)?"
)
_LISTING = re.compile(r"[-*•\s(]{0,9}A[.):][^\n]{1,300}\n[-*•\s(]{0,9}B[.):]")  # the options once more
_LED = re.compile(rf"\W{{0,9}}(?:(?i:the|my)\s)?{STATED}")
_ITEM = re.compile(r"\A\s*(?:[-*•]|[0-9]{1,2}[.)])\s")
_NOT_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|rul(?:e|es|ed|ing)\sout|(?:eliminat|exclud|reject|discard)(?:e|es|ed|ing|s)?"
    r"|instead\sof|rather\sthan|other\sthan|unlike|except|(?:any|every)thing\sbut)|n['’]t)(?:\s(?:be|say|think|believe|that|a|an|the)){0,3}(?:\s(?:it|this)(?:['’]s|\sis))?"
    r"(?:\s(?:option|choice|answer|letter))?[\s(\"'“*]{1,4}\Z",
    re.IGNORECASE,
)
_WRONG = (
    r"(?:n['’]t\b|not\b|(?:\s\w{1,12}){0,2}?\s"
    r"(?:not|wrong|incorrect|false|impossible|unlikely|invalid|out|eliminated|excluded|rejected)\b)"
)
_OTHER = r"[(*_\"'“`]{0,3}(?:(?:option|choice)\s)?\w{1,20}[)*_\"'”`]{0,3}"
_OTHERS = rf"(?:(?:,\s{_OTHER}){{1,8}},?)?\s(?:and|or|nor|&)\s{_OTHER}"  # "A, B and D are wrong"
_NOT_BEHIND = re.compile(
    r"[)\]*_\"'”}]{0,4}"
    rf"(?:\s(?:is|was|seems|looks|can|could|must|should|would|does|(?<![0-9]\s)(?:are|were|do)){_WRONG}"
    rf"|{_OTHERS}\s(?:are|were|can|could|must|should|would|do|both){_WRONG}"
    r"|\s?[:–—-]\s?(?:wrong|incorrect)\b(?!,)|[.:]?\s?[✗✘❌×]|\?\s{1,3}\w)",
    re.IGNORECASE,
)


def conclusion(text: str) -> str:
    """The text behind the thoughts that a model marks as such; "" where they never end.

    "<think>A or B?</think> B" → " B"; "<think>A or B?" → "". Known are <think>, <thinking>, <thought>, <reasoning>,
    <analysis>, <reflection> and <scratchpad>, also with a prefix (<seed:think>), and the marks [THINK], ◁think▷,
    <|begin_of_thought|>, <|START_THINKING|> and the channels of gpt-oss and Gemma. A mark that ends a turn is left out.
    """
    start, open = 0, False
    for mark in _THOUGHTS.finditer(text):
        open = mark["closes"] is None
        start = start if open else mark.end()
    return "" if open else _END_OF_TURN.sub("", text[start:])


def without_prefix(text: str, prefix: str) -> str:
    """The conclusion without leading white space, and without the answer prefix where text or conclusion has it."""
    return conclusion(text.lstrip().removeprefix(prefix)).lstrip().removeprefix(prefix)


def one_question(text: str) -> str:
    """The text as `corrected`, up to where a model goes on with a next question of its own."""
    return corrected(_NEXT_QUESTION.split(text.strip(), maxsplit=1)[0])


def corrected(text: str) -> str:
    """The text, in ASCII where it has full-width forms, without what it takes back: "5. Wait, no: ６" → "6".

    Two answers that are offered together stand together: "It's 5. Or it's 6" → "It's 5 or 6".
    """
    text = _BOX_OR_BOX.sub(r" \1 ", _OR_ELSE.sub(" or ", text.translate(WIDE)))
    hits = list(_TAKEN_BACK.finditer(text))
    if not hits:
        return text
    behind = text[hits[-1].end() :]
    return behind if re.search(r"\w", behind) else text[hits[-1].start() :]


def items(reply: str) -> list[str]:
    """The lines of a reply without bullets and marks, and without what leads to them: "Answer:\n- A\n- B" → A, B."""
    led = _LED.match(reply)
    return [
        _ITEM.sub("", line).strip(" .,;:*_`\"'()[]{}$")
        for line in reply[led.end() if led else 0 :].split("\n")
        if line.strip()
    ]


def denied(text: str, start: int, end: int) -> bool:
    """True where what stands from `start` to `end` is rejected: "not B", "rule out B", "B is wrong"."""
    before = _NOT_BEFORE.search(text[max(0, start - 40) : start])
    return bool(before or _NOT_BEHIND.match(text, end, end + 60))


def letter(text: str, letters: str) -> str | None:
    """The option letter a reply commits to, one of `letters` ("ABCD"), or None.

    Tried in this order:

    1. the last letter that is stated: "The answer is (B)", "Ans: B", "the correct option must be B", "I choose B",
       "It is B", "B is correct", "<answer>B</answer>", "\\boxed{B}"
    2. a letter at the start: "B", "B.", "(B)", "**B**", "B: because", "Option B", "b)"
    3. the only letter that is marked anywhere: "option B", "(B)", "**B**"

    "(A) is wrong; (B) is right" → B. "B, C", "A or B" and "The answer is B and C" → None. A capital counts only as a
    word of its own that no lowercase word follows ("A dog …" is no answer, "A is right" is one); a small letter only
    where a bracket, a stop, or the end follows it.
    """
    said, alone = _said(text, letters)
    return said if alone else None


def two_letters(text: str, letters: str) -> bool:
    """True where a reply commits to several letters at once, so that `letter` reads none.

    "A or B", "A/B", "It could be either A or C" and "The answer is B and C" → True. "Option A falls, option B rises" →
    True. "B" → False. "I do not know" → False.
    """
    said, alone = _said(text, letters)
    reply = one_question(text)
    return (
        not alone
        if said
        else any(not denied(reply, at := pair.start(), at + 1) for pair in _joined(letters).finditer(reply))
    )


def _said(text: str, letters: str) -> tuple[str | None, bool]:
    """The letter of `letter`, and whether it stands alone."""
    stated, start, marked, more = _letter_patterns(letters)
    joined = _joined(letters)
    reply = one_question(text)
    listed = [item.upper() for item in items(reply)]
    if all(len(item) == 1 and item in letters for item in listed) and len(set(listed)) > 1:
        return listed[0], False

    def read(hit: re.Match[str]) -> tuple[str, bool] | None:
        """A letter and whether it stands alone; None for one that is rejected."""
        group = next(number for number, found in enumerate(hit.groups(), 1) if found)
        if denied(hit.string, hit.start(), hit.end(group)) or denied(hit.string, hit.start(group), hit.end(group)):
            return None
        pairs = joined.finditer(hit.string, max(0, hit.start(group) - 20), hit.end(group))
        behind_another = any(pair.end() == hit.end(group) for pair in pairs)
        return hit[group].upper(), not (behind_another or more.match(hit.string, hit.end(group)))

    begins = None if _LISTING.match(reply) else start.match(reply.lstrip(_OPENING))
    for hits in (stated.finditer(reply), filter(None, [begins])):
        if said := [found for hit in hits if (found := read(hit))]:
            return said[-1]
    said = sorted({found for hit in marked.finditer(reply) if (found := read(hit))})
    return (said[0][0], len(said) == 1 and said[0][1]) if said else (None, True)


@lru_cache
def _joined(letters: str) -> re.Pattern[str]:
    """Two letters, joined: "A/B", "(A) and (C)", "B or option C"."""
    marks, name = r"[()*\"'`]{0,3}", r"(?:(?i:option|choice)\s)?"
    joint = rf"\s?(?:/|&|\||\b(?:{_JOINTS})(?!\w))\s?"
    return re.compile(rf"(?<![\w'’/-])[{letters}]{marks}{joint}{marks}{name}{marks}[{letters}](?![\w'’-])")


@lru_cache
def _letter_patterns(letters: str) -> tuple[re.Pattern[str], ...]:
    word = rf"([{letters}])(?![\w-]|/(?!\(?[{letters}](?!\w)))(?!['’.]\w)"
    goes_on = rf"is|seems|looks|because|since|rather|instead|over|not|but|best|{_JOINTS}"
    capital = rf"{word}(?![ \t]{{1,4}}(?!(?:{goes_on})\b)[a-z])"
    small = rf"([{letters.lower()}])(?!\.\w)(?=[).:,\]}}*<]|\Z)"
    one = f"(?:{capital}|{small})"
    name = r"(?:(?i:the\sletter|(?:la\s)?op(?:tion|ción|ção)|choice|letter|la)[\s:]{1,2})?\(?[*\"'`]{0,3}"
    verbs = r"choose|chose|pick(?:ed)?|select(?:ed)?|go(?:ing)?\swith|went\swith|opt\sfor|vote\sfor|say|guess"
    verbs += r"|leav(?:es|ing)|lean(?:ing)?\stowards?"
    verbs += r"|(?:answers|(?:correct|right|best)\s(?:options|choices))(?:\sare|(?=:))"
    told = rf"\b(?i:{verbs}|(?:it|this|that)(?:['’]s|\s(?:{_BE})))\b[\s:*_\"'`(]{{1,4}}{name}{one}"
    ends = (
        rf"(?:\b(?i:so|therefore|thus|hence)[,:]?|[.!?])\s{{1,2}}(?:(?i:answer)\s)?{name}{capital}(?=[)*.!\s]{{0,5}}\Z)"
    )
    right = (
        rf"(?<![\w'’.-]){word}[)*\"'`]{{0,3}}(?:\s(?:is|was|are|seems|looks|(?:must|would|should)\sbe)\s(?:(?:the|a|both)\s)?"
        r"(?:most\s|only\s)?(?:answers?|correct|right|best)\b|\s?[:–—-]\s?(?i:correct|right)(?=[.,;!*]|\s*(?:\n|\Z))"
        r"|[.:]?\s?[✓✔✅]|\sbest\s[a-z]{2,12}s\b)"
    )
    stated = re.compile(f"{STATED}{name}{one}|{told}|{ends}|{right}")
    start = re.compile(rf"(?:(?i:option|choice|answer){_MARKS})?(?:\\[a-z]{{1,8}}\{{)?{one}")
    group = f"([{letters}])"
    marked = re.compile(rf"\b(?i:option|choice)\s{{1,4}}\(?{word}|\({group}\)|\*\*\(?{group}[).:]{{0,2}}\*\*")
    more = re.compile(
        r"[)\]*_\"'`}.]{0,4}(?:\s?\(?(?:,|;|/|\||&|\+|\b(?:" + _JOINTS + r")(?!\w))\s?|[ ])"
        r"(?:(?:and|or|maybe|perhaps|possibly|probably|also)\s){0,2}(?:(?i:option|choice)\s)?[(*\"'`]{0,3}"
        rf"(?:[{letters}](?![\w'’])(?!\s(?:is|was|would|has|could|can)\b|\)\s(?:is|was)\b|[ ][a-z])"
        rf"|[{letters.lower()}](?=[).,;]|\s?\Z))"
    )
    return stated, start, marked, more


_SAYS = re.compile(
    rf"{STATED}(?:a\s)?(?P<stated>yes|no|true|false)\b(?!['’-]\w)"
    r"|(?:\A|(?:\b(?:is|are)|['’]s)(?=n['’]t|\s))(?P<not>n['’]t|\s?not\b)?\s?[*_\"'“]{0,3}(?P<last>true|false)"
    r"[.!*_\"'”\s✅❌✓✗]{0,6}\Z"
    rf"|\A[{re.escape(_OPENING)}?,;]{{0,40}}(?P<first>true|false)\b(?=\s?[^\w\s'’-]|\s?\n|\s{{0,9}}\Z)"
    r"|(?<![\w-])(?P<bare>yes|no)(?!['’-]?\w)",
    re.IGNORECASE,
)
_SUBJECT = (
    r"it|they|you|we|he|she|i|the|this|that|there|these|those|because|since|as|if|but|and|so|for|after|when|in|by|here"
)
_NOT_ANY = re.compile(rf"[ \t]{{1,4}}(?!(?:{_SUBJECT})\b)[a-z]")  # "no turns": no answer, but how many turns there are.
_EITHER = re.compile(
    r"\b(?:yes|no|true|false)[\"'”*),…]{0,3}\s?\(?(?:/|&|\||\b(?:and/or|or|and|vs)\b)\s?(?:(?:maybe|perhaps|possibly)\s)?"
    rf"[\"'“*(]{{0,3}}(?:yes|true|false|no(?!{_NOT_ANY.pattern}))\b",
    re.IGNORECASE,
)
_SENSES = {"yes": "Yes", "true": "Yes", "no": "No", "false": "No"}


def yes_no(text: str) -> str | None:
    """ "Yes" or "No", as the reply commits to it; None without one.

    The last one that is stated counts ("The answer is no", "Answer: True", "<answer>No</answer>"); else one at the
    start; else the last. No answers are: "no" before a noun ("There are no turns"), "not yes", and "Yes or No".
    True is Yes and False is No where they are stated, or begin or end the reply; "It is not true" is No.
    """
    reply = _EITHER.sub("", one_question(text))
    start = len(reply) - len(reply.lstrip(_OPENING + "?,;"))
    if _both_alone(reply):
        return None
    stated: list[str] = []
    other: list[tuple[int, str]] = []
    for hit in _SAYS.finditer(reply):
        group = next(name for name in ("stated", "last", "first", "bare") if hit[name])
        said = hit[group].lower()
        if hit["not"]:
            said = "false" if said == "true" else "true"
        elif denied(reply, hit.start(group), hit.end(group)) or (said == "no" and _NOT_ANY.match(reply, hit.end())):
            continue
        answer = _SENSES[said]
        stated += [answer] if group == "stated" else []
        other.append((hit.start(group), answer))
    if stated:
        return stated[-1]
    if not other:
        return None
    return other[0 if other[0][0] == start else -1][1]


def _both_alone(reply: str) -> bool:
    """True for a reply of nothing but yes and no, apart: "Yes, no", or a line for each."""
    words = [word.strip("\"'“”*.,:!?()[]{}`") for item in items(reply) for word in re.split(r"[\s,;/|&]+", item)]
    return {_SENSES.get(word.lower()) for word in words if word} == {"Yes", "No"}


def both(text: str) -> bool:
    """True where a reply names yes and no together and decides for none.

    "Yes and no" → True. "yes/no" → True. "Yes or no? No" → False. "Maybe" → False.
    """
    reply = one_question(text)
    return yes_no(text) is None and bool(_EITHER.search(reply) or _both_alone(reply))
