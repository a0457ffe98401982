"""Intervals and tests: against published examples and references, and with the coverage they state."""

import numpy as np
import pytest
from scipy.stats import bootstrap, chi2, false_discovery_control, wilcoxon

from neuromas.evaluate.stats import holm, mcnemar, paired_bootstrap, wilson


def test_mcnemar_agrees_with_published_examples() -> None:
    """statsmodels' documentation: [[101, 121], [59, 33]] has an exact p of 4.4344e-06."""
    assert mcnemar(121, 59) == pytest.approx(4.434444926375551e-06)
    assert mcnemar(86, 150) == pytest.approx(chi2.sf((150 - 86) ** 2 / (150 + 86), 1), rel=0.25), "Agresti, chapter 11"
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5**5)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0
    assert mcnemar(4, 11) == mcnemar(11, 4)


def test_holm_agrees_with_a_worked_example_and_keeps_order() -> None:
    """Example of R's p.adjust and of statsmodels' multipletests: 0.01, 0.04, 0.03, 0.005 → 0.03, 0.06, 0.06, 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    ps = np.random.default_rng(0).uniform(size=9)
    assert all(a >= b for a, b in zip(holm(list(ps)), false_discovery_control(ps), strict=True)), "stricter than FDR"


def test_the_bootstrap_interval_is_that_of_scipy() -> None:
    d = np.random.default_rng(1).choice([-1.0, 0.0, 1 / 3, 1.0], 120, p=[0.1, 0.5, 0.2, 0.2])
    ours = paired_bootstrap(list(d))
    theirs = bootstrap((d,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2))
    assert ours.difference == pytest.approx(d.mean())
    assert ours.ci95 == pytest.approx(tuple(theirs.confidence_interval), abs=0.006)
    assert ours == paired_bootstrap(list(d)), "seeded"
    assert ours.p == pytest.approx(paired_bootstrap(list(-d)).p, rel=0.5)
    assert paired_bootstrap(list(d)).p < 0.05
    assert wilcoxon(d).pvalue < 0.05


def test_equal_systems_do_not_differ_and_nothing_cannot_be_compared() -> None:
    same = paired_bootstrap([0.0] * 50)
    assert (same.difference, same.ci95, same.p) == (0.0, (0.0, 0.0), 1.0)
    with pytest.raises(ValueError, match="no question in common"):
        paired_bootstrap([])


@pytest.mark.parametrize("rate, n", [(0.5, 100), (0.1, 60), (0.95, 200)])
def test_wilson_covers_as_stated(rate: float, n: int) -> None:
    hits = np.random.default_rng(3).binomial(n, rate, 1000)
    table = {int(k): wilson(int(k), n) for k in np.unique(hits)}
    covered = np.mean([table[int(k)][0] <= rate <= table[int(k)][1] for k in hits])
    assert 0.925 <= covered <= 0.98


def draw(rng: np.random.Generator, n: int, seeds: int, effect: float) -> np.ndarray:
    """Per-question differences of two systems' means over seeds: questions differ in difficulty, the same for both."""
    hard = rng.beta(1.0, 1.0, n)
    first = rng.binomial(seeds, hard + effect * hard * (1 - hard)) / seeds
    return first - rng.binomial(seeds, hard) / seeds


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_paired_interval_covers_and_its_test_errs_as_stated_also_with_several_seeds(seeds: int) -> None:
    rng, effect = np.random.default_rng(seeds), 0.6
    truth = effect * 1 / 6  # E[hard (1 - hard)]
    found = [paired_bootstrap(list(draw(rng, 150, seeds, effect)), i, 1000) for i in range(400)]
    assert 0.92 <= np.mean([f.ci95[0] <= truth <= f.ci95[1] for f in found]) <= 0.975
    null = [paired_bootstrap(list(draw(rng, 150, seeds, 0.0)), i, 1000).p for i in range(400)]
    assert 0.025 <= np.mean([p < 0.05 for p in null]) <= 0.08


def test_an_interval_of_the_mean_over_seeds_at_the_number_of_questions_is_not_too_narrow() -> None:
    rng, covered = np.random.default_rng(5), []
    for _ in range(600):
        mean = np.mean(rng.binomial(3, rng.beta(1, 1, 100)) / 3)
        low, high = wilson(mean * 100, 100)
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) >= 0.95


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("ps", [[NAN, 0.01, 0.02], [0.01, NAN, 0.02], [0.01, 1.5], [-0.1], [INF]])
def test_what_is_no_p_value_is_refused(ps: list[float]) -> None:
    with pytest.raises(ValueError, match="is no p-value"):
        holm(ps)


@pytest.mark.parametrize("differences", [[0.0, NAN, 1.0], [INF], [1.0, -INF]])
def test_a_difference_that_is_not_finite_is_refused(differences: list[float]) -> None:
    with pytest.raises(ValueError, match="is not finite"):
        paired_bootstrap(differences)
