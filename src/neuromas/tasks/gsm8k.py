"""GSM8K: school arithmetic in words, a few steps each, with a number as the answer."""

from typing import ClassVar

from neuromas.tasks import data, numerals
from neuromas.types import Grade, Question

_COLUMNS = ("question", "answer")
_TRAIN = data.Source("gsm8k_train", "openai/gsm8k", "main", "train", _COLUMNS)
_TEST = data.Source("gsm8k_test", "openai/gsm8k", "main", "test", _COLUMNS)
_MARK = "####"


class Gsm8k(data.LoadedTask):
    """Cobbe et al. 2021 (MIT): 1319 test questions; graded by the final number alone (`numerals.final`).

    A real sample (the first training row):

        text         Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.
                     How many clips did Natalia sell altogether in April and May?
        instruction  Work it out step by step. End with #### and the number.
        answer       72
    """

    name = "gsm8k"
    version = 1
    changes: ClassVar = {1: "First version."}
    max_answer_tokens = 400
    source = "openai/gsm8k, main (MIT)"

    def __init__(self, validation_size: int = 200, seed: int = 0) -> None:
        """Validation questions are carved from the training rows, the seed chooses which."""
        super().__init__(validation_size, seed)

    def load(self) -> tuple[list[Question], list[Question]]:
        return _questions(_TRAIN), _questions(_TEST)

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the reply's final number equals the right one, however it is written."""
        said = numerals.final(text)
        return Grade(float(said is not None and numerals.equal(question.answer, said)), said)


def _questions(source: data.Source) -> list[Question]:
    return [_question(source, number, row) for number, row in enumerate(data.read(source), 1)]


def _question(source: data.Source, number: int, row: data.Row) -> Question:
    text, (solution, mark, gold) = str(row["question"]).strip(), str(row["answer"]).rpartition(_MARK)
    answer = numerals.final(mark + gold) if mark else None
    if answer is None or not text:
        raise data.malformed(source, number, f"the answer must end with {_MARK} and a number")
    return Question(
        id=f"gsm8k-{data.digest(text)[:12]}",
        text=text,
        answer=answer,
        instruction=f"Work it out step by step. End with {_MARK} and the number.",
        metadata={"solution": solution.strip()},
    )
