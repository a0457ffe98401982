"""Intervals."""

from scipy.stats import binomtest


def wilson(successes: float, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion, in [0, 1]; Wilson 1927."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(round(successes), n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
