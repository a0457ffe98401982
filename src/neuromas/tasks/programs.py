"""The common part of the code benchmarks: finding the program in a reply, and grading it in the sandbox.

A reply is never parsed here, let alone run: text is cut by plain patterns, and everything else happens in the sandbox.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from neuromas.tasks import parsing, sandbox
from neuromas.tasks.base import Split, check_count
from neuromas.tasks.loaded import LoadedTask
from neuromas.types import Floors, Grade, Question

FENCE = "```python\n"
# A fence of three or more backticks or tildes, also as an item of a list. Behind the first may stand a language.
_FENCE = re.compile(
    r"^(?P<indent>[ \t]*(?:(?:[-*+>]|[0-9]{1,3}[.)])[ \t]+)?)(?P<fence>`{3,20}|~{3,20})(?P<info>[^`\r\n]{0,60})\r?$",
    re.MULTILINE,
)
_CLOSE = re.compile(r"^(?P<indent>[ \t]{0,24})(?P<fence>`{3,20}|~{3,20})", re.MULTILINE)
_INFO = re.compile(r"[ \t]*[A-Za-z0-9_+.#-]{0,20}(?:[ \t{:].*)?")
_QUOTED = re.compile(r"^>[ ]?[`~]{3}", re.MULTILINE)
# What may be put before a program without running anything: imports, functions, classes, constants, comments.
_DEFINES = re.compile(
    r"(?:[ \t)\]}#@].*|(?:from|import|def|class|async)\b.*|[A-Z_][A-Z0-9_]*[ ]?(?::[^=]*)?=.*|\"{3}.*|'{3}.*|)"
)
# Lines of a reply that are no code, before and behind it.
_MARKER = r"\[/?[A-Z]+\]\s*$|</?[a-z]+>\s*$"
_SPEECH = re.compile(rf"\s*$|{_MARKER}|[A-Z][a-z']*[,!:.]?(?: (?![=:|&*/%+-])\S.*)?\s*$")
_SENTENCE = re.compile(rf"{_MARKER}|[A-Z][a-z']*,? [a-z]")
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
        return graded(questions, texts, self.program, self.limits)

    def floors(self, split: Split, limit: int | None = None) -> Floors:
        """A constant program answers only the one question it was written for."""
        floors = super().floors(split, limit)
        solved = next(q.id for q in self.questions(split)[:limit] if q.answer == floors.constant_answer)
        return replace(floors, constant_answer=f"solution of {solved}")


Read = Callable[[Question, str], str | None]  # The whole program that a reply amounts to; None where it has no code.


def graded(
    questions: Sequence[Question], texts: Sequence[str], program: Read, limits: sandbox.ResourceLimits
) -> list[Grade]:
    """1 for each reply whose program passes its question's tests. Equal programs for one question run once."""
    sandbox.active_layers()
    submissions = [_submission(question, text, program) for question, text in zip(questions, texts, strict=True)]
    distinct = list(dict.fromkeys(submission for submission in submissions if submission is not None))
    verdicts = dict(zip(distinct, sandbox.run_many(distinct, limits), strict=True))
    return [
        Grade(0.0, None) if submission is None else Grade(float(verdicts[submission].passed), submission.program)
        for submission in submissions
    ]


def _submission(question: Question, text: str, program: Read) -> sandbox.Submission | None:
    """The program in a reply with its question's tests; None where the reply has no code."""
    reply = parsing.conclusion(text.removeprefix(question.answer_prefix))
    found = program(question, reply.removeprefix(question.answer_prefix))
    if found is None:
        return None
    given = question.metadata
    return sandbox.Submission(found, given["tests"], tuple(given["names"]), given["setup"])


def blocks(reply: str) -> list[str]:
    """The fenced blocks of a reply that are not blank, without the indentation of a list that they stand in.

    A block ends at a fence of its own kind that is as long as its first, or at the end of the reply.
    """
    if _QUOTED.search(reply):
        reply = re.sub(r"(?m)^>[ ]?(?!>)", "", reply)
    found: list[str] = []
    position = 0
    while opening := _FENCE.search(reply, position):
        if not _INFO.fullmatch(opening["info"]):
            position = opening.end()
            continue
        start = min(opening.end() + 1, len(reply))
        fence, indent = opening["fence"], len(opening["indent"].expandtabs(4))
        closing = next((c for c in _closings(reply, start, indent + 3) if c["fence"].startswith(fence)), None)
        text = reply[start : closing.start() if closing else len(reply)]
        if text.strip():
            found.append(_moved_left(text, indent))
        if closing is None:
            break
        position = closing.end()
    return found


def block(reply: str, pattern: str = "") -> str | None:
    """The first fenced block whose text matches `pattern`, and before it the other blocks that only define things.

    So imports and helpers in blocks of their own are there; what such a block would run is not.
    """
    every = blocks(reply)
    main = next((text for text in every if re.search(pattern, text)), None)
    if main is None and pattern:  # The answer prefix may have opened one.
        every = [unfenced(text) for text in blocks(FENCE + reply)]
        main = next((text for text in every if re.search(pattern, text)), None)
    if main is None or not pattern:
        return main
    others = [
        text for text in every if not re.search(pattern, text) and all(map(_DEFINES.fullmatch, text.splitlines()))
    ]
    return "\n".join([*others, main])


def before_fence(reply: str) -> str:
    """The text before the first fence, which is the rest of a block that the answer prefix opened."""
    closing = next(_closings(reply, 0, 3), None)
    return reply[: closing.start()] if closing else reply


def unfenced(text: str) -> str:
    """Code that stands in no fence, without the sentences and marks around it ("Sure!", "[PYTHON]", "</code>")."""
    lines = text.splitlines(keepends=True)
    start = next((place for place, line in enumerate(lines) if not _SPEECH.match(line)), 0)
    body = max((place for place, line in enumerate(lines) if line[:1] in " \t" and line.strip()), default=start)
    end = next((place for place in range(body, len(lines)) if _SENTENCE.match(lines[place])), len(lines))
    return "".join(lines[start:end])


def _moved_left(text: str, indent: int) -> str:
    """Code without the indentation of its fence, where all of it is indented so, or by four more."""
    lines = text.expandtabs(4).splitlines(keepends=True)
    common = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(line[indent:] for line in lines) if indent and common in (indent, indent + 4) else text


def _closings(reply: str, start: int, indent: int) -> Iterator[re.Match[str]]:
    return (hit for hit in _CLOSE.finditer(reply, start) if len(hit["indent"].expandtabs(4)) <= indent)


def continued(body: str) -> str:
    """The text that continues a function, cut where the function is over."""
    stop = _STOPS.search(body)
    return body[: stop.start()] if stop else body


def definition(name: str) -> str:
    """A pattern for a line that defines `name`, for `block`."""
    return rf"(?m)^(?:async[ \t]+)?(?:def|class)[ \t]+{re.escape(name)}\b|^{re.escape(name)}[ \t]*(?::[^=\n]{{1,80}})?="
