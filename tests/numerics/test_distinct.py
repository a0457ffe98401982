"""Distinctness of siblings against cases whose information is known, and its null distribution."""

import numpy as np
import pytest

from neuromas.analysis import distinct
from neuromas.analysis.distinct import information, same_share, tokens
from neuromas.analysis.findings import Distinctness

RNG = np.random.default_rng(0)
QUESTIONS = [(int(a), int(b)) for a, b in RNG.integers(0, 10, (200, 2))]


def distinctness(texts: list[list[str]], seed: int = 0) -> Distinctness:
    return distinct.distinctness(texts, seed, layer=1, nodes=["1.1", "1.2"])


def test_siblings_that_always_tell_their_own_part_have_one_bit_whatever_the_numbers() -> None:
    found = distinctness([[f"a{x}+{y}=1;", f"b{y}*{x}=2;"] for x, y in QUESTIONS])
    assert found.bits == pytest.approx(1, abs=0.01)
    assert found.guessed == 1
    assert found.null_95 < 0.05
    assert found.p == pytest.approx(1 / 201)
    assert found.same == 0
    assert found.marks[0][0] in ("^a", "a") and found.marks[1][0] in ("^b", "b")


def test_siblings_that_say_the_same_have_none() -> None:
    found = distinctness([[f"a{x}", f"a{x}"] for x, _ in QUESTIONS])
    assert found.bits <= 0.01
    assert found.same == 1
    assert found.p > 0.5


def test_siblings_that_take_either_part_at_random_have_none_though_their_messages_differ() -> None:
    letters = lambda: RNG.permutation(["a", "b"])
    found = distinctness([[f"{letter}{x}+{y}" for letter in letters()] for x, y in QUESTIONS])
    assert found.same == 0
    assert found.bits < 0.05
    assert found.p > 0.01


def test_words_that_never_come_again_tell_nothing_of_their_writer() -> None:
    words = iter("".join(chr(97 + int(c)) for c in RNG.integers(0, 26, 12)) for _ in range(400))
    found = distinctness([[next(words), next(words)] for _ in range(200)])
    assert abs(found.bits) < 0.05


def test_a_habit_that_holds_nine_times_in_ten_has_the_information_of_that_channel() -> None:
    slip = lambda: RNG.random() < 0.1
    texts = [["b" if slip() else "a", "a" if slip() else "b"] for _ in range(2000)]
    found = distinctness(texts)
    assert found.bits == pytest.approx(1 + 0.1 * np.log2(0.1) + 0.9 * np.log2(0.9), abs=0.05)
    assert found.ci95[0] < found.bits < found.ci95[1]


@pytest.mark.slow
def test_random_labels_would_be_told_apart_seldom_where_nothing_differs() -> None:
    ps = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        ps.append(distinctness([[str(rng.integers(10)), str(rng.integers(10))] for _ in range(40)], seed).p)
    assert np.mean(np.array(ps) <= 0.1) <= 0.2  # 4 of 40 are expected
    assert np.mean(ps) == pytest.approx(0.5, abs=0.15)


def test_information_is_that_of_the_table_less_its_bias() -> None:
    writer, guess = np.array([0, 0, 1, 1] * 50), np.array([0, 1, 0, 1] * 50)
    assert information(writer, writer, 2) == pytest.approx(1 - 1 / (400 * np.log(2)))
    assert information(writer, guess, 2) == pytest.approx(-1 / (400 * np.log(2)))
    mean = np.mean([information(RNG.integers(0, 3, 300), RNG.integers(0, 3, 300), 3) for _ in range(300)])
    assert mean == pytest.approx(0, abs=0.002)


def test_texts_are_compared_but_for_case_and_blanks() -> None:
    assert same_share([["A  b", "a b"], ["a", "b"]]) == 0.5
    assert same_share([["x", "x", "y"]]) == pytest.approx(1 / 3)
    assert tokens("The 3+5;") == ["^the", "the", "3", "+", "5", ";"]
    assert tokens("  ") == ["^"]
    assert tokens("3 the")[:2] == ["^3", "3"]
