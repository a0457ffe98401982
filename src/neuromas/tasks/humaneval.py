"""HumanEval: functions to be written from their signature and description, graded by the official tests."""

import re
from typing import ClassVar

from neuromas.tasks import mbpp, programs
from neuromas.tasks.tables import RawRow, Source
from neuromas.types import Question

_COLUMNS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


class HumanEval(programs.CodeTask):
    """Chen et al. 2021 (MIT): 164 functions; pass@1. Training questions are MBPP's, ids 601 to 974.

    As in MBPP, the answer prefix opens a block, so that training and test ask for the same form: a whole function. The
    function's body alone, which base models write, is read as well. In this order:

    1. A fenced block that defines the function is the solution, put after the prompt (its imports and helpers).
    2. So is the text before the first fence, where it defines the function at the start of a line.
    3. Else that text continues the prompt, up to the first line that starts with class, def, #, if or print.
       Where it is blank, the first fenced block does.

    A body whose first line is not indented is indented by four spaces.

    A real sample (HumanEval/28):

        text         from typing import List

                     def concatenate(strings: List[str]) -> str:
                         \""" Concatenate list of strings into a single string
                         >>> concatenate([])
                         ''
                         >>> concatenate(['a', 'b', 'c'])
                         'abc'
                         \"""
        instruction  Complete the function. Answer with only the Python code.
        prefix       ```python
        answer           return ''.join(strings)
    """

    name = "humaneval"
    version = 2
    changes: ClassVar = {
        1: "First version.",
        2: "Fences in lists, of tildes, and several blocks are read; thoughts are left out.",
    }
    max_answer_tokens = 512
    source = "openai_humaneval (MIT); training: MBPP (CC BY 4.0)"

    test_rows = Source("humaneval_test", "openai/openai_humaneval", "openai_humaneval", "test", _COLUMNS)

    def load(self) -> tuple[list[Question], list[Question]]:
        test = self.questions_in(self.test_rows)
        return mbpp.published(mbpp.TRAIN_IDS), test

    def render(self, row: RawRow) -> Question:
        return render(row)

    def program(self, question: Question, reply: str) -> str | None:
        if question.id.startswith("mbpp-"):
            return mbpp.whole(question, reply)
        return complete(question.text, question.metadata["names"][0], reply)


def render(row: RawRow) -> Question:
    """The question of one row. Raises ValueError for a row that makes none."""
    for column in _COLUMNS:
        if not isinstance(row[column], str) or not row[column].strip():
            raise ValueError(f"{column} must be text, got {str(row[column])[:60]!r}")
    prompt, function = row["prompt"], row["entry_point"]
    if not function.isidentifier() or f"def {function}" not in prompt or "def check(" not in row["test"]:
        raise ValueError(f"prompt and test do not belong to a function {function!r}")
    return Question(
        id=row["task_id"],
        text=prompt,
        answer=row["canonical_solution"],
        instruction="Complete the function. Answer with only the Python code.",
        answer_prefix=programs.FENCE,
        metadata={"tests": f"{row['test']}\n\ncheck({function})\n", "names": [function], "setup": prompt},
    )


def complete(prompt: str, entry_point: str, reply: str) -> str | None:
    """Prompt and reply as one program, by the rules of `HumanEval`; None where the reply has no code."""
    definition = programs.definition(entry_point)
    before = programs.before_fence(reply)
    solution = programs.block(reply, definition)
    if solution is None and re.search(definition, before):
        solution = programs.unfenced(before)
    if solution is not None:
        return f"{prompt}\n\n{solution}"
    body = programs.continued(before if before.strip() else programs.block(reply) or "")
    if not body.strip():
        return None
    first = next(line for line in body.splitlines() if line.strip())
    if first[0] not in " \t":
        body = "\n".join(f"    {line}" for line in body.splitlines())
    return prompt + body
