"""A reward of a user's own: a function of question and reply, and the border at which what it says is checked."""

import contextlib
import importlib.util
import math
import numbers
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from neuromas.errors import NeuromasError, TaskError
from neuromas.types import Grade, Question

# (question, reply) -> a number from 0 to 1, a bool, None (no verdict), a Grade, or a dict of named parts, each one of
# these numbers or a pair of one and its weight
Reward = Callable[[Question, str], Any]
_HINT = "return a number from 0 to 1, a bool, None for no verdict, a Grade, or a dict of such numbers"
_LONGEST = 200  # characters of a value in a message
_WITNESS = """
import sys
said = b""
for said in sys.stdin.buffer: pass
if said.strip(): print("error:", said.decode().strip(), file=sys.stderr)
"""


def load_reward(place: str, folder: Path) -> Reward:
    """The function that "file.py:name" names; the file lies beside the task, in `folder`.

    Raises `TaskError` where there is none, or where the file cannot be run.
    """
    file, _, name = place.rpartition(":")
    path = folder / file
    spec = importlib.util.spec_from_file_location(f"reward_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TaskError(f"grader {place!r}: there is no file {path}; name it as it lies beside the task's file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise TaskError(f"grader {place!r}: {path} cannot be run ({shortened(error)}); correct it") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise TaskError(f"grader {place!r}: {path} has no function {name!r}; define it: def {name}(question, reply)")
    return function


def verdict(worth: object, parsed: str | None = None) -> Grade:
    """The grade for what a grader returned. Raises ValueError, with the reason, for what is no reward.

    parsed: the answer as it was understood, where the function does not say.
    """
    if isinstance(worth, Grade):
        said = None if worth.parsed is None else str(worth.parsed)
        reward = None if worth.abstained else _number(worth.reward)
        parts = {str(name): part for name, value in worth.parts.items() if (part := _number(value)) is not None}
        return Grade(reward or 0.0, said, reward is None, bool(worth.ambiguous), parts)
    if isinstance(worth, Mapping):
        return _weighed(worth, parsed)
    reward = _number(worth)
    return Grade(reward or 0.0, parsed, abstained=reward is None)


def _weighed(parts: Mapping[Any, Any], parsed: str | None) -> Grade:
    """The mean of named parts by their weights; those that are None do not count."""
    pairs = {str(name): part if isinstance(part, tuple) else (part, 1.0) for name, part in parts.items()}
    if bad := [name for name, pair in pairs.items() if len(pair) != 2]:
        raise ValueError(f"part {bad[0]!r} is neither a number nor a pair of a number and its weight")
    weights = {name: float(pair[1]) for name, pair in pairs.items()}
    rewards = {name: reward for name, (part, _) in pairs.items() if (reward := _number(part)) is not None}
    total = sum(weights[name] for name in rewards)
    if not all(0 <= weight < math.inf for weight in weights.values()) or (rewards and not total):
        raise ValueError(f"the weights are {weights}, and must be 0 or more, not all 0")
    reward = sum(weights[name] * reward for name, reward in rewards.items()) / total if rewards else 0.0
    return Grade(min(1.0, reward), parsed, abstained=not rewards, parts=rewards)


def _number(value: Any) -> float | None:
    of_numpy = type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")  # not a number by name
    if value is None:
        return None
    if not isinstance(value, numbers.Number) and not of_numpy:
        raise ValueError(f"it is a {type(value).__name__}")
    if not 0 <= (number := float(value)) <= 1:  # pyright: ignore[reportArgumentType]
        raise ValueError("it is not finite" if not math.isfinite(number) else "it is not from 0 to 1")
    return number


def judged(task: Any, question: Question, worth: object, parsed: str | None) -> Grade:
    """The grade for what was returned. Raises `TaskError` with task, question and value for what is no reward."""
    try:
        return verdict(worth, parsed)
    except (TypeError, ValueError, OverflowError) as error:
        raise TaskError(f"{reward_of(task, question)} is {shortened(worth)}: {error}; {_HINT}") from error


def graded(task: Any, questions: Sequence[Question], texts: Sequence[str], *, abstain: bool = False) -> list[Grade]:
    """The task's verdict on each reply, checked, whatever a user's grader returns.

    abstain: whether the caller can do without a verdict. Raises `TaskError` with task, question and value at the first
    verdict that is none.
    """
    found = zip(questions, texts, task.grade_many(questions, texts), strict=True)
    grades = [judged(task, question, worth, text) for question, text, worth in found]
    missing = next((q for q, grade in zip(questions, grades, strict=True) if grade.abstained and not abstain), None)
    if missing is not None:
        raise TaskError(f"{reward_of(task, missing)} is None, and this needs a verdict on every reply; return a number")
    return grades


def rewarded(task: Any, reward: Reward, question: Question, reply: str) -> Grade:
    """The grade that a function gives for a reply. Raises `TaskError` as `judged` does."""
    (worth,) = one_by_one(task, reward, [question], [reply])
    return judged(task, question, worth, parsed_as(reply))


def one_by_one(task: Any, grade: Reward, questions: Iterable[Question], texts: Iterable[str]) -> list[Any]:
    """The verdicts of `grade`, unchecked. Raises `TaskError` that names the question where it raises anything.

    Where `grade` is not of this library, a second process tells what was asked if it ends this one.
    """
    ours = str(getattr(grade, "__module__", None)).startswith("neuromas.")
    worths: list[Any] = []
    for question, text in zip(questions, texts, strict=True):
        try:
            with contextlib.nullcontext() if ours else on_death(_last_words(task, question, text)):
                worths.append(grade(question, text))
        except NeuromasError:
            raise
        except (Exception, SystemExit) as error:
            raise not_had(task, question, error) from error
    return worths


@contextlib.contextmanager
def on_death(words: str) -> Iterator[None]:
    """Print `words`, one line, to standard error where the process ends inside of the block, by whatever means."""
    pipe = _pipe()
    with contextlib.suppress(OSError):
        pipe.write(words.encode(errors="backslashreplace") + b"\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            pipe.write(b"\n")


@cache
def _pipe() -> IO[bytes]:
    """The way to the second process, which ends with this one."""
    command = [sys.executable, "-I", "-S", "-c", _WITNESS]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
    assert process.stdin is not None
    return process.stdin


def _last_words(task: Any, question: Question, text: str) -> str:
    asked = f"{reward_of(task, question)} for {shortened(text)}"
    return f"{asked} was being computed when the process ended; if the grader ended it, correct the grader"


def parsed_as(reply: str) -> str | None:
    """A reply as it is understood where a function does not say; None for an empty one."""
    return " ".join(reply.casefold().split()).strip(" .") or None


def not_had(task: Any, question: Question, error: BaseException) -> TaskError:
    """The error that a reward could not be computed."""
    return TaskError(f"{reward_of(task, question)} cannot be had ({shortened(error)}); correct the grader")


def reward_of(task: Any, question: Question) -> str:
    """A reward, as errors name it."""
    return f"task {task.name!r}: the reward of question {question.id!r}"


def shortened(value: object) -> str:
    """A value, or an exception, on one line of at most 200 characters."""
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
    return " ".join(text.split())[:_LONGEST]
