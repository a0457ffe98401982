"""Lettered options, and a letter as the answer: the common part of the multiple-choice benchmarks."""

from collections.abc import Sequence

from neuromas.tasks import parsing
from neuromas.tasks.loaded import LoadedTask
from neuromas.types import Question

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
    grader = "choice"
    answer_choices = ("A", "B", "C", "D")

    def choices(self, question: Question) -> tuple[str, ...]:
        return tuple(parsing.LETTERS[: len(question.metadata.get("options", self.answer_choices))])
