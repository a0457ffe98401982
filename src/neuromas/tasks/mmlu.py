"""MMLU: exam questions, by subject; each subject is a task of its own, trained on other subjects."""

from dataclasses import replace
from typing import ClassVar

from neuromas.errors import TaskError
from neuromas.tasks.choice import MultipleChoice, lettered
from neuromas.tasks.loaded import rendered
from neuromas.tasks.tables import RawRow, Source, read
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


class Mmlu(MultipleChoice):
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

    version = 2
    changes: ClassVar = {
        1: "First version.",
        2: "Stated letters first; rejected ones and two at once are none; no thoughts.",
    }
    source = "cais/mmlu (MIT)"

    default_validation_size = 200

    def __init__(self, subject: str, validation_size: int | None = None, seed: int = 0) -> None:
        """Raises TaskError for a subject that is not in `SUBJECTS`."""
        if subject not in SUBJECTS:
            raise TaskError(f"MMLU subject {subject!r} is not among those supported: {', '.join(SUBJECTS)}")
        self.name, self.subject = f"mmlu/{subject}", subject
        super().__init__(validation_size, seed)

    def load(self) -> tuple[list[Question], list[Question]]:
        others = [subject for subject in TRAINING if subject != self.subject]
        return [question for subject in others for question in self.about(subject)], self.about(self.subject)

    def about(self, subject: str) -> list[Question]:
        """The test rows of one subject. An id is the subject and the row's place in it, in the file as on the hub."""
        table = Source("mmlu_test", "cais/mmlu", subject, "test", ("question", "subject", "choices", "answer"))
        rows = [(number, row) for number, row in enumerate(read(table), 1) if row["subject"] == subject]
        if not rows:
            raise TaskError(f"{table.file} has no row of subject {subject!r}; use a copy of cais/mmlu with all twelve")
        questions = enumerate(rendered(table, rows, self.render))
        return [replace(question, id=f"{subject}-{place}") for place, question in questions]

    def render(self, row: RawRow) -> Question:
        options, gold = row["choices"], row["answer"]
        if not isinstance(options, list) or type(gold) is not int or not 0 <= gold < len(options) <= 10:
            raise ValueError(f"answer {gold!r} must be the 0-based index of one of the choices")
        return lettered(self.name, str(row["question"]), [str(option) for option in options], gold)
