"""What each hidden node is worth: accuracy shared out among them by Shapley's rule (Shapley 1953).

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

from neuromas.evaluate.stats import Floats, Paired, paired_bootstrap

Coalition = frozenset[str]
Present = Callable[[str], Coalition]  # question id → who takes part
Value = Callable[[Present], Floats]  # rewards [P], in the order of the questions


@dataclass(frozen=True)
class Values:
    """shares_P[node]: the node's share of each question's reward; they add up to rewards of all minus of none."""

    shares_P: dict[str, Floats]
    nobody_P: Floats  # rewards without any hidden node
    orders: int | None  # random orders a question; None: exact

    def of(self, node: str) -> Paired:
        return paired_bootstrap(self.shares_P[node].tolist())


def exact(nodes: Sequence[str], value: Callable[[Coalition], Floats]) -> Values:
    """Over all 2^n coalitions. value: rewards [P] of one."""
    n = len(nodes)
    of = {frozenset(c): value(frozenset(c)) for size in range(n + 1) for c in combinations(nodes, size)}
    shares: dict[str, Floats] = {}
    for node in nodes:
        gains = [
            (of[others | {node}] - rewards) / (n * comb(n - 1, len(others)))
            for others, rewards in of.items()
            if node not in others
        ]
        shares[node] = np.sum(gains, axis=0)
    return Values(shares, of[frozenset()], None)


def sampled(
    nodes: Sequence[str], questions: Sequence[str], value: Value, everybody: Floats, orders: int, seed: int
) -> Values:
    """Over `orders` random orders of joining for each question; unbiased. value runs all questions at once.

    questions: ids. everybody: rewards [P] with all nodes. Orders come in pairs, one the reverse of the other, which
    lowers the noise (Mitchell et al. 2022, arXiv 2104.12199).
    """
    rows = {question: p for p, question in enumerate(questions)}
    nobody = value(lambda _: frozenset())
    total = np.zeros((len(nodes), len(questions)))
    rng = np.random.default_rng([seed, 3])
    order_P: list[list[int]] = []
    for k in range(orders):
        order_P = [o[::-1] for o in order_P] if k % 2 else [rng.permutation(len(nodes)).tolist() for _ in questions]
        before = nobody
        for size in range(1, len(nodes) + 1):
            joined = {q: frozenset(nodes[i] for i in order_P[p][:size]) for q, p in rows.items()}
            after = everybody if size == len(nodes) else value(joined.__getitem__)
            total[[order[size - 1] for order in order_P], range(len(questions))] += after - before
            before = after
    return Values({node: total[i] / orders for i, node in enumerate(nodes)}, nobody, orders)
