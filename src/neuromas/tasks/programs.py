"""What the code benchmarks share: finding the program in a reply, and grading it in the sandbox.

A reply is never parsed here, let alone run: text is cut by plain patterns, and everything else happens in the sandbox.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from neuromas.errors import TaskError
from neuromas.tasks import sandbox
from neuromas.tasks.base import Split
from neuromas.tasks.data import LoadedTask
from neuromas.types import Floors, Grade, Question

FENCE = "```python\n"
_OPEN = re.compile(r"^[ \t]{0,3}```[ \t]*[A-Za-z0-9_+.-]{0,20}[ \t]*\r?$", re.MULTILINE)
_CLOSE = re.compile(r"^[ \t]{0,3}```", re.MULTILINE)
# Where a continued function is over; the stop sequences of Chen et al. 2021, §3.1.
_STOPS = re.compile(r"\n(?:class|def|#|if|print)")


class CodeTask(LoadedTask):
    """A benchmark whose answers are programs: reward 1 if all tests pass, `parsed` is the program that was run."""

    max_answer_tokens = 384

    def __init__(self, validation_size: int, seed: int, cpu_seconds: int) -> None:
        """cpu_seconds: of computing time for one program."""
        if type(cpu_seconds) is not int or cpu_seconds < 1:
            raise TaskError(
                f"task {self.name!r}: cpu_seconds must be a whole number of at least 1, got {cpu_seconds!r}"
            )
        super().__init__(validation_size, seed)
        self.limits = sandbox.Limits(cpu_seconds=cpu_seconds, wall_seconds=4.0 * cpu_seconds)

    @abstractmethod
    def program(self, question: Question, reply: str) -> str | None:
        """The whole program that a reply amounts to, or None where it has no code."""

    def grade(self, question: Question, text: str) -> Grade:
        """1 if the program passes every test in the sandbox. Raises TaskError where there can be no sandbox."""
        return self.grade_many([question], [text])[0]

    def grade_many(self, questions: Sequence[Question], texts: Sequence[str]) -> list[Grade]:
        """As `grade`, several programs at a time; equal programs for one question run once."""
        sandbox.active_layers()
        jobs: dict[sandbox.Job, None] = {}
        wanted: list[sandbox.Job | None] = []
        for question, text in zip(questions, texts, strict=True):
            program = self.program(question, text.removeprefix(question.answer_prefix))
            job = None if program is None else self.job(question, program)
            wanted.append(job)
            if job is not None:
                jobs[job] = None
        verdicts = dict(zip(jobs, sandbox.run_many(list(jobs), self.limits), strict=True))
        return [Grade(0.0, None) if job is None else Grade(float(verdicts[job].passed), job.program) for job in wanted]

    def floors(self, split: Split, limit: int | None = None) -> Floors:
        """A constant program answers the one question it was written for."""
        floors = super().floors(split, limit)
        own = next(q.id for q in self.questions(split)[:limit] if q.answer == floors.constant_answer)
        return replace(floors, constant_answer=f"solution of {own}")

    def job(self, question: Question, program: str) -> sandbox.Job:
        """The sandbox's job for one program."""
        return sandbox.Job(
            program=program,
            tests=question.metadata["tests"],
            names=tuple(question.metadata["names"]),
            setup=question.metadata["setup"],
        )


def block(reply: str, must_have: str = "") -> str | None:
    """The first fenced block whose text matches the pattern `must_have`; one that is never closed runs to the end."""
    at = 0
    while opening := _OPEN.search(reply, at):
        start = min(opening.end() + 1, len(reply))
        closing = _CLOSE.search(reply, start)
        text = reply[start : closing.start() if closing else len(reply)]
        if text.strip() and re.search(must_have, text):
            return text
        if closing is None:
            return None
        at = closing.end()
    return None


def before_fence(reply: str) -> str:
    """What stands before the first fence: the rest of a block that the answer prefix opened."""
    closing = _CLOSE.search(reply)
    return reply[: closing.start()] if closing else reply


def continued(body: str) -> str:
    """A function's continuation, cut where the function is over."""
    stop = _STOPS.search(body)
    return body[: stop.start()] if stop else body


def definition(name: str) -> str:
    """A pattern for a line that defines `name`, for `block`."""
    return rf"(?m)^(?:async[ \t]+)?(?:def|class)[ \t]+{re.escape(name)}\b|^{re.escape(name)}[ \t]*="
