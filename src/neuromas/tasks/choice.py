"""What the multiple-choice benchmarks share: lettered options, and a letter as the answer."""

from collections.abc import Sequence

from neuromas.tasks import parsing
from neuromas.tasks.data import LoadedTask
from neuromas.types import Grade, Question

INSTRUCTION = "Answer with only the letter of the right option."
PREFIX = "The answer is"


def render(id: str, stem: str, options: Sequence[str], gold: int) -> Question:
    """A question whose options (3 to 10 of them) are lettered A, B, C …; `gold` is the right one's 0-based index."""
    lines = [
        stem.strip(),
        *(f"{mark}. {option.strip()}" for mark, option in zip(parsing.LETTERS, options, strict=False)),
    ]
    return Question(
        id=id,
        text="\n".join(lines),
        answer=parsing.LETTERS[gold],
        instruction=INSTRUCTION,
        answer_prefix=PREFIX,
        metadata={"stem": stem.strip(), "options": list(options)},
    )


class MultipleChoice(LoadedTask):
    """Grades by the letter a reply commits to (`parsing.letter`); the options may differ in number."""

    max_answer_tokens = 16
    answer_choices = ("A", "B", "C", "D")

    def choices(self, question: Question) -> tuple[str, ...]:
        return tuple(parsing.LETTERS[: len(question.metadata.get("options", self.answer_choices))])

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the reply commits to the right letter."""
        said = parsing.letter(parsing.without_prefix(text, question.answer_prefix), "".join(self.choices(question)))
        return Grade(float(said == question.answer), said)
