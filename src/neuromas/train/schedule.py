"""The questions and the learning rate of each step: pure functions of (seed, step)."""

import random

from neuromas.config import RunConfig
from neuromas.network.sampling import stream_key
from neuromas.types import Question


class Schedule:
    """The questions of each step: a pure function of (seed, step), so that a resumed run asks the same.

    Every epoch is a new permutation of the training split. Balanced: the answers take turns, so each
    step holds equally many questions of every answer where its size is a multiple of their number; questions of rarer
    answers come round more often.
    """

    def __init__(self, questions: list[Question], config: RunConfig) -> None:
        self.size, self.seed = config.train.questions, config.seed
        self.pools = [questions]
        if config.train.balanced:
            by_answer: dict[str, list[Question]] = {}
            for question in questions:
                by_answer.setdefault(question.answer, []).append(question)
            self.pools = [by_answer[a] for a in sorted(by_answer)]
        self.total = len(questions)
        self._orders: dict[tuple[int, int], list[int]] = {}

    def questions(self, step: int) -> list[Question]:
        """The questions of `step` (from 1), `size` of them."""
        return [self.question((step - 1) * self.size + k) for k in range(self.size)]

    def question(self, number: int) -> Question:
        """The `number`-th question (from 0) of the whole run."""
        pool = (number + self.size) % len(self.pools)
        epoch, place = divmod(number // len(self.pools), len(self.pools[pool]))
        return self.pools[pool][self._order(pool, epoch)[place]]

    def _order(self, pool: int, epoch: int) -> list[int]:
        if (pool, epoch) not in self._orders:
            order = list(range(len(self.pools[pool])))
            random.Random(stream_key(self.seed, "order", pool, epoch)).shuffle(order)
            self._orders = {k: v for k, v in self._orders.items() if k[1] >= epoch - 1} | {(pool, epoch): order}
        return self._orders[pool, epoch]


def learning_rate(config: RunConfig, step: int, start: int = 0) -> float:
    """The learning rate of `step`: a linear warm-up after step `start`, then constant."""
    t = config.train
    return t.learning_rate * min(1.0, (step - start) / t.warmup if t.warmup else 1.0)
