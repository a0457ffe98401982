"""Batched passes of a network over the same questions, disturbed in one way or another, and graded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neuromas.analysis.interventions import Intervention, MessageTexts, blanking, dealt_out, donors, replacing, swapped
from neuromas.analysis.shapley import Present
from neuromas.evaluate.run import record, summarise
from neuromas.evaluate.stats import Floats, wilson
from neuromas.network.forward import Absent, Network
from neuromas.network.turns import Deliver
from neuromas.results import Interval, Score
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.types import Grade, Question, Trace


@dataclass(frozen=True)
class Pass:
    """One answer to every question, in their order."""

    questions: Sequence[Question]
    traces: list[Trace]
    grades: list[Grade]

    @cached_property
    def rewards(self) -> Floats:
        """The reward of each question [P]."""
        return np.array([grade.reward for grade in self.grades], np.float64)

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.rewards.sum(), len(self.rewards))

    def messages(self) -> MessageTexts:
        """The text that each node wrote to each question."""
        texts: dict[str, dict[str, str]] = {}
        for question, trace in zip(self.questions, self.traces, strict=True):
            for call in trace.calls:
                texts.setdefault(call.node, {})[question.id] = call.text
        return texts

    def score(self) -> Score:
        """Accuracy with its interval, parse rate, calls and tokens."""
        graded = zip(self.questions, self.traces, self.grades, strict=True)
        return summarise([record(*answered) for answered in graded])


class Passes:
    """Passes of one network over one set of questions. All of them draw the same random numbers at the same place."""

    def __init__(
        self,
        network: Network,
        task: Task,
        questions: Sequence[Question],
        *,
        greedy: bool,
        seed: int,
        on_pass: Callable[[], None] = lambda: None,
    ) -> None:
        """greedy: how nodes decode. seed: of sampling, of shuffling and of donors. on_pass: called after every pass."""
        self.network, self.task, self.questions = network, task, list(questions)
        self.greedy, self.seed, self._on_pass = greedy, seed, on_pass
        self.hidden = tuple(n for n in network.topology.nodes if n != network.topology.output)
        self._dealt = dealt_out(self.questions, self.hidden, seed)

    @cached_property
    def donors(self) -> dict[str, Question]:
        """For the id of each question, the one whose messages it gets by the intervention "another's"."""
        return donors(self.questions, self.seed)

    @cached_property
    def undisturbed(self) -> Pass:
        """The pass of the network as it is."""
        return self.run()

    def run(self, network: Network | None = None, absent: Absent = (), deliver: Deliver | None = None) -> Pass:
        """A graded pass of `network` (by default the studied one), with the options of `Network.answer`."""
        traces = (network or self.network).answer(
            self.questions, greedy=self.greedy, seed=self.seed, absent=absent, deliver=deliver
        )
        grades = graded(self.task, self.questions, [trace.answer for trace in traces])
        self._on_pass()
        return Pass(self.questions, traces, grades)

    def disturbed(self, intervention: Intervention) -> Pass:
        """The pass with one intervention."""
        kind, target = intervention.kind, intervention.target
        if kind == "silenced":
            return self.run(absent=target.units)
        if kind == "blanked":
            return self.run(deliver=blanking(target.edges))
        if kind == "swapped":
            a, b = target.units
            assert isinstance(a, str) and isinstance(b, str)
            return self.run(swapped(self.network, a, b))
        sources = self._dealt
        if kind == "another's":
            donor_ids = {question: donor.id for question, donor in self.donors.items()}
            sources = dict.fromkeys(self.hidden, donor_ids)
        return self.run(deliver=replacing(target.edges, self.undisturbed.messages(), sources))

    def coalition(self, present: Present, *, blank: bool) -> Floats:
        """Rewards [P] where only some of the hidden nodes are present, for each question its own.

        The others do not exist; with `blank` they deliver empty messages instead.
        """
        if blank:
            return self.run(deliver=lambda q, _g, sender, _r, text: text if sender in present(q) else "").rewards
        return self.run(absent=lambda q, _g: frozenset(self.hidden) - present(q)).rewards

    def follows_donor(self, done: Pass) -> float:
        """The mean reward of the answers as answers to the questions whose messages were delivered."""
        donated = [self.donors[question.id] for question in self.questions]
        grades = graded(self.task, donated, [trace.answer for trace in done.traces])
        return float(np.mean([grade.reward for grade in grades]))
