"""The common part of the code benchmarks: finding the program in a reply, and grading it in the sandbox.

A reply is never parsed here, let alone run: text is cut by plain patterns, and everything else happens in the sandbox.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from neuromas.tasks import sandbox
from neuromas.tasks.base import Split, check_count
from neuromas.tasks.loaded import LoadedTask
from neuromas.types import Floors, Grade, Question

FENCE = "```python\n"
_OPEN = re.compile(r"^[ \t]{0,3}```[ \t]*[A-Za-z0-9_+.-]{0,20}[ \t]*\r?$", re.MULTILINE)
_CLOSE = re.compile(r"^[ \t]{0,3}```", re.MULTILINE)
# A function is over where one of these lines begins: the stop sequences of Chen et al. 2021, §3.1.
_STOPS = re.compile(r"\n(?:class|def|#|if|print)")


class CodeTask(LoadedTask):
    """A benchmark whose answers are programs: reward 1 if all tests pass, `parsed` is the program that was run."""

    max_answer_tokens = 384
    default_validation_size = 50

    def __init__(self, validation_size: int | None = None, seed: int = 0, cpu_seconds: int = 4) -> None:
        """cpu_seconds: the computing time of one program."""
        check_count(self.name, "cpu_seconds", cpu_seconds, least=1)
        super().__init__(validation_size, seed)
        self.limits = sandbox.ResourceLimits(cpu_seconds=cpu_seconds, wall_seconds=4.0 * cpu_seconds)

    @abstractmethod
    def program(self, question: Question, reply: str) -> str | None:
        """The whole program that a reply amounts to; None where it has no code."""

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the program passes every test in the sandbox. Raises TaskError where there can be no sandbox."""
        return self.grade_many([question], [text])[0]

    def grade_many(self, questions: Sequence[Question], texts: Sequence[str]) -> list[Grade]:
        """As `grade`, several programs at a time. Equal programs for one question run once."""
        sandbox.active_layers()
        submissions = [self.submission(question, text) for question, text in zip(questions, texts, strict=True)]
        distinct = list(dict.fromkeys(submission for submission in submissions if submission is not None))
        verdicts = dict(zip(distinct, sandbox.run_many(distinct, self.limits), strict=True))
        return [
            Grade(0.0, None) if submission is None else Grade(float(verdicts[submission].passed), submission.program)
            for submission in submissions
        ]

    def submission(self, question: Question, text: str) -> sandbox.Submission | None:
        """The program in a reply with its question's tests; None where the reply has no code."""
        program = self.program(question, text.removeprefix(question.answer_prefix))
        if program is None:
            return None
        given = question.metadata
        return sandbox.Submission(program, given["tests"], tuple(given["names"]), given["setup"])

    def floors(self, split: Split, limit: int | None = None) -> Floors:
        """A constant program answers only the one question it was written for."""
        floors = super().floors(split, limit)
        solved = next(q.id for q in self.questions(split)[:limit] if q.answer == floors.constant_answer)
        return replace(floors, constant_answer=f"solution of {solved}")


def block(reply: str, pattern: str = "") -> str | None:
    """The first fenced block whose text matches `pattern`. One that is never closed runs to the end of the reply."""
    position = 0
    while opening := _OPEN.search(reply, position):
        start = min(opening.end() + 1, len(reply))
        closing = _CLOSE.search(reply, start)
        text = reply[start : closing.start() if closing else len(reply)]
        if text.strip() and re.search(pattern, text):
            return text
        if closing is None:
            return None
        position = closing.end()
    return None


def before_fence(reply: str) -> str:
    """The text before the first fence, which is the rest of a block that the answer prefix opened."""
    closing = _CLOSE.search(reply)
    return reply[: closing.start()] if closing else reply


def continued(body: str) -> str:
    """The text that continues a function, cut where the function is over."""
    stop = _STOPS.search(body)
    return body[: stop.start()] if stop else body


def definition(name: str) -> str:
    """A pattern for a line that defines `name`, for `block`."""
    return rf"(?m)^(?:async[ \t]+)?(?:def|class)[ \t]+{re.escape(name)}\b|^{re.escape(name)}[ \t]*="
