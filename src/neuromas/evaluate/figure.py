"""Accuracy against cost as a picture; matplotlib is imported only when something is drawn."""

from pathlib import Path
from typing import Any

from neuromas.evaluate.render import plain
from neuromas.results import ComparisonRow

_MARKERS = "os^Dv<>Ph*Xp"
_LONGEST = 40  # characters of a name


def accuracy_and_cost(rows: list[ComparisonRow], path: Path) -> Path:
    """One panel a task: accuracy with its interval over generated tokens a question, rows numbered as in the table.

    The reference is filled, the rest is hollow; dashed lines are the best constant answer and chance. The picture is
    the same, byte for byte, for the same rows and version of matplotlib.
    """
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row.task for row in rows))
    most = max(sum(row.task == task for row in rows) for task in tasks)
    figure = Figure(figsize=(7.5, (4.2 + 0.07 * most) * len(tasks)), layout="constrained")
    for axes, task in zip(figure.subplots(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True):
        of_task = [row for row in rows if row.task == task]
        for place, row in enumerate(of_task):
            _point(axes, place, row)
        floors = of_task[0].floors
        axes.axhline(floors.best_constant, color="0.45", ls="--", lw=1, label="best constant answer")
        axes.axhline(floors.chance, color="0.7", ls=":", lw=1, label="chance")
        tokens = [row.generated_tokens for row in of_task]
        least = min((t for t in tokens if t), default=1.0)
        axes.set_xscale("symlog", linthresh=least, linscale=0.3)  # some systems generate nothing
        axes.set(xlim=(-0.2 * least, max(2 * least, max(tokens) * 1.3)), ylim=(0, 1.02), title=_safe(task))
        ticks = sorted({0.0, *_ticks(least, max(tokens))})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="generated tokens a question", ylabel="accuracy (95 % interval)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8, frameon=False)
    return save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> Path:
    """Give every axis the same look, and write the picture whole or not at all; returns the path."""
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(path)
    return path


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two numbers."""
    return [tick for power in range(-1, 7) for k in (1, 2, 5) if low <= (tick := k * 10.0**power) <= high]


def _point(axes: Any, place: int, row: ComparisonRow) -> None:
    x, y, (low, high) = row.generated_tokens, row.accuracy, row.ci95
    color = f"C{place % 10}"
    axes.errorbar(
        [x],
        [y],
        yerr=[[max(0.0, y - low)], [max(0.0, high - y)]],
        fmt=_MARKERS[(place // 10 + place) % len(_MARKERS)],
        color=color,
        markerfacecolor=color if row.reference else "white",
        capsize=2,
        elinewidth=0.8,
        markersize=7 if row.reference else 5.5,
        label=_safe(f"{place + 1}  {row.system}"),
    )
    side = 5 if place % 2 == 0 else -11
    axes.annotate(str(place + 1), (x, y), xytext=(side, 4), textcoords="offset points", fontsize=7, color=color)


def _safe(text: str) -> str:
    """A name as it is, if not too long: a dollar sign would begin a formula."""
    text = plain(text)
    return (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…").replace("$", r"\$")
