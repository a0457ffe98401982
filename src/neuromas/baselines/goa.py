"""Graph-of-Agents: score each other, then refine along the ranking, down and up again. arXiv 2604.17148.

The paper first picks k models out of a pool; here all k agents are one backbone, so there is nothing to pick.
"""

import re
from collections.abc import Sequence
from typing import Literal

from neuromas.baselines.chat import MIXED, Baseline, Chat, Dialogue, Note, answer, at_least, message, numbered
from neuromas.errors import ConfigError
from neuromas.types import Question

PROPOSE = "Answer the question. After the answer write 'Confidence:' and a number from 0 to 1."
SCORE = "Judge the answers to the question: give each a score from 0 to 1, so that the scores add up to 1. Reply with"
DOWN = "Here are answers that were judged better than yours. Use what is right in them and answer the question again."
UP = "Others have revised their answers after reading yours. Use what is right in them and answer the question again."
POOL = "Combine these answers, each with its relevance from 0 to 1, into one final answer to the question."

_CONFIDENCE_TOKENS = 16
_CONFIDENCE = re.compile(r"[\s.,;(]*\bconfidence\W{0,8}?([0-9]*\.?[0-9]*)(\s?%?)\W*\Z", re.IGNORECASE)
_LABEL = re.compile(r"\banswer\s*[0-9]+", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")


class GraphOfAgents(Baseline):
    """`agents` proposals, ranked by the scores of the others; `pool` says how the refined ones become one answer.

    Calls, with k agents: 4k - 1 (mean) or 3k (max), 5 or 4 of them one after the other. Answers whose relevance is not
    above `threshold` drop out, which saves calls; where one answer is left, it is final. Confidence breaks ties of the
    ranking (the paper uses it to replace a weak model by another one, and here there is one model only).
    """

    title = "goa"
    greedy_name = MIXED

    def __init__(
        self, chat: Chat, agents: int = 3, pool: Literal["mean", "max"] = "mean", threshold: float = 0.05
    ) -> None:
        """Raises ConfigError for an unknown `pool` or fewer than two agents."""
        super().__init__(chat)
        at_least(2, agents=agents)
        if pool not in ("mean", "max"):
            raise ConfigError(f"pool is {pool!r}: refined answers can be pooled by 'mean' or 'max'; choose one")
        self.agents, self.pool, self.threshold = agents, pool, threshold

    def dialogue(self, question: Question) -> Dialogue:
        everyone = range(self.agents)
        proposals = yield [
            answer(f"propose-{i + 1}", PROPOSE, sampled=True, extra_tokens=_CONFIDENCE_TOKENS) for i in everyone
        ]
        split = [split_confidence(text) for text in proposals]
        answers = [text for text, _ in split]
        judge = f"{SCORE} {self.agents - 1} numbers, separated by commas."
        of_others = [numbered("Answer", answers[:i] + answers[i + 1 :]) for i in everyone]
        judgements = yield [message(f"score-{i + 1}", judge, *of_others[i]) for i in everyone]
        scores = relevance(judgements)
        ranked = sorted(everyone, key=lambda i: (-scores[i], -split[i][1], i))
        kept = [i for i in ranked if scores[i] > self.threshold] or ranked[:1]
        if len(kept) == 1:
            return answers[kept[0]]

        def others(ids: Sequence[int]) -> list[Note]:
            return [(f"Answer {i + 1}, relevance {scores[i]:.2f}", answers[i]) for i in ids]

        below = kept[1:]
        revised = yield [
            answer(f"down-{i + 1}", DOWN, ("Your answer", answers[i]), *others(kept[:n]))
            for n, i in enumerate(below, 1)
        ]
        answers = _replaced(answers, below, revised)
        above = kept[:-1] if self.pool == "mean" else kept[:1]
        revised = yield [
            answer(f"up-{i + 1}", UP, ("Your answer", answers[i]), *others(kept[n:])) for n, i in enumerate(above, 1)
        ]
        answers = _replaced(answers, above, revised)
        if self.pool == "max":
            return answers[kept[0]]
        (final,) = yield [answer("pool", POOL, *others(kept))]
        return final


def split_confidence(text: str) -> tuple[str, float]:
    """An answer without the confidence that ends it, and the confidence in [0, 1]; 0 where none can be read."""
    hit = _CONFIDENCE.search(text)
    if hit is None:
        return text, 0.0
    try:
        value = float(hit[1])
    except ValueError:
        value = 0.0
    percent = value > 1 or hit[2].strip() == "%"
    return text[: hit.start()], min(value / 100 if percent else value, 1.0)


def relevance(judged: Sequence[str]) -> list[float]:
    """The agents' worth to each other, summing to 1.

    judged: each agent's scores of the others, in order. A judge who does not give just one number in [0, 1] for each
    is not counted; without any judge all are worth the same.
    """
    k = len(judged)
    total, count = [0.0] * k, [0] * k
    for judge, text in enumerate(judged):
        given = [float(number) for number in _NUMBER.findall(_LABEL.sub("", text))]
        if len(given) != k - 1 or max(given) > 1 or sum(given) == 0:
            continue
        for i, score in zip((i for i in range(k) if i != judge), given, strict=True):
            total[i] += score / sum(given)
            count[i] += 1
    means = [t / max(1, n) for t, n in zip(total, count, strict=True)]
    return [m / sum(means) for m in means] if sum(means) else [1 / k] * k


def _replaced(texts: Sequence[str], places: Sequence[int], new: Sequence[str]) -> list[str]:
    out = list(texts)
    for i, text in zip(places, new, strict=True):
        out[i] = text
    return out
