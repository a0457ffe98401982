"""Shapley values against hand-made games, the axioms, and the exact values where orders are drawn."""

import math
from itertools import permutations

import numpy as np
import pytest

from neuromas.analysis.shapley import exact, sampled
from neuromas.evaluate.stats import stream

NODES = ("a", "b", "c", "d")


def game(seed: int, questions: int):
    """A random game on every question: coalition → rewards [P]."""
    rng = np.random.default_rng(seed)
    table = {m: rng.random(questions) for m in range(16)}
    return lambda coalition: table[sum(1 << NODES.index(n) for n in coalition)]


def by_definition(value, node: str) -> float:
    """The mean gain of a node over all orders of joining."""
    gains = []
    for order in permutations(NODES):
        before = frozenset(order[: order.index(node)])
        gains.append(value(before | {node}) - value(before))
    return float(np.mean(gains))


def test_exact_values_are_the_mean_gain_over_all_orders() -> None:
    value = game(0, 5)
    found = exact(NODES, value)
    for node in NODES:
        assert found.of(node).difference == pytest.approx(by_definition(value, node))


def test_shares_add_up_to_what_all_add_to_none_on_every_question() -> None:
    value = game(1, 7)
    found = exact(NODES, value)
    whole = value(frozenset(NODES)) - value(frozenset())
    assert np.allclose(sum(found.shares_P.values()), whole)
    assert np.array_equal(found.nobody_P, value(frozenset()))


@pytest.mark.parametrize("orders", [4, 8])
def test_sampled_values_are_unbiased_and_add_up_too(orders: int) -> None:
    P = 4000
    one = game(2, 1)
    names = [str(p) for p in range(P)]
    value = lambda present: np.array([one(present(q))[0] for q in names])
    everybody = value(lambda _: frozenset(NODES))
    found = sampled(NODES, names, value, everybody, orders, seed=0)
    assert np.allclose(sum(found.shares_P.values()), everybody - found.nobody_P)
    for node in NODES:
        error = found.shares_P[node].std() / math.sqrt(P)
        assert abs(found.of(node).difference - by_definition(one, node)) < 4 * error
        assert error < 0.01
    other = sampled(NODES, names, value, everybody, orders, seed=1)
    assert not np.array_equal(other.shares_P["a"], found.shares_P["a"])


def test_each_pass_of_sampled_values_holds_every_question_once() -> None:
    seen: list[set[int]] = []

    def value(present):
        coalitions = [present(q) for q in ("x", "y", "z")]
        seen.append({len(c) for c in coalitions})
        return np.zeros(3)

    sampled(NODES, ["x", "y", "z"], value, np.ones(3), 2, seed=0)
    assert seen == [{0}, *[{1}, {2}, {3}] * 2]


def test_an_odd_number_of_orders_is_rounded_up() -> None:
    names = [str(p) for p in range(50)]
    one = game(2, 1)
    value = lambda present: np.array([one(present(q))[0] for q in names])
    odd, even = (sampled(NODES, names, value, value(lambda _: frozenset(NODES)), orders, seed=0) for orders in (3, 4))
    assert odd.orders == even.orders == 4
    assert np.array_equal(odd.shares_P["a"], even.shares_P["a"])


@pytest.mark.parametrize("purpose", [(1, 0), (1, 1), (2,), (3,), (4,)])
def test_streams_of_the_analysis_meet_no_stream_of_a_task(purpose: tuple[int, ...]) -> None:
    ours = stream(7, *purpose).integers(0, 2**62, 8).tolist()
    tasks = [[7], [7, 0], [7, 1], [7, 2], [7, 3], [7, 4], [7, *purpose], [7, 1, 0]]
    assert ours not in [np.random.default_rng(seeds).integers(0, 2**62, 8).tolist() for seeds in tasks]
    assert ours == stream(7, *purpose).integers(0, 2**62, 8).tolist()


def test_the_streams_of_the_analysis_meet_none_of_a_tasks() -> None:
    for purpose in ((0,), (1,), (2,), (1, 0), (2, 0)):
        tasks = [
            np.random.default_rng([0, *purpose]).integers(2**62),
            np.random.default_rng([0, purpose[0]]).integers(2**62),
        ]
        assert stream(0, *purpose).integers(2**62) not in tasks
