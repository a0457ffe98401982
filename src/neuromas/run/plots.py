"""Learning curves as PNG; matplotlib is imported only when something is drawn."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from neuromas.evaluate.figure import save_figure
from neuromas.results import StepMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curve_figure(metrics: Sequence[StepMetrics], title: str) -> "Figure":
    """Reward per step, validation accuracy, and signs of a collapse. Dotted lines: a new stage."""
    from matplotlib.figure import Figure

    steps = [m for m in metrics if m.reward is not None]
    checks = [(m.step, m.validation) for m in metrics if m.validation]
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    x = [m.step for m in steps]
    of = lambda name: [getattr(m, name) for m in steps]
    top.plot(x, of("reward"), color="0.75", lw=1, label="reward of the step's rollouts (sampled)")
    top.plot(x, smooth(of("reward")), color="C0", lw=2, label="the same, smoothed")
    stages = [m.step for before, m in pairwise(steps) if (m.stage or 0) != (before.stage or 0)]
    for axes in (top, bottom):
        for step in stages:
            axes.axvline(step - 0.5, color="0.4", lw=1, ls=":")
    low = [check.accuracy - check.ci95[0] for _, check in checks]
    high = [check.ci95[1] - check.accuracy for _, check in checks]
    top.errorbar(
        [step for step, _ in checks],
        [check.accuracy for _, check in checks],
        yerr=[low, high],
        fmt="o",
        color="C1",
        capsize=3,
        label="validation accuracy (greedy, 95 % interval)",
    )
    top.set(ylim=(0, 1.02), ylabel="accuracy", title=title)
    top.legend(loc="lower right", fontsize=8)
    bottom.plot(x, smooth(of("equal_reward_groups")), label="questions with equal rewards")
    bottom.plot(x, smooth(of("top_answer_share")), label="share of the commonest answer")
    bottom.plot(x, smooth(of("parse_rate")), label="parse rate", color="C2")
    bottom.set(ylim=(0, 1.02), xlabel="step", ylabel="share")
    bottom.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=3, fontsize=8, frameon=False)
    return figure


def smooth(values: list[float], weight: float = 0.8) -> list[float]:
    """Exponential moving average, corrected for its start."""
    out: list[float] = []
    total = norm = 0.0
    for value in values:
        total, norm = weight * total + value, weight * norm + 1
        out.append(total / norm)
    return out


def compare_curves(
    histories: dict[str, list[list[StepMetrics]]], labels: dict[str, str], path: Path, title: str
) -> Path:
    """Validation accuracy over training of several systems: a line for the mean over seeds, a thin one for each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for color, (name, runs) in enumerate(reversed(list(histories.items()))):
        curves = [[(m.step, m.validation.accuracy) for m in run if m.validation] for run in runs]
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), color=f"C{color}", lw=0.8, alpha=0.4)
        steps = [step for step, _ in curves[0]]
        mean = [sum(c[i][1] for c in curves) / len(curves) for i in range(len(steps))]
        axes.plot(steps, mean, "o-", color=f"C{color}", lw=2.5, label=labels[name].strip())
    axes.set(ylim=(0, 1.02), xlabel="step", ylabel="accuracy", title=title)
    axes.legend(loc="lower right", fontsize=9)
    return save_figure(figure, path)
