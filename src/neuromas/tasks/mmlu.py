"""MMLU: exam questions, by subject; each subject is a task of its own, trained on other subjects."""

from typing import ClassVar

from neuromas.errors import TaskError
from neuromas.tasks import choice, data
from neuromas.types import Question

EVALUATED = ("abstract_algebra", "college_physics", "professional_medicine")
TRAINING = (
    "anatomy",
    "clinical_knowledge",
    "college_mathematics",
    "college_medicine",
    "conceptual_physics",
    "elementary_mathematics",
    "high_school_mathematics",
    "high_school_physics",
    "medical_genetics",
)
SUBJECTS = tuple(sorted(EVALUATED + TRAINING))
_COLUMNS = ("question", "subject", "choices", "answer")


class Mmlu(choice.MultipleChoice):
    """Hendrycks et al. 2021 (MIT): the test rows of one subject; the nine `TRAINING` subjects to learn from.

    MMLU has no training rows of these subjects, so training and validation come from the test rows of the nine
    subjects that are not evaluated (of the other eight, where one of the nine is itself the task).

    A real sample (abstract_algebra):

        text         Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.
                     A. 0
                     B. 4
                     C. 2
                     D. 6
        instruction  Answer with only the letter of the right option.
        prefix       The answer is
        answer       B
    """

    version = 1
    changes: ClassVar = {1: "First version."}
    source = "cais/mmlu (MIT)"

    def __init__(self, subject: str, validation_size: int = 200, seed: int = 0) -> None:
        """Validation questions are carved from the training subjects, the seed chooses which."""
        if subject not in SUBJECTS:
            raise TaskError(f"MMLU subject {subject!r} is not among those supported: {', '.join(SUBJECTS)}")
        self.name = f"mmlu/{subject}"
        self.subject = subject
        super().__init__(validation_size, seed)

    def load(self) -> tuple[list[Question], list[Question]]:
        others = [subject for subject in TRAINING if subject != self.subject]
        train = [q for subject in others for q in _questions(subject)]
        return train, _questions(self.subject)


def _questions(subject: str) -> list[Question]:
    """One subject's test rows; ids are the subject and the row's place in it, in the file as on the hub."""
    source = data.Source("mmlu_test", "cais/mmlu", subject, "test", _COLUMNS)
    rows = [(number, row) for number, row in enumerate(data.read(source), 1) if row["subject"] == subject]
    if not rows:
        raise TaskError(f"{source.file} has no row of subject {subject!r}; use a copy of cais/mmlu that has all twelve")
    return [_question(source, number, f"{subject}-{i}", row) for i, (number, row) in enumerate(rows)]


def _question(source: data.Source, number: int, id: str, row: data.Row) -> Question:
    options, gold = row["choices"], row["answer"]
    if not isinstance(options, list) or type(gold) is not int or not 0 <= gold < len(options) <= 10:
        raise data.malformed(source, number, f"answer {gold!r} must be the 0-based index of one of the choices")
    return choice.render(id, str(row["question"]), [str(option) for option in options], gold)
