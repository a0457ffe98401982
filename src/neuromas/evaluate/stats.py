"""Intervals, paired tests and random streams: pure functions of counts and differences.

Questions are the sampling unit. Several seeds of one system answer the same questions, so they are no further
questions: each question's mean over the seeds is one observation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
_Z = float(norm.ppf(0.975))
_BLOCK = 2_000_000  # draws held in memory at once


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """The generator of one purpose of an analysis, apart from those that tasks draw their questions from.

    A spawn key, unlike a longer list of seeds, meets no stream made of seeds alone.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def wilson(successes: float, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion, in [0, 1]; Wilson 1927.

    successes: in [0, n]; not always whole, as a question counts by its mean reward over the seeds.
    """
    if n == 0:
        return 0.0, 1.0
    share, weight = successes / n, _Z**2 / n
    middle = share + weight / 2
    half = math.sqrt(share * (1 - share) * weight + weight**2 / 4)
    return max(0.0, (middle - half) / (1 + weight)), min(1.0, (middle + half) / (1 + weight))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of McNemar's test; 1 where the systems never disagree. McNemar 1947.

    only_first, only_second: questions that only the first, only the second system has right.
    """
    disagree = only_first + only_second
    return float(binomtest(only_first, disagree, 0.5).pvalue) if disagree else 1.0


@dataclass(frozen=True)
class Paired:
    """A mean difference over questions."""

    difference: float
    ci95: tuple[float, float]  # percentile interval
    p: float  # two-sided, in (0, 1]


def paired_bootstrap(differences: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Paired:
    """Mean of per-question differences, resampling questions; Efron and Tibshirani 1993, chapters 13 and 16.

    differences: one a question; with several seeds the difference of the means over seeds. The p-value is the share of
    resamples, drawn from the differences shifted to mean 0, whose mean is at least as far from 0 as the one observed
    (the observed one counts as one of them). Raises ValueError where there is no question, or a
    difference that is not finite.
    """
    d = np.asarray(differences, np.float64)
    if d.size == 0:
        raise ValueError("no question to resample: the two systems have no question in common")
    if not np.isfinite(d).all():
        raise ValueError(f"the difference on question {int(np.argmin(np.isfinite(d)))} is not finite; mend its grades")
    observed = float(d.mean())
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // d.size)
    blocks = [min(size, resamples - start) for start in range(0, resamples, size)]
    means: Floats = np.concatenate([d[rng.integers(0, d.size, (rows, d.size))].mean(1) for rows in blocks])
    low, high = np.quantile(means, [0.025, 0.975])
    as_far = int((np.abs(means - observed) >= abs(observed) - 1e-12).sum())  # equal but for rounding counts
    return Paired(observed, (float(low), float(high)), (1 + as_far) / (1 + resamples))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given: the family-wise error is kept. Holm 1979.

    Raises ValueError for a p-value that is not in [0, 1].
    """
    if wrong := [p for p in ps if not 0 <= p <= 1]:
        raise ValueError(f"{wrong[0]} is no p-value: it must be from 0 to 1")
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, ps[i] * (len(ps) - rank)))
        adjusted[i] = highest
    return adjusted
