"""Accuracy against cost as a picture; matplotlib is imported only when something is drawn."""

from pathlib import Path
from typing import Any

_MARKERS = "os^Dv<>Ph*Xp"


def accuracy_and_cost(rows: list[dict[str, Any]], path: Path) -> Path:
    """One panel a task: accuracy with its interval over generated tokens a question, rows numbered as in the table.

    The reference is filled, the rest is hollow; dashed lines are the best constant answer and chance. The picture is
    the same, byte for byte, for the same rows and version of matplotlib.
    """
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    most = max(sum(row["task"] == task for row in rows) for task in tasks)
    height = max(4.0, 0.22 * most + 0.8)
    figure = Figure(figsize=(9, height * len(tasks)), layout="constrained")
    for axes, task in zip(figure.subplots(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True):
        of_task = [row for row in rows if row["task"] == task]
        for place, row in enumerate(of_task):
            _point(axes, place, row)
        floors = of_task[0]["floors"]
        axes.axhline(floors["best_constant"], color="0.45", ls="--", lw=1, label="best constant answer")
        axes.axhline(floors["chance"], color="0.7", ls=":", lw=1, label="chance")
        axes.set_xscale("symlog", linthresh=1)
        most_tokens = max(row["generated_tokens"] for row in of_task)
        axes.set(xlim=(-0.1, max(2.0, most_tokens * 1.6)), ylim=(0, 1.02), title=_safe(task))
        axes.set(xlabel="generated tokens a question", ylabel="accuracy (95 % interval)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7.5, frameon=False)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(path)
    return path


def _point(axes: Any, place: int, row: dict[str, Any]) -> None:
    x, y, (low, high) = row["generated_tokens"], row["accuracy"], row["ci95"]
    color = f"C{place % 10}"
    axes.errorbar(
        [x],
        [y],
        yerr=[[max(0.0, y - low)], [max(0.0, high - y)]],
        fmt=_MARKERS[(place // 10 + place) % len(_MARKERS)],
        color=color,
        markerfacecolor=color if row["reference"] else "white",
        capsize=2,
        elinewidth=0.8,
        markersize=7 if row["reference"] else 5.5,
        label=_safe(f"{place + 1}  {row['system']}"),
    )
    axes.annotate(str(place + 1), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, color=color)


def _safe(text: str) -> str:
    """A name as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")
