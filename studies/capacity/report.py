"""Writes the report of the study of capacity from its points.jsonl alone: exponents, figure, table.

usage: python -m studies.capacity.report DIR [TARGET]    TARGET: folder for report, figure and lines; by default DIR

Error is 1 - accuracy, sampled (what training lowers) and greedy. A family's exponent γ is the slope of a least-squares
line of -log error over log q, q the trainable parameters, over every training run at its own rate (error ∝ q^-γ). Its
interval is a bootstrap that draws seeds anew for each system, and test questions anew for all of them.
"""

import json
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from neuromas.evaluate.render import Block, Heading, Picture, Table, Text, to_markdown
from neuromas.files import read_json_lines, write_json, write_text
from studies.capacity.study import SEEDS, SHAPES, chosen_rate
from studies.shared import tidy, with_wilson

RESAMPLES = 2000
ABOUT = {
    "joint": "Trained from the final reward (modulo 10, whose single steps the backbone knows)",
    "supervised": "Imitating right statements (modulo 7, new to the backbone)",
    "longer": "Imitating right statements (modulo 7), four times as many questions",
}
NAMES = {"single": "one call", "scratchpad": "one adapter, three calls", "network": "a network"}
COLOURS = {"single": "C7", "scratchpad": "C1", "network": "C0"}
Point = dict[str, Any]


def main(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    lines: list[Point] = read_json_lines(folder / "points.jsonl")
    every = {m: at_chosen_rates([line for line in lines if line["method"] == m], m) for m in ABOUT}
    chosen = {m: runs for m, runs in every.items() if len(runs) == len(SEEDS) * len(SHAPES[m])}  # complete methods
    if not chosen:
        sys.exit(f"no method is complete in {folder}; go on with: python -m studies.capacity.study {folder}")
    fits = {m: {d: exponents(runs, d) for d in ("sampled", "greedy")} for m, runs in chosen.items()}
    if target != folder:
        kept = (json.dumps(line) + "\n" for line in lines if line["method"] in chosen)
        write_text(target / "points.jsonl", "".join(kept))
    write_json(target / "exponents.json", fits)
    picture = draw(chosen, fits, target / "error_parameters.png")
    write_text(target / "report.md", to_markdown(content(chosen, fits, picture)))
    print(target / "report.md")


def at_chosen_rates(lines: list[Point], method: str) -> list[Point]:
    """The training runs of every system that has been trained with all seeds, at its rate."""
    kept: list[Point] = []
    for shape in SHAPES[method]:
        mine = [p for p in lines if (p["topology"], p["rank"]) == (shape.topology, shape.rank)]
        if mine:
            rate = chosen_rate(lines, method, shape)
            runs = [p for p in mine if p["rate"] == rate]
            kept += runs if {p["seed"] for p in runs} == set(SEEDS) else []
    return kept


def exponents(points: list[Point], decoding: str) -> dict[str, Any]:
    """γ of each family, and the difference of each pair of families, with intervals. Legend: R run, Q question."""
    rights_RQ = np.stack([answers_right(p, decoding) for p in points])
    log_q_R = np.log([p["trainable_parameters"] for p in points])
    systems: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))  # family → q → indices of runs
    for i, p in enumerate(points):
        systems[p["family"]][p["trainable_parameters"]].append(i)
    rng, n = np.random.default_rng(0), points[0]["n"]
    spread: dict[str, list[float]] = defaultdict(list)
    for _ in range(RESAMPLES):
        log_error_R = np.log(error(rights_RQ[:, rng.integers(0, n, n)]))
        for family, by_q in systems.items():
            drawn = np.concatenate([np.take(runs, rng.integers(0, len(runs), len(runs))) for runs in by_q.values()])
            spread[family].append(slope(log_q_R[drawn], -log_error_R[drawn]))
    out: dict[str, Any] = {}
    log_error_R = np.log(error(rights_RQ))
    for family, by_q in systems.items():
        runs = [i for indices in by_q.values() for i in indices]
        low, high = np.quantile(spread[family], [0.025, 0.975])
        exponent = slope(log_q_R[runs], -log_error_R[runs])
        out[family] = {"exponent": exponent, "ci95": [float(low), float(high)], "runs": len(runs)}
    for a, b in (("network", "single"), ("network", "scratchpad"), ("scratchpad", "single")):
        low, high = np.quantile(np.array(spread[a]) - np.array(spread[b]), [0.025, 0.975])
        difference = out[a]["exponent"] - out[b]["exponent"]
        out[f"{a} - {b}"] = {"difference": difference, "ci95": [float(low), float(high)]}
    return out


def answers_right(point: Point, decoding: str) -> Any:
    """1 for every test question that a run answers right, else 0, as an array."""
    return np.array(list(map(int, point[f"{decoding}_rights"])))


def error(rights: Any) -> Any:
    """Share of wrong answers along the last axis, moved by half an answer so that its logarithm exists."""
    n = rights.shape[-1]
    return (n - rights.sum(-1) + 0.5) / (n + 1)


def slope(xs: Any, ys: Any) -> float:
    """Slope of the least-squares line of ys over xs."""
    x, y = xs - np.mean(xs), ys - np.mean(ys)
    return float((x * y).sum() / (x * x).sum())


def draw(chosen: dict[str, list[Point]], fits: dict[str, Any], path: Path) -> Path:
    """Error over parameters: a row for each method, sampled and greedy side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.7 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), 2, squeeze=False)
    for row, (method, points) in zip(grid, chosen.items(), strict=True):
        for axes, decoding in zip(row, ("sampled", "greedy"), strict=True):
            lowest = min(error(answers_right(p, decoding)) for p in points)
            for family, colour in COLOURS.items():
                if mine := [p for p in points if p["family"] == family]:
                    draw_family(axes, mine, decoding, fits[method][decoding][family], colour)
            floor = 1 - points[0]["floors"]["best_constant"]
            axes.axhline(floor, color="0.5", ls="--", lw=1, label="best constant answer")
            axes.set(xscale="log", yscale="log", xlabel="trainable parameters q", ylabel=f"error, {decoding}")
            errors = [0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9]
            axes.set_yticks(errors, [f"{x:g}" for x in errors])
            axes.set_yticks([], minor=True)
            axes.set(ylim=(lowest / (20 if lowest < 0.05 else 2), 1.05))  # room for the legend
            axes.set_title(textwrap.fill(ABOUT[method], 60), fontsize=8)
            tidy(axes)
            axes.legend(fontsize=7, loc="lower left")
    figure.savefig(path, dpi=120)
    return path


def draw_family(axes: Any, points: list[Point], decoding: str, fit: dict[str, Any], colour: str) -> None:
    """The runs of a family, a mark for each topology, and the line fitted to them."""
    q = np.array([p["trainable_parameters"] for p in points])
    e = np.array([error(answers_right(p, decoding)) for p in points])
    for topology in dict.fromkeys(p["topology"] for p in points):
        chosen = np.array([p["topology"] == topology for p in points])
        mark = "s" if topology == "2-2" else "o"
        axes.plot(q[chosen], e[chosen], mark, color=colour, ms=4.5, alpha=0.7, mfc="none")
    ends = np.array([q.min(), q.max()])
    height = np.exp(np.log(e).mean() + fit["exponent"] * (np.log(q).mean() - np.log(ends)))
    low, high = fit["ci95"]
    label = f"{NAMES[points[0]['family']]}: γ = {fit['exponent']:.3f} [{low:.3f}, {high:.3f}]".replace("-", "−")
    axes.plot(ends, height, color=colour, lw=2, label=label)


def content(chosen: dict[str, list[Point]], fits: dict[str, Any], picture: Path) -> list[Block]:
    first = next(iter(chosen.values()))[0]
    blocks: list[Block] = [
        Heading("Error against trainable parameters: one policy and networks", 1),
        Text(
            "Nested arithmetic of 4 leaves, embedded backbone, LoRA on the query and value projections. n = "
            f"{first['n']} test questions, seeds {', '.join(map(str, SEEDS))}; learning rates by sampled accuracy on "
            "validation with the first seed. Error is 1 - accuracy. Exponents: least squares of log error on log q "
            "over all runs of a family; intervals: bootstrap over seeds and questions. What the theory says, and why "
            "this is no proof of it or against it, is in docs/theory.md. Made by: python -m studies.capacity.study "
            "DIR joint supervised; python -m studies.capacity.report DIR (setting: studies/capacity/recipe.toml)."
        ),
        Picture(picture, "Error over trainable parameters; circles and squares are runs, lines are fits"),
    ]
    for method, points in chosen.items():
        samples = sorted({p["samples"] for p in points})
        floors = points[0]["floors"]
        blocks += [
            Heading(ABOUT[method]),
            Text(
                f"{', '.join(f'{s:,}' for s in samples)} samples in training, the same for all. Floors: chance "
                f"{floors['chance']:.1%}, best constant {floors['best_constant']:.1%}."
            ),
            fitted(fits[method]),
            measured(points),
        ]
    return blocks


def fitted(fits: dict[str, Any]) -> Table:
    """Exponents of a method, and their differences."""
    rows: list[list[str]] = []
    for decoding, by_family in fits.items():
        for name, fit in by_family.items():
            value, (low, high) = fit.get("exponent", fit.get("difference")), fit["ci95"]
            runs = str(fit["runs"]) if "runs" in fit else ""
            rows.append([decoding, NAMES.get(name, name), f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}", runs])
    return Table(["error", "family, or difference of two", "exponent", "95 %", "runs"], rows, frozenset({0, 1}))


def measured(points: list[Point]) -> Table:
    """Every system: parameters, calls, rate, accuracies of the seeds."""
    systems: dict[tuple[str, str, int], list[Point]] = defaultdict(list)
    for p in points:
        systems[p["family"], p["topology"], p["rank"]].append(p)
    rows: list[list[str]] = []
    for (family, topology, rank), runs in systems.items():
        row = [NAMES[family], topology, str(rank), f"{runs[0]['trainable_parameters']:,}", str(runs[0]["calls"])]
        row.append(f"{runs[0]['rate']:g}")
        for decoding in ("sampled", "greedy"):
            mean = sum(p[decoding] for p in runs) / len(runs)
            row += [with_wilson(mean, runs[0]["n"]), " ".join(f"{p[decoding] * 100:.0f}" for p in runs)]
        rows.append(row)
    head = ["system", "topology", "rank", "trainable", "calls", "rate"]
    head += ["sampled [95 %]", "seeds", "greedy [95 %]", "seeds"]
    return Table(head, rows, words=frozenset({0, 1}))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[-1]))
