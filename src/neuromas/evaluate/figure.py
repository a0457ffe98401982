"""Accuracy against cost as a picture; matplotlib is imported only when something is drawn."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromas.evaluate.render import plain
from neuromas.results import ComparisonRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "os^Dv<>Ph*Xp"
_LONGEST = 40  # characters of a name
_FONT = 7  # points, of the numbers beside the marks
_NEAR = 10.0  # points from a mark up to which its number needs no line to it
_FARTHEST = 120.0  # beyond it, numbers may lie on one another

Box = tuple[float, float, float, float]  # left, bottom, right, top; in points, from the corner of the figure


def accuracy_and_cost(rows: list[ComparisonRow], path: Path) -> Path:
    """Write `accuracy_cost_figure` to `path`."""
    return save_figure(accuracy_cost_figure(rows), path)


def accuracy_cost_figure(rows: list[ComparisonRow]) -> "Figure":
    """One panel a task: accuracy with its interval over generated tokens a question, rows numbered as in the table.

    The reference is filled, the rest is hollow; dashed lines are the best constant answer and chance. The picture is
    the same, byte for byte, for the same rows and version of matplotlib.
    """
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row.task for row in rows))
    most = max(sum(row.task == task for row in rows) for task in tasks)
    figure = Figure(figsize=(7.5, (4.2 + 0.07 * most) * len(tasks)), layout="constrained")
    panels = list(zip(figure.subplots(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True))
    for axes, task in panels:
        of_task = [row for row in rows if row.task == task]
        for place, row in enumerate(of_task):
            _point(axes, place, row)
        floors = of_task[0].floors
        axes.axhline(floors.best_constant, color="0.45", ls="--", lw=1, label="best constant answer")
        axes.axhline(floors.chance, color="0.7", ls=":", lw=1, label="chance")
        tokens = [row.generated_tokens for row in of_task]
        least = min((t for t in tokens if t), default=1.0)
        axes.set_xscale("symlog", linthresh=least, linscale=0.3)  # some systems generate nothing
        axes.set(xlim=(-0.2 * least, max(2 * least, max(tokens) * 1.3)), ylim=(-0.03, 1.03), title=_safe(task))
        ticks = sorted({0.0, *_ticks(least, max(tokens))})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="generated tokens a question", ylabel="accuracy (95 % interval)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8, frameon=False)
    figure.draw_without_rendering()  # gives the panels their places
    for axes, task in panels:
        _number(axes, [row for row in rows if row.task == task])
    return figure


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


def _number(axes: Any, rows: Sequence[ComparisonRow]) -> None:
    """Number the marks of a panel: each number beside its mark or, with a line to it, where nothing is in the way."""
    points = 72 / axes.figure.dpi
    place_of = lambda row, y: [float(v) * points for v in axes.transData.transform((row.generated_tokens, y))]
    frame: Box = tuple(v * points for v in axes.bbox.extents)
    taken: list[Box] = []  # by marks, their intervals, numbers, and the lines to them
    for row in rows:
        (x, y), (_, low), (_, high) = (place_of(row, value) for value in (row.accuracy, *row.ci95))
        taken += [_around(x, y, 8, 8), (x - 2, low, x + 2, high)]
    numbers: list[Box] = []
    for place, row in enumerate(rows):
        x, y = place_of(row, row.accuracy)
        wide = 0.65 * _FONT * len(str(place + 1))
        dx, dy, box, line = next(
            (dx, dy, box, line)
            for dx, dy in _offsets()
            for box in [_around(x + dx, y + dy, wide, _FONT)]
            for line in [_line(x, y, dx, dy)]
            if math.hypot(dx, dy) > _FARTHEST
            or (_within(box, frame) and not _meets(box, taken) and not any(_meets(dot, numbers) for dot in line))
        )
        taken += [box, *line]
        numbers.append(box)
        color = f"C{place % 10}"
        axes.annotate(
            str(place + 1),
            (row.generated_tokens, row.accuracy),
            xytext=(dx, dy),
            textcoords="offset points",
            ha="center",
            va="center_baseline",
            fontsize=_FONT,
            color=color,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": color, "shrinkA": 3, "shrinkB": 3} if line else None,
        ).set_in_layout(False)


def _offsets() -> Iterator[tuple[float, float]]:
    """Places around a mark, the nearest first, in points; the last is beyond `_FARTHEST`."""
    for radius in range(9, int(_FARTHEST) + 6, 4):
        for turn in range(24):
            angle = math.pi / 4 + turn * math.tau / 24
            yield radius * math.cos(angle), radius * math.sin(angle)


def _line(x: float, y: float, dx: float, dy: float) -> list[Box]:
    """The dots of a line from a mark to its number; none where the number is near."""
    if math.hypot(dx, dy) <= _NEAR:
        return []
    return [_around(x + dx * part / 20, y + dy * part / 20, 1, 1) for part in range(4, 17)]


def _around(x: float, y: float, wide: float, high: float) -> Box:
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def _within(box: Box, frame: Box) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _meets(box: Box, others: Sequence[Box]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)


def _safe(text: str) -> str:
    """A name as it is, if not too long: a dollar sign would begin a formula."""
    text = plain(text)
    return (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…").replace("$", r"\$")
