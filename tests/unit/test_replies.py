"""Replies are read as a careful person reads them: thoughts, numbers, letters, yes and no, words."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from timeit import timeit
from typing import Any

import pytest

from neuromas.tasks import load_task, numerals, parsing, words

# -- thoughts -----------------------------------------------------------------------------------------------

THOUGHTS = [
    ("<think>", "</think>"),
    ("<think>\n", "\n</think>\n\n"),
    ("<THINKING>", "</THINKING>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ('<think type="long">', "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<analysis>", "</analysis>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("analysisWe see ", "assistantfinal"),
]


@pytest.mark.parametrize(("opens", "closes"), THOUGHTS)
def test_what_stands_before_the_end_of_thoughts_is_no_answer(opens: str, closes: str) -> None:
    for before in ("", "I think. "):
        start = "" if opens.startswith("analysis") else before
        assert parsing.conclusion(f"{start}{opens}C? The answer is C.{closes}B").strip() == "B"
        assert parsing.conclusion(f"{start}{opens}C? The answer is C.") == ""
    if not opens.startswith("analysis"):
        assert parsing.conclusion(f"{opens}C{closes}A{opens}A?{closes}B").strip() == "B"
        assert parsing.conclusion(f"{opens}C{closes}A{opens}A?") == ""


def test_an_end_without_a_beginning_ends_thoughts_too() -> None:  # the template writes <think> into the prompt
    assert parsing.conclusion("Let me see: C.\n</think>\n\nB") == "\n\nB"
    assert parsing.without_prefix("The answer is <think>C?</think> The answer is B", "The answer is") == " B"
    assert parsing.conclusion("I think of x < y and think: B") == "I think of x < y and think: B"


# -- numbers ------------------------------------------------------------------------------------------------

STATED: list[tuple[str, str | None]] = [
    # a line that shows its sum
    ("Answer: m+n = 256+37 = 293", "293"),
    ("#### 5 + 3 = 8", "8"),
    ("Answer: 12 × 3 = 36.", "36"),
    ("9 + 8 = 17", "17"),
    ("#### 10 - 4 = 6 apples", "6"),
    ("Answer: 100 - 37 = $63", "63"),
    ("The sum of 9 and 8 is 17.", "17"),
    ("8 = 5 + 3", "8"),
    ("The answer is 5 + 3\n= 8", "8"),
    ("So she has 21 - 7 = 14 left after 7 days.", "14"),
    ("16 / 3 = 5.33, which rounds down to 5", "5"),
    ("9 + 8 → 17", "17"),
    ("The answer is 20% of 50, which is 10", "10"),
    ("2^10 = 1024", "1024"),
    ("The answer is (5 + 3) = 8", "8"),
    ("Answer: 5 + 3", None),
    ("The answer is 5 - 3", None),
    ("#### 4 * 2", None),
    # words around it
    ("The total is 72 clips, altogether.", "72"),
    ("The answer is $29.00.", "29"),
    ("The answer is 72 clips, 48 in April and 24 in May.", "72"),
    ("The answer is 18 dollars. It is not 19.", "18"),
    ("The answer is 72 because 48 + 24 = 72", "72"),
    ("Ans: 7", "7"),
    ("The answer is not 5, it is 7", "7"),
    ("Answer: 7 (seven)", "7"),
    ("The final answer is **7**", "7"),
    ("I say 7.", "7"),
    ("If the answer is 5, then 6. The answer is 7", "7"),
    ("<answer>8</answer>", "8"),
    ("Answer – 7", "7"),
    ("Answer — 7", "7"),
    # separators
    ("\\boxed{$9{,}500}", "9500"),
    ("The answer is $9{,}500.", "9500"),
    ("\\boxed{1{,}020}", "1020"),
    ("1\\,020", "1020"),
    ("1 020", "1020"),
    ("1 000", "1000"),
    ("1\u202f020", "1020"),
    ("1'020", "1020"),
    ("1_020", "1020"),
    ("1,234,567.89", "1234567.89"),
    ("1,00,000", "100000"),
    ("1.234,50", "1234.5"),
    ("1 234,5", "1234.5"),
    ("$29.00", "29"),
    ("$1,234.50 in all", "1234.5"),
    # signs
    ("- 5", "-5"),
    ("minus 5", "-5"),
    ("negative 5", "-5"),
    ("–5", "-5"),
    ("−5", "-5"),
    ("(-5)", "-5"),
    ("-$5", "-5"),
    ("$-5$", "-5"),
    ("x = -5", "-5"),
    ("x=-5", "-5"),
    ("The answer is - 5", "-5"),
    ("+5", "5"),
    ("-5°C", "-5"),
    ("- 3 apples\n- 5 pears", "5"),
    ("the answer is:\n- 5", "-5"),
    # points, fractions, mixed numbers, exponents
    (".5", "0.5"),
    ("#### .5", "0.5"),
    ("$.75", "0.75"),
    ("-.5", "-0.5"),
    ("\\frac12", "1/2"),
    ("\\dfrac{-1}{2}", "-1/2"),
    ("-\\frac{1}{2}", "-1/2"),
    ("2\\frac{1}{2}", "5/2"),
    ("1 1/2", "3/2"),
    ("3 and 1/2", "7/2"),
    ("2½", "5/2"),
    ("½", "1/2"),
    ("3/4 cup", "3/4"),
    ("7 out of 10", "7"),
    ("1.5e3", "1500"),
    ("1.5E+3", "1500"),
    ("4e-7", "0.0000004"),
    ("5e-1", "0.5"),
    ("10^5", "100000"),
    ("4 \\times 10^{-7}", "0.0000004"),
    ("6.02 × 10²", "602"),
    ("3 million", "3000000"),
    # units with digits
    ("The area is 50 m^2.", "50"),
    ("50 m^2", "50"),
    ("50 m²", "50"),
    ("50 m2", "50"),
    ("50 \\text{ cm}^2", "50"),
    ("9.8 m/s^2", "9.8"),
    ("5 km/h", "5"),
    ("90^\\circ", "90"),
    ("5\\%", "5"),
    ("5%", "5"),
    ("50\\%", "50"),
    ("18kg", "18"),
    ("7th", "7"),
    # no number, or not one
    ("18²", None),
    ("2\\sqrt{3}", None),
    ("\\boxed{2\\sqrt{3}}", None),
    ("\\boxed{3\\pi}", None),
    ("12:30", None),
    ("5 or 6", None),
    ("(3, 4)", None),
    ("between 5 and 7", None),
    ("5-10", None),
    ("3 dozen", None),
    ("5k", None),
    ("5 apples or 6 apples", None),
    ("3π/4", None),
    ("±2", None),
    ("\\frac{3}{-4}", None),
    ("COVID-19", None),
    ("2024-05-01", None),
    ("1/0", None),
    ("0x1F", None),
    ("m2", None),
]


@pytest.mark.parametrize(("reply", "number"), STATED)
def test_the_number_that_a_reply_states(reply: str, number: str | None) -> None:
    assert numerals.final(reply) == number


@pytest.mark.parametrize(
    ("prefix", "reply", "number"),
    [
        ("The answer is", "5, and 7 more were lost", "5"),
        ("The answer is", " 9 + 8 = 17", "17"),
        ("The answer is", "9 + 8 apples. The answer is 17", "17"),
        ("The answer is", "hard to say.\nThere are 17", "17"),
        ("####", "17\n\nQuestion: 3 + 4?\nNow 7", "17"),
        ("", "5, and 7 more were lost", "7"),
    ],
)
def test_an_answer_prefix_commits_to_the_line_behind_it(prefix: str, reply: str, number: str) -> None:
    assert numerals.final(reply, prefix) == number


EQUAL = [
    ("0.0000004", "0.0000001", False),
    ("3.1415926", "3.1415927", False),
    ("0.123456789", "0.123456788", False),
    ("1/3", "0.333333", False),
    ("0.5", "1/2", True),
    ("1.50", "3/2", True),
    ("0.00001", "1e-5", True),
    ("7/0", "7", False),
    ("0.30000000000000004", "0.3", True),
    ("0.3333333333333333", "1/3", True),
    ("0.30000000000000004", "0.31", False),
    ("123456789012345678", "123456789012345679", False),
    ("0.0000001", "0.00000010000000000000001", True),
    ("5/2", "2.5/1", True),
]


@pytest.mark.parametrize(("gold", "said", "same"), EQUAL)
def test_equality_is_exact_but_for_rounded_floats(gold: str, said: str, same: bool) -> None:
    assert numerals.equal(gold, said) is numerals.equal(said, gold) is same


# -- letters ------------------------------------------------------------------------------------------------

LETTERS: list[tuple[str, str | None]] = [
    ("B because a car moves", "B"),
    ("I would pick B — a safe choice", "B"),
    ("The answer is B. Note that A is heavy.", "B"),
    ("The answer is B. Note that A is…", "B"),
    ("The answer is C", "C"),
    ("Answer seems to be A.\n\nAnswer: B", "B"),
    ("Antwort:\n\nAntwort: C", "C"),
    ("I choose B", "B"),
    ("It is B", "B"),
    ("Correct: B", "B"),
    ("The solution is B", "B"),
    ("I'd choose B over A", "B"),
    ("A resposta é B", "B"),
    ("正确答案是B", "B"),
    ('{"answer": "B"}', "B"),
    ("The answer must be B", "B"),
    ("The correct option is B", "B"),
    ("<answer>B</answer>", "B"),
    ("Ans: B", "B"),
    ("It's B.", "B"),
    ("I'd go with (B).", "B"),
    ("The best choice: B", "B"),
    ("B is the answer", "B"),
    ("B is correct, as A is wrong", "B"),
    ("Final answer: **B**", "B"),
    ("#### B", "B"),
    ("So (B).", "B"),
    ("Therefore, B", "B"),
    ("The answer is the letter B", "B"),
    ("answer = B", "B"),
    ("The answer is clearly B", "B"),
    ("C is a metal, so it conducts. So the answer is B.", "B"),
    ("A resposta correta é B", "B"),
    ("La respuesta correcta es B", "B"),
    ("Not A, not C. B.", "B"),
    ("Eliminating A, C and D leaves B.", "B"),
    ("Vitamin D is not it! B", "B"),
    # rejected
    ("Option A is incorrect, as it melts. Answer: B", "B"),
    ("Option A is incorrect. Answer: B", "B"),
    ("Option A is incorrect … Answer: B", "B"),
    ("(A) is wrong; (B) is right", "B"),
    ("A isn't right. B is correct.", "B"),
    ("Rule out A and C. It is B.", "B"),
    ("The answer is not A. It's B", "B"),
    ("B, not A", "B"),
    ("Not A", None),
    ("A is not right", None),
    ("A cannot be right", None),
    ("I do not choose B", None),
    ("(A) is out; (B)", "B"),
    ("It isn't A.", None),
    ("Answer: B, because A is wrong", "B"),
    ("The answer is B rather than (A)", "B"),
    ("Eliminate (A), so (B)", "B"),
    # two are none
    ("B, C", None),
    ("A, B, C and D", None),
    ("A or B", None),
    ("A or possibly B", None),
    ("A, maybe B", None),
    ("Answer: A (or B)", None),
    ("Answer: A|B", None),
    ("A B", None),
    ("The answer is A? No, B.", None),
    ("A/B", None),
    ("b, c", None),
    ("The answer is B and C", None),
    ("The answer is B or C", None),
    ("(A) or (B)", None),
    ("Both A and C are right", None),
    ("Option A falls; option B rises", None),
    ("B & C", None),
    ("The answer is either B or C", None),
    ("Between B and C, I choose C", "C"),
    # options that begin like a rejection
    ("A. Wrong, Wrong", "A"),
    ("B. Not enough information", "B"),
    ("B. False", "B"),
    ("Answer: D. None of these", "D"),
    ("B\n\nQuestion: and now?\nAnswer: C", "B"),
    ("I think so", None),
    ("A dog", None),
    ("Plan B failed", None),
]


@pytest.mark.parametrize(("reply", "letter"), LETTERS)
def test_the_letter_that_a_reply_commits_to(reply: str, letter: str | None) -> None:
    assert parsing.letter(reply, "ABCD") == letter


# -- yes and no ---------------------------------------------------------------------------------------------

YES_NO: list[tuple[str, str | None]] = [
    ("There are no turns in these steps. So the answer is Yes.", "Yes"),
    ("There are no turns in these steps … So the answer is Yes.", "Yes"),
    ("There are no turns. So the answer is Yes.", "Yes"),
    ("There are no turns … So the answer is Yes.", "Yes"),
    ("There are no turns … the answer is Yes", "Yes"),
    ("Answer with only Yes or No. No", "No"),
    ("No turns are made, so yes.", "Yes"),
    ("No, there are no turns", "No"),
    ("No you don't return", "No"),
    ("No\nTurns: 3", "No"),
    ("True", "Yes"),
    ("false.", "No"),
    ("Answer: False", "No"),
    ("The statement is true.", "Yes"),
    ("True or False? True", "Yes"),
    ("It is true that there are no turns. So: No", "No"),
    ("<answer>no</answer>", "No"),
    ("\\boxed{\\text{Yes}}", "Yes"),
    ("YES, no doubt", "Yes"),
    ("So yes", "Yes"),
    ("I'd say no.", "No"),
    ("Final answer: Yes.", "Yes"),
    ("**No**", "No"),
    ("No one moved. Yes", "Yes"),
    ("The answer is: no, you are 3 steps away", "No"),
    ("yes/no: no", "No"),
    ("Yes", "Yes"),
    ("There is no way back: No", "No"),
    ("The answer is yes, not no", "Yes"),
    ("If the answer is no, you moved. You did not: yes", "Yes"),
    ("This is not true.", "No"),
    ("That isn't false", "Yes"),
    ("not yes", None),
    ("It is not a yes", None),
    ("There is no such thing", None),
    ("Yes or no", None),
    ("Yes and no", None),
    ("The final answer is 'No'.", "No"),
    ('{"answer": "no"}', "No"),
    ("no-one", None),
    ("The answer is not no", None),
    ("maybe", None),
    ("", None),
    ("Yesterday", None),
]


@pytest.mark.parametrize(("reply", "said"), YES_NO)
def test_the_yes_or_no_that_a_reply_commits_to(reply: str, said: str | None) -> None:
    assert parsing.yes_no(reply) == said


AMBIGUOUS = {
    "letter": [
        "A or B",
        "B, C",
        "The answer is B and C",
        "(A) or (B)",
        "Option A falls; option B rises",
        "b, c",
    ],
    "number": [
        "5 or 6",
        "Answer: 3, 4",
        "The answer is 5 apples or 6 apples",
        "(3, 4)",
        "#### 5 and 7",
        "\\boxed{1, 2}",
    ],
    "yes-no": ["Yes and no", "Yes or no", "yes/no", "It is both yes and no."],
}
PLAIN = {
    "letter": [
        "B",
        "I do not know",
        "",
        "Not A",
        "The answer is B. (A) is wrong",
        "A dog",
        "Between B and C, I choose C",
    ],
    "number": ["5", "", "none", "Answer: 5 + 3", "The answer is 72 clips, 48 in April", "2\\sqrt{3}", "12:30", "1/0"],
    "yes-no": ["Yes", "maybe", "", "Yes or no? No", "The answer is yes, not no", "There is no such thing"],
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_replies_that_commit_to_several_answers_are_told_from_those_with_none(kind: str) -> None:
    several = {
        "letter": lambda text: parsing.two_letters(text, "ABCD"),
        "number": numerals.several,
        "yes-no": parsing.both,
    }
    assert [text for text in AMBIGUOUS[kind] if not several[kind](text)] == []
    assert [text for text in PLAIN[kind] if several[kind](text)] == []


# -- words --------------------------------------------------------------------------------------------------

WORDS = [
    (
        "Rome",
        ["The capital is **Rome**.", "Rome, in Italy", "(Rome)", "_Rome_", "Rome's walls", "ROME!", "it is\nrome"],
        True,
    ),
    (
        "Rome",
        ["Jerome", "Romeo", "non-Rome", "Rom", "It is not Rome", "Paris rather than Rome", "Rome is wrong", ""],
        False,
    ),
    ("5", ["it is 5.", "5", "(5)", "5, or so", "x=5"], True),
    ("5", ["5.5", "-5", "15", "1,500", "5,000", "05", "12:5"], False),
    ("C++", ["C++", "It's C++.", "in C++, say"], True),
    ("C++", ["C", "C+", "NC++"], False),
    ("São Paulo", ["It is Sa\u0303o  Paulo"], True),
]


@pytest.mark.parametrize(("gold", "replies", "found"), WORDS)
def test_an_answer_stands_in_a_reply_as_words(gold: str, replies: list[str], found: bool) -> None:
    assert {reply for reply in replies if words.contains(reply, gold) is not found} == set()


@pytest.mark.parametrize(
    ("reply", "bare"),
    [
        ("It is Rome", "it is rome"),
        (".5", ".5"),
        ("**.5**.", ".5"),
        ("...5", ".5"),
        ("C#", "c#"),
        ("$5", "$5"),
        ("f(x)", "f(x)"),
        ("?", ""),
        ("The answer is", "the answer is"),
    ],
)
def test_only_what_is_put_around_an_answer_is_taken_away(reply: str, bare: str) -> None:
    assert words.bare(reply) == bare


# -- thirty ways to say it, and thirty to miss it, for every grader -----------------------------------------

WRAPPED = [  # ways in which models write an answer and nothing else
    "{}",
    " {} ",
    "{}.",
    "**{}**",
    "`{}`",
    '"{}"',
    "\n\n{}\n",
    "The answer is {}.",
    "The answer is: {}",
    "the answer is **{}**.",
    "Answer: {}",
    "**Answer:** {}",
    "**Answer: {}**",
    "Final answer: {}",
    "Final Answer: **{}**",
    "So the answer is {}.",
    "The final answer is {}",
    "The correct answer is {}.",
    "My answer is {}.",
    "<answer>{}</answer>",
    "<answer> {} </answer>",
    "\\boxed{{{}}}",
    "$\\boxed{{{}}}$",
    "#### {}",
    "Therefore, the answer is {}.",
    "Ans: {}",
    "Answer: `{}`",
    "*{}*",
    "“{}”",
    "<think>Is it {other}? The answer is {other}.</think>{}",
    "<think>\n{other}\n</think>\n\nThe answer is {}.",
    "<think></think>\n\n**{}**",
    "The answer should be {}",
    "({})",
]
REASONED = [  # and behind words of their own, which `exact` does not read
    "I think that {other} is wrong. The answer is {}.",
    "Let me see.\n\nAnswer: {}",
    "Not {other}.\nThe answer is {}",
    "The answer is {}. That is all.",
    "Thinking about it, the answer is {}\n",
]
MISSED = [  # replies that hold the right answer and give another, or none
    "{other}",
    "The answer is {other}, not {}.",
    "<think>The answer is {}.</think>{other}",
    "<think>The answer is {}.",
    "<think>{}",
    "<think>{}</think>",
    "<think>{}</think>\n\n",
    "[THINK]{}[/THINK]{other}",
    "[THINK]{}",
    "<thinking>{}",
    "<reasoning>{}</reasoning>\n{other}",
    "Not {}",
    "It is not {}.",
    "The answer is not {}.",
    "The answer is not {}, but {other}",
    "It isn't {}.",
    "<think>a</think><think>{}",
    "<|channel|>analysis<|message|>{}",
    "<|begin_of_thought|>{}",
    "◁think▷{}",
    "<|START_THINKING|>{}",
    "{other} rather than {}",
    "Answer: {other} instead of {}",
    "not {}",
    "<analysis>\n{}\n</analysis>{other}",
    "<scratchpad>Answer: {}",
    "<think>{}</think>I do not know",
    "<thought>{}</thought>{other}",
    "<THINK>\nThe answer is {}\n",
    "**Answer:** {other} (not {})",
]
OWN = {  # further ones of each grader: right, wrong
    "number": (
        [
            "= {}",
            "x = {}",
            "{} apples",
            "{}\\%",
            "\\({}\\)",
            "It is {}.",
            "2 of 3 steps done, so x = {}",
            "It makes {} in all.",
        ],
        [
            "{} or {other}",
            "{}\n{other}",
            "x = {} or x = {other}",
            "\\boxed{{{}}} or \\boxed{{{other}}}",
            "{} < {other}",
            "x > {}",
            "{} + 1",
            "1{}",
            "{}1",
            "{} = {other}",
            "{}, {other}",
            "{}.5",
            "{},000",
            "{} - 1 = {other}",
            "{}^2",
            "({}, 1)",
        ],
    ),
    "choice": (
        [
            "({})",
            "{})",
            "Option {}",
            "{}: because of it",
            "{} is right",
            "I choose {}",
            "It is {}.",
            "It must be ({})",
            "{}, not {other}",
        ],
        [
            "{} or {other}",
            "{}, {other}",
            "{} and {other}",
            "{}{other}",
            "{}\n{other}",
            "\\boxed{{{}}} or \\boxed{{{other}}}",
            "{} and {other} are wrong",
            "{} and {other} are right",
            "{} is wrong",
            "{}/{other}",
            "({}) is out; ({other})",
        ],
    ),
    "yes-no": (
        [
            "{}, it is.",
            "{}\nThat is all.",
            "Well, {}.",
            "There are no turns, so the answer is {}",
            "So: {}",
            "I would say {}.",
        ],
        [
            "{}\n{other}",
            "{} or {other}",
            "{} and {other}",
            "{} or {other}? {other}",
            "If the answer is {}, I err. {other}",
            "{}terday",
            "{}-one",
        ],
    ),
    "contains": (
        ["It is {}, I think", "({})", "{}'s walls", "in {}."],
        ["{} and {other} are wrong", "anything but {}", "x{}", "{}x", "non-{}", "{} is wrong", "{}-x", "x-{}"],
    ),
    "math": (
        ["\\({}\\)", "${}$", "$${}$$", "\\[{}\\]", "So ${}$"],
        ["\\boxed{{{}}} or \\boxed{{{other}}}", "${} + 1$", "\\boxed{{{} + {other}}}", "${}$ = ${other}$", "2 ({})"],
    ),
    "exact": (["“{}”.", "'{}'"], ["It is {}", "{} or {other}", "{} {}", "x{}", "{}, {other}", "I say {}"]),
}
GOLDS = {
    "number": [("7", "9"), ("-12", "31"), ("1200", "1300"), ("2.5", "3.5"), ("3/4", "2/3")],
    "choice": [("B", "C"), ("D", "A")],
    "yes-no": [("Yes", "No"), ("No", "Yes")],
    "contains": [("Rome", "Paris"), ("Port Louis", "Curepipe")],
    "math": [("2\\sqrt{3}", "3\\sqrt{2}"), ("x^2+1", "x^2-1")],
    "exact": [("Rome", "Paris"), ("42 km", "41 km")],
}


@pytest.mark.parametrize("grader", OWN)
def test_thirty_ways_to_say_the_answer_score_and_thirty_that_only_hold_it_do_not(grader: str, tmp_path: Path) -> None:
    if grader == "math":
        pytest.importorskip("math_verify")
    right, wrong = OWN[grader]
    ways = [*WRAPPED, *([] if grader == "exact" else REASONED), *right]
    misses = [way for way in [*MISSED, *wrong] if grader != "contains" or way not in ("{} = {other}",)]
    assert len(ways) >= 30 and len([way for way in misses if "{}" in way]) >= 30
    for gold, other in GOLDS[grader]:
        rows = [{"question": f"Q{n}", "answer": gold, "options": list("wxyz")} for n in range(4)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        said = {"data": "rows.jsonl", "grader": grader, "test_size": 1, "validation_size": 1}
        said |= {"choices": "options"} if grader == "choice" else {}
        (tmp_path / "own.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
        own: Any = load_task(str(tmp_path / "own.toml"))
        question = own.questions("test")[0]
        replies = {way: way.format(gold, *[gold] * 3, other=other) for way in [*ways, *misses]}
        missed = [replies[way] for way in ways if own.grade(question, replies[way]).reward != 1]
        paid = [replies[way] for way in misses if own.grade(question, replies[way]).reward != 0]
        assert (missed, paid) == ([], [])


HOSTILE = [
    "A" * 50_000,
    "1," * 25_000,
    "#### 1 = " * 6_000,
    "answer is 1 + " * 4_000,
    "\\boxed{" * 8_000,
    "<think>" * 8_000,
]
HOSTILE += ["no turns " * 6_000, "A, " * 17_000, "not A. " * 8_000, "- 1\n" * 12_000, "\\frac" * 10_000, "10^" * 17_000]


@pytest.mark.parametrize("reply", HOSTILE, ids=lambda reply: reply[:8])
def test_a_hostile_reply_is_read_in_linear_time(reply: str) -> None:
    def read(text: str) -> None:
        numerals.final(text), parsing.letter(text, parsing.LETTERS), parsing.yes_no(text), words.contains(text, "1")
        numerals.several(text), parsing.two_letters(text, parsing.LETTERS), parsing.both(text)
        words.bare(text)

    whole, quarter = (
        timeit(partial(read, text), timer=process_time, number=1) for text in (reply, reply[: len(reply) // 4])
    )
    assert whole < 8 * quarter + 0.1  # four times as long; squared it would be 16


def test_the_examples_of_the_rules_are_true() -> None:
    """Examples in docstrings of the form `"reply" → answer`."""
    readers: dict[Any, Any] = {
        numerals.final: numerals.final,
        parsing.letter: lambda text: parsing.letter(text, "ABCD"),
        numerals.several: numerals.several,
        parsing.two_letters: lambda text: parsing.two_letters(text, "ABCD"),
        parsing.both: parsing.both,
    }
    for function, read in readers.items():
        examples = re.findall(r'"([^"\n]+)" → ([0-9A-D]+|None|True|False)', function.__doc__ or "")
        assert examples
        assert [(text, str(read(text))) for text, _ in examples] == examples


def test_worked_solutions_are_read_without_their_final_line(benchmark_data: Path) -> None:
    """GSM8K's own solutions, calculator marks and "#### 72" taken away: a person finds nearly every answer in them."""
    asked = load_task("gsm8k").questions("test")
    solutions = [re.sub(r"<<.*?>>", "", question.metadata["solution"]) for question in asked]
    found = [numerals.final(solution) for solution in solutions]
    missed = sum(said is None or not numerals.equal(q.answer, said) for q, said in zip(asked, found, strict=True))
    assert len(asked) == 1319 and missed <= 20


TOGETHER = {
    "letter": [
        *("A/B", "Answer: A/C", "A/B/C", "(A) and (C)", "either A or B", "A and/or B", "A vs B", "A oder B"),
        *("Options A and C", "It could be A or B", "Either (A) or (B) is right", "I can't decide between A and B"),
        *(
            "A\nB",
            "A\n\nB\n",
            "(A)\n(B)",
            "A.\nB.",
            "- A\n- B",
            "**A**\n**B**",
            "1. A\n2. B",
            "B\nA\nC",
            "Answer:\nA\nB",
        ),
        *("The answer is:\n- A\n- C", "A and B are correct", "\\boxed{A} or \\boxed{B}", "\\boxed{A} and \\boxed{C}"),
        *("The answer is A. Or maybe B.", "The answer is A or the answer is B", "It's A or it's B", "Answers: A, D"),
        *("The correct options are A, B, and D", "\\boxed{\\text{A}} or \\boxed{\\text{B}}"),
    ],
    "yes-no": [
        *("yes/no", "Yes | No", "Yes, or no", "(yes) or (no)", "yes, no", "Yes. No.", "yes or maybe no", "Yes\nNo"),
        *("\\boxed{Yes} or \\boxed{No}", "- Yes\n- No", "True\nFalse", "true, false", "Answer: yes, no", "Yes (or no)"),
        "The answer is yes. Or no.",
    ],
    "number": [
        *(
            "x = 3 or x = 4",
            "x=3 or x=-4",
            "x = 3 and x = 4",
            "x = 3, x = 4",
            "x_1 = 3, x_2 = 4",
            "Either x = 3 or x = 4.",
        ),
        *("\\boxed{3} or \\boxed{4}", "\\boxed{3} and \\boxed{4}", "\\boxed{3}, \\boxed{4}", "$x = 3$ or $x = 4$"),
        *("\\boxed{3} \\text{ or } \\boxed{4}", "$\\boxed{3}$ or $\\boxed{4}$", "\\boxed{x = 3 \\text{ or } x = 4}"),
        *(
            "$x=3 \\quad \\text{or} \\quad x=-3$",
            "The answer is 3. Or 4.",
            "The solutions are x = 3 and x = 4.",
            "3\n4",
        ),
        *("- 3\n- 4", "x = 1, x = 2, x = 3"),
        *("3 or 4", "3 or maybe 4", "Answer: 3, or 4", "3 & 4", "3 | 4", "Answer: 3 oder 4", "either 3 or 4"),
    ],
}
ONE = {
    "letter": {"Between B and C, I choose C": "C", "A or B. The answer is B": "B", "(A) is wrong and (B) is right": "B"}
    | {"Rule out A and C. It is B.": "B", "B (not A or C)": "B", "A or B? B.": "B", "B\nB": "B"}
    | {"A and C are incorrect, so B": "B", "A, C and D are wrong, so the answer is B.": "B", "A\nB is wrong": "A"}
    | {"Since A and C are incorrect, B is the answer": "B", "(A) and (C) are wrong; (B) is right": "B"},
    "yes-no": {"Yes or no: no": "No", "Yes, no turns are left": "Yes", "Yes/no? Yes": "Yes", "Yes\nYes": "Yes"}
    | {"Yes\nNo turns": "Yes", "Yes\n\nNo additional comments.": "Yes"},
    "number": {"5 or 6, so 5": "5", "10 or 12? The answer is 12": "12", "2 and 2 make 4": "4"}
    | {"x = 3, so 2x = 6": "6", "\\boxed{3} ... wait ... \\boxed{4}": "4", "x = 3 or x = 4, so the answer is 7": "7"}
    | {
        "x = 3 or x = -3; taking the positive root, x = 3": "3",
        "x = 3 or x = 4. The answer is 3.": "3",
        "2x = 6, x = 3": "3",
    }
    | {"The answer is 3/4 (or 0.75).": "3/4", "The answer is 0.75 (or 3/4).": "0.75", "x = 6/2, x = 3": "3"},
}
READERS: dict[str, tuple[Callable[[str], str | None], Callable[[str], bool]]] = {
    "letter": (lambda text: parsing.letter(text, "ABCD"), lambda text: parsing.two_letters(text, "ABCD")),
    "yes-no": (parsing.yes_no, parsing.both),
    "number": (numerals.final, numerals.several),
}


@pytest.mark.parametrize("kind, reply", [(kind, reply) for kind, found in TOGETHER.items() for reply in found])
def test_answers_that_are_joined_are_ambiguous(kind: str, reply: str) -> None:
    read, several = READERS[kind]
    assert (read(reply), several(reply)) == (None, True)


@pytest.mark.parametrize("kind, reply", [(kind, reply) for kind, found in ONE.items() for reply in found])
def test_an_answer_beside_joined_ones_is_one(kind: str, reply: str) -> None:
    read, several = READERS[kind]
    assert (read(reply), several(reply)) == (ONE[kind][reply], False)


REJECTED = ["A and B are wrong", "A and B are incorrect.", "Both A and B are wrong", "A and B can be eliminated"]
REJECTED += ["A and B do not work", "A and B are out", "(A) and (B) are not right", "A, B, and D can be ruled out"]


@pytest.mark.parametrize("reply", REJECTED)
def test_letters_that_are_rejected_together_are_neither_an_answer_nor_two(reply: str) -> None:
    assert (parsing.letter(reply, "ABCD"), parsing.two_letters(reply, "ABCD")) == (None, False)
