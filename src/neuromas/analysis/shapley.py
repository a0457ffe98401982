"""The worth of each hidden node: accuracy shared out among them by Shapley's rule (Shapley 1953).

A coalition is the hidden nodes that take part. Its value on a question is the reward; everything here is linear in
it, so a node's value is a mean over questions, and its interval a bootstrap over them. Few nodes: exact over all
coalitions. More: random orders of joining, drawn anew for every question, so that the interval covers them too.

Legend: P question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from neuromas.evaluate.stats import Floats, Paired, paired_bootstrap, stream

Coalition = frozenset[str]
Present = Callable[[str], Coalition]  # Gives for a question's id the hidden nodes that are present.
Value = Callable[[Present], Floats]  # Gives the rewards [P] in the order of the questions.


@dataclass(frozen=True)
class Values:
    """The shares of all hidden nodes in the reward of each question."""

    shares_P: dict[str, Floats]  # By node; they add up to the rewards with all nodes minus those with none.
    nobody_P: Floats  # The rewards without any hidden node.
    orders: int | None  # Random orders of joining for each question; None where the values are exact.

    def of(self, node: str) -> Paired:
        """The mean of a node's shares, with its bootstrap interval."""
        return paired_bootstrap(self.shares_P[node].tolist())


def exact(nodes: Sequence[str], value: Callable[[Coalition], Floats]) -> Values:
    """Exact values, over all 2^n coalitions. value: gives the rewards [P] of one coalition."""
    n = len(nodes)
    coalitions = [frozenset(some) for size in range(n + 1) for some in combinations(nodes, size)]
    rewards_of = {coalition: value(coalition) for coalition in coalitions}
    shares: dict[str, Floats] = {}
    for node in nodes:
        gains = [
            (rewards_of[others | {node}] - rewards) / (n * comb(n - 1, len(others)))
            for others, rewards in rewards_of.items()
            if node not in others
        ]
        shares[node] = np.sum(gains, axis=0)
    return Values(shares, rewards_of[frozenset()], None)


def sampled(
    nodes: Sequence[str], questions: Sequence[str], value: Value, everybody: Floats, orders: int, seed: int
) -> Values:
    """Unbiased estimates, over `orders` random orders of joining for each question; an odd number is rounded up.

    questions: ids. value: runs all questions at once. everybody: rewards [P] with all nodes. Orders come in pairs, one
    the reverse of the other, which lowers the noise (Mitchell et al. 2022, arXiv 2104.12199).
    """
    orders += orders % 2  # an order without its reverse would add noise
    rows = {question: p for p, question in enumerate(questions)}
    nobody = value(lambda _: frozenset())
    total = np.zeros((len(nodes), len(questions)))
    rng = stream(seed, 3)
    order_P: list[list[int]] = []
    for k in range(orders):
        if k % 2:
            order_P = [order[::-1] for order in order_P]
        else:
            order_P = [rng.permutation(len(nodes)).tolist() for _ in questions]
        before = nobody
        for size in range(1, len(nodes) + 1):
            joined = {question: frozenset(nodes[i] for i in order_P[p][:size]) for question, p in rows.items()}
            after = everybody if size == len(nodes) else value(joined.__getitem__)
            last_P = [order[size - 1] for order in order_P]
            total[last_P, range(len(questions))] += after - before
            before = after
    return Values({node: total[i] / orders for i, node in enumerate(nodes)}, nobody, orders)
