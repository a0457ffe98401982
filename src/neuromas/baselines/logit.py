"""The logit-scored control: the frozen backbone's most likely option, without writing a word.

It shows how much of a score is knowledge and how much is answering in the right form. Scoring the options' letters by
their log-probability is the usual way of measuring multiple choice (Hendrycks et al. 2021, arXiv 2009.03300, §4).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from neuromas.baselines.chat import Chat
from neuromas.errors import ConfigError
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.network.prompt import Prompt
from neuromas.network.topology import Topology
from neuromas.network.wording import Words
from neuromas.types import NodeCall, Question, Trace

Choices = Callable[[Question], tuple[str, ...] | None]


@dataclass(frozen=True)
class _Scoring:
    """A question with its prompt and the options to be scored."""

    question: Question
    prompt: Prompt
    options: list[str]  # the possible answers as they would follow the prompt, e.g. " A"
    ids: list[list[int]]  # the options' tokens, one for each letter in most tokenizers


class Logit:
    """Scores each possible answer by the log-probability of its tokens after the answer prefix; the best one wins.

    One call and no generated token a question. Of equally likely options the first wins. Nothing is sampled, so all
    rollouts are the same.
    """

    trainable_parameters = 0
    decoding_name = "scored"

    def __init__(self, chat: Chat, choices: Choices) -> None:
        """choices: a question's possible answers, as `Task.choices` gives them; None where they cannot be listed."""
        self.backbone, self.limits, self.choices = chat.backbone, chat.limits, choices
        self.topology = Topology.parse("single")
        self.name = f"logit ({chat.name})"

    def answer(
        self, questions: list[Question], *, greedy: bool = True, seed: int = 0, rollouts: int = 1
    ) -> list[Trace]:
        """The `System` protocol; prompts of like length are scored together."""
        scorings = [self._prepare(question) for question in questions]
        traces: dict[int, Trace] = {}
        order = sorted(range(len(scorings)), key=lambda i: len(scorings[i].prompt.prefix_ids))
        widest = max((len(s.options) for s in scorings), default=1)
        size = max(1, self.limits.batch_rows // widest)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            clock = time.perf_counter()
            best = self._best([scorings[i] for i in batch])
            seconds = (time.perf_counter() - clock) / len(batch)
            traces |= {i: self._trace(scorings[i], b, seconds) for i, b in zip(batch, best, strict=True)}
        return [
            replace(t, rollout=g, calls=list(t.calls), seconds=t.seconds / rollouts)
            for t in (traces[i] for i in range(len(scorings)))
            for g in range(rollouts)
        ]

    def scores(self, question: Question) -> dict[str, float]:
        """Possible answer → log-probability (nats) of its tokens."""
        (log_probabilities,) = self._score([self._prepare(question)])
        return dict(zip(self.choices(question) or (), log_probabilities, strict=True))

    def _prepare(self, question: Question) -> _Scoring:
        """Raises ConfigError for a question whose answers cannot be listed."""
        answers = self.choices(question)
        if not answers:
            raise ConfigError(
                f"logit scores possible answers, and question {question.id!r} has no list of them; choose a task with "
                "options, such as arc-challenge, or another system"
            )
        template = self.backbone.template
        prefix = "" if template.style == "compact" else question.answer_prefix  # compact prompts leave it out
        space = " " if prefix and not prefix[-1].isspace() else ""
        options = [space + answer for answer in answers]
        ids = [template.encode(option) for option in options]
        position = self.topology.position(self.topology.output)
        wording, room = Words.of(None, template.style).at(position, 1), max(map(len, ids))
        return _Scoring(question, template.render(position, question, [], room, wording), options, ids)

    def _best(self, batch: list[_Scoring]) -> list[int]:
        return [max(range(len(scores)), key=scores.__getitem__) for scores in self._score(batch)]

    @torch.no_grad()
    def _score(self, batch: list[_Scoring]) -> list[list[float]]:
        """Log-probabilities of every question's options, in one packed pass that reads each prompt once."""
        groups = [Group(0, s.prompt.prefix_ids, [s.prompt.own_ids for _ in s.ids]) for s in batch]
        completions = [ids for s in batch for ids in s.ids]
        logprobs_L, _ = replay(self.backbone, None, groups, completions, temperature=1.0)
        sums = iter([float(part.sum()) for part in logprobs_L.double().split([len(ids) for ids in completions])])
        return [[next(sums) for _ in s.ids] for s in batch]

    def _trace(self, scoring: _Scoring, best: int, seconds: float) -> Trace:
        call = NodeCall(
            node=self.topology.output,
            prefix_ids=scoring.prompt.prefix_ids,
            own_ids=scoring.prompt.own_ids,
            completion_ids=[],
            logprobs=[],
            entropies=[],
            text=scoring.options[best],
            truncated=False,
        )
        answer = scoring.question.answer_prefix + scoring.options[best]
        return Trace(scoring.question.id, 0, [call], answer, 1, seconds, sequential_tokens=0)
