"""BIG-Bench Hard: `navigate`, walking instructions that may or may not lead back to where they started."""

import re
from typing import ClassVar

from neuromas.tasks import tables
from neuromas.tasks.loaded import LoadedTask, digest, rendered
from neuromas.tasks.tables import RawRow, Source
from neuromas.types import Question

_ASKED = "If you follow these instructions, do you return to the starting point?"
_OPTIONS = re.compile(r"\s*Options:\s*- Yes\s*- No\s*\Z")
_COLUMNS = ("input", "target")
_BIG_BENCH = Source("bbh_navigate_train", "tasksource/bigbench", "navigate", "train+validation", ("inputs", "targets"))
_ANSWERS = {"yes": "Yes", "true": "Yes", "no": "No", "false": "No"}


class Navigate(LoadedTask):
    """Suzgun et al. 2022 (MIT): 250 test questions, 145 of them No, so that "always No" scores 58 %.

    Training questions are BIG-bench's `navigate` (Apache 2.0) without those 250; BIG-bench asks that its data stay
    out of pre-training corpora, so the sample here is an invented one of the same form:

        text         If you follow these instructions, do you return to the starting point? Always face forward.
                     Take 2 steps left. Take 2 steps right.
        instruction  Answer with only Yes or No.
        answer       Yes
    """

    name = "bbh/navigate"
    version = 2
    changes: ClassVar = {
        1: "First version.",
        2: "The stated yes or no counts, not the first word no; thoughts are left out.",
    }
    max_answer_tokens = 16
    source = "lukaemon/bbh, navigate (MIT); training: BIG-bench navigate (Apache 2.0)"
    answer_choices = ("Yes", "No")
    grader = "yes-no"
    balanced = True

    train_rows = Source("bbh_navigate_train", "", "", "", _COLUMNS)  # A folder's; the hub has BIG-bench's rows.
    test_rows = Source("bbh_navigate_test", "lukaemon/bbh", "navigate", "test", _COLUMNS)
    default_validation_size = 100

    def load(self) -> tuple[list[Question], list[Question]]:
        if tables.from_folder():
            return super().load()
        rows = map(_from_big_bench, tables.read(_BIG_BENCH))
        return rendered(_BIG_BENCH, enumerate(rows, 1), self.render), self.questions_in(self.test_rows)

    def render(self, row: RawRow) -> Question:
        answer = _ANSWERS.get(str(row["target"]).strip().lower())
        if answer is None:
            raise ValueError(f"target {row['target']!r} is neither Yes nor No")
        text = _OPTIONS.sub("", str(row["input"])).strip()
        return Question(f"navigate-{digest(text)[:12]}", text, answer, instruction="Answer with only Yes or No.")


def _from_big_bench(row: RawRow) -> RawRow:
    """A row with BBH's columns and wording, from one of BIG-bench ("… Q: <steps> A:", targets True or False)."""
    steps = str(row["inputs"]).replace(_ASKED, " ").strip()
    steps = re.sub(r"\AQ:|A:\Z", "", steps).strip()
    targets = row["targets"]
    return {"input": f"{_ASKED} {steps}", "target": targets[0] if isinstance(targets, list) else targets}
