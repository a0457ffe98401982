"""Batched passes of a network over the same questions, disturbed in one way or another, and graded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neuromas.analysis.interventions import Intervention, Said, blanking, dealt_out, donors, replacing, swapped
from neuromas.evaluate.run import record, summarise
from neuromas.evaluate.stats import Floats
from neuromas.network.forward import Absent, Deliver, Network
from neuromas.tasks.base import Task
from neuromas.types import Grade, Question, Trace

Present = Callable[[str], frozenset[str]]  # question id → the hidden nodes that take part


@dataclass(frozen=True)
class Pass:
    """One answer to every question, in their order."""

    questions: Sequence[Question]
    traces: list[Trace]
    grades: list[Grade]

    @cached_property
    def rewards(self) -> Floats:
        return np.array([g.reward for g in self.grades], np.float64)

    def said(self) -> Said:
        """What each node wrote: node → question id → text."""
        out: dict[str, dict[str, str]] = {}
        for question, trace in zip(self.questions, self.traces, strict=True):
            for call in trace.calls:
                out.setdefault(call.node, {})[question.id] = call.text
        return out

    def summary(self) -> dict[str, Any]:
        """Accuracy with its interval, parse rate, calls and tokens, as `evaluate` returns them."""
        graded = zip(self.questions, self.traces, self.grades, strict=True)
        return summarise([record(*answered) for answered in graded]).to_dict()


class Passes:
    """A network, its questions, and how they are decoded. At one place every pass draws the same random numbers."""

    def __init__(
        self,
        network: Network,
        task: Task,
        questions: Sequence[Question],
        *,
        greedy: bool,
        seed: int,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """watch is called after every pass."""
        self.network, self.task, self.questions = network, task, list(questions)
        self.greedy, self.seed, self._watch = greedy, seed, watch
        self.hidden = tuple(n for n in network.topology.nodes if n != network.topology.output)
        self._dealt = dealt_out(self.questions, self.hidden, seed)

    @cached_property
    def donors(self) -> dict[str, Question]:
        return donors(self.questions, self.seed)

    @cached_property
    def undisturbed(self) -> Pass:
        return self.run()

    def run(self, network: Network | None = None, absent: Absent = (), deliver: Deliver | None = None) -> Pass:
        traces = (network or self.network).answer(
            self.questions, greedy=self.greedy, seed=self.seed, absent=absent, deliver=deliver
        )
        grades = self.task.grade_many(self.questions, [trace.answer for trace in traces])
        self._watch()
        return Pass(self.questions, traces, grades)

    def disturbed(self, what: Intervention) -> Pass:
        target = what.target
        if what.kind == "silenced":
            return self.run(absent=target.units)
        if what.kind == "blanked":
            return self.run(deliver=blanking(target.edges))
        if what.kind == "swapped":
            a, b = target.units
            assert isinstance(a, str) and isinstance(b, str)
            return self.run(swapped(self.network, a, b))
        source = self._dealt
        if what.kind == "another's":
            given = {question: donor.id for question, donor in self.donors.items()}
            source = dict.fromkeys(self.hidden, given)
        return self.run(deliver=replacing(target.edges, self.undisturbed.said(), source))

    def coalition(self, present: Present, *, blank: bool) -> Floats:
        """Rewards where of the hidden nodes only some take part, each question with its own.

        The others do not exist, or (blank) deliver empty messages.
        """
        if blank:
            return self.run(deliver=lambda q, _g, sender, _r, text: text if sender in present(q) else "").rewards
        return self.run(absent=lambda q, _g: frozenset(self.hidden) - present(q)).rewards

    def follows_donor(self, done: Pass) -> float:
        """Share of answers that are right for the question whose messages were delivered."""
        asked = [self.donors[q.id] for q in self.questions]
        return float(np.mean([g.reward for g in self.task.grade_many(asked, [t.answer for t in done.traces])]))
