"""SelfCheck: a model checks its own work step by step. Miao et al. 2023, arXiv 2308.00436; and a cheap form of it."""

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from neuromas.baselines.chat import (
    MIXED,
    Baseline,
    Chat,
    Dialogue,
    Note,
    Parse,
    Request,
    answer,
    at_least,
    message,
    numbered,
)
from neuromas.baselines.vote import elect
from neuromas.types import Question

CHECK = "Check the answer given. Say briefly whether it is right, and where it is wrong."
REVISE = "Answer the question, and correct the given answer where the check found a mistake."

SOLVE = "Solve the question step by step, one short step on each line. Do not repeat the question."
CONCLUDE = "Give the answer that the solution comes to."
TARGET = "Say in one sentence what the last step of the solution sets out to find."
COLLECT = "Which facts and earlier steps does the last step use? Reply with their names only, such as: Fact 1, Step 2."
REGENERATE = "Reach the target from the facts and steps given. Reply with one short step."
COMPARE = "Compare the two steps. Reply with one word: Supports, Contradicts or Unrelated."

StepVerdict = Literal["supports", "contradicts", "unrelated"]

_REFERENCE = re.compile(r"\b(fact|step)s?\W{0,3}([0-9]+(?:\s*(?:,|and|&)\s*[0-9]+)*)", re.IGNORECASE)
_CONTRADICTS = re.compile(r"(?<!not )\bcontradict", re.IGNORECASE)
_SUPPORTS = re.compile(r"(?<!not )\bsupport", re.IGNORECASE)
_NUMBERING = re.compile(r"\A\s*(?:step\s*[0-9]*|[0-9]+)\s*[:.)]\s+", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class SelfCheck(Baseline):
    """The cheap form: solve, check, revise. 3 calls, one after the other."""

    title = "self-check"

    def dialogue(self, question: Question) -> Dialogue:
        (first,) = yield [answer("solve")]
        (check,) = yield [message("check", CHECK, ("Answer", first))]
        (final,) = yield [answer("revise", REVISE, ("Answer", first), ("Check", check))]
        return final


class SolutionStep(NamedTuple):
    """One step of one solution, to be checked."""

    solution: int
    name: str
    so_far: list[Note]  # the solution up to this step

    @property
    def text(self) -> str:
        """The words of the step."""
        return self.so_far[-1][1]


class StepwiseSelfCheck(Baseline):
    """The published form: every step of every solution is worked out a second time, and answers vote by confidence.

    Calls: samples·2 + 4 for each step, at most samples·(2 + 4·steps); 6 of them one after the other. A solution is
    written by one call and its answer by a second, because tasks ask for an answer alone; the question's facts are its
    sentences, where the paper asks the model to copy them out. A solution with more than `steps` steps has the rest in
    its last one.
    """

    title = "self-check-steps"
    greedy_name = MIXED

    def __init__(self, chat: Chat, parse: Parse, samples: int = 3, steps: int = 4) -> None:
        super().__init__(chat)
        at_least(1, samples=samples, steps=steps)
        self.parse, self.samples, self.steps = parse, samples, steps

    def dialogue(self, question: Question) -> Dialogue:
        numbers = range(1, self.samples + 1)
        solutions = yield [message(f"solve-{s}", SOLVE, sampled=True) for s in numbers]
        answers = yield [
            answer(f"conclude-{s}", CONCLUDE, ("Solution", text)) for s, text in zip(numbers, solutions, strict=True)
        ]
        facts = numbered("Fact", sentences(question.text))
        split = [split_steps(text, self.steps) for text in solutions]
        steps = [
            SolutionStep(s, f"{s + 1}.{i}", numbered("Step", texts[:i]))
            for s, texts in enumerate(split)
            for i in range(1, len(texts) + 1)
        ]
        verdicts: list[list[StepVerdict]] = [[] for _ in split]
        if steps:
            targets = yield [message(f"target-{step.name}", TARGET, *step.so_far) for step in steps]
            references = yield [
                message(f"collect-{step.name}", COLLECT, *facts, *step.so_far, sees_question=False) for step in steps
            ]
            again = yield [
                _regenerate(f"regenerate-{step.name}", target, select(named, facts, step.so_far[:-1]))
                for step, target, named in zip(steps, targets, references, strict=True)
            ]
            compared = yield [
                message(f"compare-{step.name}", COMPARE, ("First", redone), ("Second", step.text), sees_question=False)
                for step, redone in zip(steps, again, strict=True)
            ]
            for step, text in zip(steps, compared, strict=True):
                verdicts[step.solution].append(read_verdict(text))
        return answers[elect([self.parse(question, text) for text in answers], [confidence(v) for v in verdicts])]


def _regenerate(stage: str, target: str, given: list[Note]) -> Request:
    return message(stage, REGENERATE, *given, ("Target", target), sees_question=False)


def confidence(verdicts: Sequence[StepVerdict], contradicts: float = 0.5, unrelated: float = 0.2) -> float:
    """A solution's weight in (0, 1]: 2σ(-λ₁·contradictions - λ₂·unrelated); 1 when every step is supported."""
    penalty = contradicts * verdicts.count("contradicts") + unrelated * verdicts.count("unrelated")
    return 2 / (1 + math.exp(penalty))


def read_verdict(text: str) -> StepVerdict:
    """The verdict of a comparison; a reply that cannot be read counts as unrelated."""
    if _CONTRADICTS.search(text):
        return "contradicts"
    return "supports" if _SUPPORTS.search(text) else "unrelated"


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, none empty."""
    return [part.strip() for line in text.splitlines() for part in _SENTENCE.split(line) if part.strip()]


def split_steps(solution: str, most: int) -> list[str]:
    """A solution's steps: its lines, or the sentences of its only line; those beyond `most` are joined to the last."""
    lines = [_NUMBERING.sub("", line).strip() for line in solution.splitlines()]
    lines = [line for line in lines if line]
    steps = lines if len(lines) > 1 else sentences(solution)
    return [*steps[: most - 1], " ".join(steps[most - 1 :])] if len(steps) > most else steps


def select(references: str, facts: list[Note], steps: list[Note]) -> list[Note]:
    """The facts and steps that a reply refers to; all of them where it refers to none."""
    wanted = {
        f"{kind.capitalize()} {number}"
        for kind, numbers in _REFERENCE.findall(references)
        for number in re.findall("[0-9]+", numbers)
    }
    return [note for note in facts + steps if note[0] in wanted] or facts + steps
