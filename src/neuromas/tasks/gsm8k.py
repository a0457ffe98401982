"""GSM8K: school arithmetic in words, a few steps each, with a number as the answer."""

from typing import ClassVar

from neuromas.tasks import graders, numerals, parsing
from neuromas.tasks.loaded import LoadedTask, digest
from neuromas.tasks.tables import RawRow, Source
from neuromas.types import Grade, Question

_COLUMNS = ("question", "answer")
_MARK = "####"


class Gsm8k(LoadedTask):
    """Cobbe et al. 2021 (MIT): 1319 test questions; graded by the final number alone (`numerals.final`).

    A real sample (the first training row):

        text         Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.
                     How many clips did Natalia sell altogether in April and May?
        instruction  Work it out step by step. End with #### and the number.
        answer       72
    """

    name = "gsm8k"
    version = 2
    changes: ClassVar = {
        1: "First version.",
        2: "More forms of numbers are read; equality is exact; thoughts are left out.",
    }
    max_answer_tokens = 400
    grader = "number"
    source = "openai/gsm8k, main (MIT)"

    train_rows = Source("gsm8k_train", "openai/gsm8k", "main", "train", _COLUMNS)
    test_rows = Source("gsm8k_test", "openai/gsm8k", "main", "test", _COLUMNS)
    default_validation_size = 200

    def render(self, row: RawRow) -> Question:
        text = str(row["question"]).strip()
        solution, mark, gold = str(row["answer"]).rpartition(_MARK)
        try:
            answer = numerals.only(gold if mark else "")
        except ValueError as error:
            raise ValueError(f"the answer must end with {_MARK} and a number") from error
        return Question(
            id=f"gsm8k-{digest(text)[:12]}",
            text=text,
            answer=answer,
            instruction=f"Work it out step by step. End with {_MARK} and the number.",
            metadata={"solution": solution.strip()},
        )

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the reply's final number equals the right one, however it is written. Blanks in front of it stay."""
        return graders.grade(self.grader, question, parsing.conclusion(text))
