"""Lettered options, and a letter as the answer: the common part of the multiple-choice benchmarks."""

from collections.abc import Sequence

from neuromas.tasks import parsing
from neuromas.tasks.loaded import LoadedTask
from neuromas.types import Grade, Question

INSTRUCTION = "Answer with only the letter of the right option."
PREFIX = "The answer is"


def lettered(id: str, stem: str, options: Sequence[str], gold: int) -> Question:
    """A question whose 3 to 10 options are lettered A, B, C …; `gold` is the 0-based index of the right one."""
    stem, options = stem.strip(), list(options)
    lines = [f"{letter}. {option.strip()}" for letter, option in zip(parsing.LETTERS, options, strict=False)]
    return Question(
        id=id,
        text="\n".join([stem, *lines]),
        answer=parsing.LETTERS[gold],
        instruction=INSTRUCTION,
        answer_prefix=PREFIX,
        metadata={"stem": stem, "options": options},
    )


class MultipleChoice(LoadedTask):
    """Graded by the letter that a reply commits to (`parsing.letter`). The number of options may vary."""

    max_answer_tokens = 16
    answer_choices = ("A", "B", "C", "D")

    def choices(self, question: Question) -> tuple[str, ...]:
        return tuple(parsing.LETTERS[: len(question.metadata.get("options", self.answer_choices))])

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the reply commits to the right letter."""
        letters = "".join(self.choices(question))
        reply = parsing.without_prefix(text, question.answer_prefix)
        parsed = parsing.letter(reply, letters)
        return Grade(float(parsed == question.answer), parsed, ambiguous=parsing.two_letters(reply, letters))
