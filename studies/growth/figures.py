"""Draws the figures of the study of growth from its lines alone, for the report."""

from pathlib import Path
from typing import Any

import numpy as np

from studies.growth.ways import SHAPES, TARGETS
from studies.shared import tidy

Run = dict[str, Any]
ABOUT = {
    "scratch": "from scratch, full instances",
    "easy": "from scratch, easy instances first",
    "longer": "from scratch, easy first, half the rate, twice the samples",
    "staged": "from scratch, questions of the grown ones",
    "scratchpad": "one adapter, scratchpad, questions of the grown ones",
    "scratchpad+easy": "one adapter, scratchpad, easy instances first",
    "plain": "grown, new nodes fade in, full instances alone",
    "fade": "grown, new nodes fade in",
    "copy": "grown, copies of siblings",
    "zero": "grown, bare backbone",
    "noise": "grown, noise",
    "fade+copy": "grown, new nodes fade in; at last copies",
    "fade+copy+slow": "grown, new nodes fade in; at last copies, at a quarter of the rate",
    "noise+copy+slow": "grown, noise; at last copies, at a quarter of the rate",
}
COLOURS = {
    "scratch": "0.3",
    "easy": "C6",
    "longer": "C9",
    "staged": "C1",
    "scratchpad": "C8",
    "scratchpad+easy": "C7",
    "plain": "tan",
    "fade": "C0",
    "copy": "C2",
    "zero": "C4",
    "noise": "C5",
    "fade+copy": "C3",
    "fade+copy+slow": "k",
    "noise+copy+slow": "darkgreen",
}


def draw_kept(runs: list[Run], path: Path) -> Path:
    """Validation accuracy before and after growing, a panel for each larger topology."""
    from matplotlib.figure import Figure

    shown = [g for g in TARGETS if any(r["target"] == g for r in runs)]
    figure = Figure(figsize=(5.2 * len(shown), 3.8), layout="constrained")
    for axes, growth in zip(np.atleast_1d(figure.subplots(1, len(shown), sharey=True)), shown, strict=True):
        labelled: set[str] = set()
        for run in (r for r in runs if r["target"] == growth):
            parent, grown = split(run)
            label = None if run["init"] in labelled else ABOUT[run["init"]].removeprefix("grown, ")
            labelled.add(run["init"])
            xs, ys = zip(*[*parent[-2:], *grown], strict=True)
            axes.plot(xs, ys, "o-", ms=3, lw=1.2, alpha=0.8, color=COLOURS[run["init"]], label=label)
        axes.axvline(0.5, color="0.4", lw=1, ls=":")
        axes.legend(fontsize=8, loc="lower right")
        finish(axes, xlabel="steps since the network grew", title=f"2 → {growth}")
    figure.axes[0].set_ylabel("greedy validation accuracy, whole network")
    figure.savefig(path, dpi=120)
    return path


def split(run: Run) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Validations before and after growing, steps counted from the growth."""
    start = run["grown_after"]
    checks = [(step - start, accuracy) for step, accuracy in run["validation"]]
    return [c for c in checks if c[0] <= 0], [c for c in checks if c[0] > 0]


def draw_paths(runs: list[Run], path: Path, leaves: int) -> Path:
    """Test accuracy against size, a line for each way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    sizes = [s for s in SHAPES if any(r["nodes"] == s for r in runs)]
    for axes, decoding in zip(figure.subplots(1, 2, sharey=True), ("greedy", "sampled"), strict=True):
        for way, colour in COLOURS.items():
            measured = [s for s in sizes if of(runs, way, s)]
            if not measured:
                continue
            x = [sizes.index(s) for s in measured]
            final = [[r[f"last_{decoding}"] for r in of(runs, way, s)] for s in measured]
            peak = [np.mean([r[f"best_{decoding}"] for r in of(runs, way, s)]) for s in measured]
            if way == "fade+copy" and (parents := of(runs, "fade", 7)):  # the networks that it grew out of
                ends = [np.mean([r[f"last_{decoding}"] for r in some]) for some in (parents, of(runs, way, 15))]
                axes.plot([sizes.index(7), sizes.index(15)], ends, "--", color=colour, lw=1.5)
            axes.plot(x, [np.mean(y) for y in final], "o-", color=colour, lw=2, ms=5, label=ABOUT[way])
            axes.plot(x, peak, "^:", color=colour, lw=1, ms=5, mfc="none")
            axes.fill_between(x, [min(y) for y in final], [max(y) for y in final], color=colour, alpha=0.12)
        axes.axhline(runs[0]["floors"]["best_constant"], color="0.5", ls="--", lw=1, label="best constant")
        axes.set_xticks(range(len(sizes)), [f"{s}\n{SHAPES[s]}" for s in sizes])
        finish(axes, xlabel="nodes, topology", title=f"{decoding}: final (filled), peak (hollow)")
    figure.axes[0].set_ylabel(f"test accuracy, {leaves} leaves")
    legend_below(figure)
    figure.savefig(path, dpi=120)
    return path


def draw_curves(runs: list[Run], path: Path, shapes: dict[int, str] = SHAPES) -> Path:
    """Sampled reward against steps, a panel for each size that has several ways; a dot where a stage ended."""
    from matplotlib.figure import Figure

    sizes = [s for s in shapes if len({r["way"] for r in runs if r["nodes"] == s}) > 1] or [runs[0]["nodes"]]
    figure = Figure(figsize=(5.5 * len(sizes), 3.8), layout="constrained")
    for axes, size in zip(np.atleast_1d(figure.subplots(1, len(sizes), sharey=True)), sizes, strict=True):
        for way, colour in COLOURS.items():
            for number, run in enumerate(of(runs, way, size)):
                ends = np.cumsum(run["stages"])[:-1]
                smooth = np.convolve(np.pad(run["reward"], 2, mode="edge"), np.ones(5) / 5, "valid")
                axes.plot(
                    range(1, len(smooth) + 1),
                    smooth,
                    color=colour,
                    lw=1.2,
                    alpha=0.8,
                    label=None if number else ABOUT[way],
                )
                axes.plot(ends, smooth[ends - 1], "o", color=colour, ms=4)
        finish(axes, xlabel="step (dots: the next stage begins)", title=f"{size} nodes ({shapes[size]})")
    figure.axes[0].set_ylabel("sampled reward, mean of 5 steps")
    legend_below(figure)
    figure.savefig(path, dpi=120)
    return path


def of(runs: list[Run], way: str, size: int) -> list[Run]:
    """Runs of one cell, by seed."""
    return [r for r in runs if (r["way"], r["nodes"]) == (way, size)]


def legend_below(figure: Any) -> None:
    """Place one legend for all panels below them, where it hides nothing."""
    shown = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=2, fontsize=8)


def finish(axes: Any, **labels: str) -> None:
    """Set labels and the range of an accuracy."""
    axes.set(ylim=(0, 1.02), **labels)
    tidy(axes)
