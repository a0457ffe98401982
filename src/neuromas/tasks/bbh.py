"""BIG-Bench Hard: `navigate`, walking instructions that may or may not lead back to where they started."""

import re
from typing import ClassVar

from neuromas.tasks import data, parsing
from neuromas.types import Grade, Question

_ASKED = "If you follow these instructions, do you return to the starting point?"
_OPTIONS = re.compile(r"\s*Options:\s*- Yes\s*- No\s*\Z")
_COLUMNS = ("input", "target")
_TRAIN = data.Source("bbh_navigate_train", "", "", "", _COLUMNS)
_TEST = data.Source("bbh_navigate_test", "lukaemon/bbh", "navigate", "test", _COLUMNS)
_BIG = data.Source("bbh_navigate_train", "tasksource/bigbench", "navigate", "train+validation", ("inputs", "targets"))
_ANSWERS = {"yes": "Yes", "true": "Yes", "no": "No", "false": "No"}


class Navigate(data.LoadedTask):
    """Suzgun et al. 2022 (MIT): 250 test questions, 145 of them No, so that "always No" scores 58 %.

    Training questions are BIG-bench's `navigate` (Apache 2.0) without those 250; BIG-bench asks that its data stay
    out of pre-training corpora, so the sample here is an invented one of the same form:

        text         If you follow these instructions, do you return to the starting point? Always face forward.
                     Take 2 steps left. Take 2 steps right.
        instruction  Answer with only Yes or No.
        answer       Yes
    """

    name = "bbh/navigate"
    version = 1
    changes: ClassVar = {1: "First version."}
    max_answer_tokens = 16
    source = "lukaemon/bbh, navigate (MIT); training: BIG-bench navigate (Apache 2.0)"
    answer_choices = ("Yes", "No")
    balanced = True

    def __init__(self, validation_size: int = 100, seed: int = 0) -> None:
        """Validation questions are carved from the training rows, half Yes and half No; the seed chooses which."""
        super().__init__(validation_size, seed)

    def load(self) -> tuple[list[Question], list[Question]]:
        test = _questions(_TEST)
        if data.from_folder():
            return _questions(_TRAIN), test
        rows = [_from_big_bench(row) for row in data.read(_BIG)]
        return [_question(_BIG, number, row) for number, row in enumerate(rows, 1)], test

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the first yes or no of the reply, in any case, is the right one."""
        said = parsing.yes_no(parsing.without_prefix(text, question.answer_prefix))
        return Grade(float(said == question.answer), said)


def _questions(source: data.Source) -> list[Question]:
    return [_question(source, number, row) for number, row in enumerate(data.read(source), 1)]


def _question(source: data.Source, number: int, row: data.Row) -> Question:
    answer = _ANSWERS.get(str(row["target"]).strip().lower())
    if answer is None:
        raise data.malformed(source, number, f"target {row['target']!r} is neither Yes nor No")
    text = _OPTIONS.sub("", str(row["input"])).strip()
    return Question(
        id=f"navigate-{data.digest(text)[:12]}", text=text, answer=answer, instruction="Answer with only Yes or No."
    )


def _from_big_bench(row: data.Row) -> data.Row:
    """BIG-bench's own wording ("… Q: <steps> A:", targets True or False) → BBH's columns and wording."""
    steps = str(row["inputs"]).replace(_ASKED, " ").strip()
    steps = re.sub(r"\AQ:|A:\Z", "", steps).strip()
    targets = row["targets"]
    return {"input": f"{_ASKED} {steps}", "target": targets[0] if isinstance(targets, list) else targets}
