"""The graders that a task names: how each reads a reply, and when the reply is right.

exact      the reply is the answer and nothing else (`words.bare`)
contains   the answer stands in the reply as words of their own (`words.contains`)
number     the number that the reply states equals the answer's (`numerals.final`, `numerals.equal`)
math       the expression that the reply states equals the answer (`symbolic.same`; extra `math`)
yes-no     the reply commits to yes or no (`parsing.yes_no`)
choice     the reply commits to a letter (`parsing.letter`)
"""

from typing import Literal

from neuromas.tasks import golds, numerals, parsing, symbolic, words
from neuromas.tasks.golds import Grader
from neuromas.types import Grade, Question

Plain = Literal["exact", "contains", "number", "math", "yes-no"]  # A question and its answers are all they need.


def grade(grader: Grader, question: Question, reply: str, letters: str = "") -> Grade:
    """1 where `grader` reads a right answer; of several right ones each scores.

    reply: without answer prefix and marked thoughts. letters: those of the question's options ("ABCD").
    """
    assert grader != "code", "programs are graded by tasks/programs.py"
    answers = golds.right(question)
    match grader:
        case "number":
            parsed = numerals.final(reply, question.answer_prefix)
            right = parsed is not None and any(numerals.equal(gold, parsed) for gold in answers)
            return Grade(float(right), parsed, ambiguous=numerals.several(reply, question.answer_prefix))
        case "math":
            found = [symbolic.same(gold, reply) for gold in answers]
            return Grade(float(any(equal for _, equal in found)), found[0][0])
        case "contains":
            found = next((gold for gold in answers if words.contains(reply, gold)), None)
            return Grade(float(found is not None), found or words.bare(reply) or None)
        case "exact":
            said = words.bare(reply)
            return Grade(float(said in [words.bare(gold) for gold in answers]), said or None)
        case "yes-no":
            parsed, ambiguous = parsing.yes_no(reply), parsing.both(reply)
        case "choice":
            parsed, ambiguous = parsing.letter(reply, letters), parsing.two_letters(reply, letters)
    return Grade(float(parsed in answers), parsed, ambiguous=ambiguous)
