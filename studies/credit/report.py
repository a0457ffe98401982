"""Writes the report of the study of credit from its lines alone: variance of gradients, and learning.

usage: python -m studies.credit.report DIR [TARGET]    TARGET: folder for report.md and credit.png; by default DIR
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from neuromas.evaluate.render import Block, Heading, Picture, Table, Text, to_markdown
from neuromas.files import read_json_lines, write_text
from studies.credit.study import KINDS, LEARNED, RATES, SEEDS, TRAINED, chosen_rate, over_tokens
from studies.shared import student, tidy, with_wilson

RESAMPLES = 2000
BASE = "leave_one_out"
Line = dict[str, Any]


def main(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    variance, lines = (read_json_lines(folder / f"{name}.jsonl") for name in ("variance", "learning"))
    of = lambda steps: [line for line in variance if line["trained"] == steps]
    variance = [line for steps in TRAINED if len(of(steps)) == len(KINDS) for line in of(steps)]
    runs = {kind: at_chosen_rate(lines, kind) for kind in LEARNED}
    complete = [s for s in SEEDS if all(s in {run["seed"] for run in mine} for mine in runs.values())]
    if not variance or len(complete) < 2:
        sys.exit(f"{folder} holds too little yet; go on with: python -m studies.credit.study {folder}")
    runs = {kind: [run for run in mine if run["seed"] in complete] for kind, mine in runs.items()}
    ratios = noises(variance)
    picture = draw(target / "credit.png", ratios, runs)
    write_text(target / "report.md", to_markdown(content(variance, ratios, runs, lines, picture)))
    print(target / "report.md")


def at_chosen_rate(lines: list[Line], kind: str) -> list[Line]:
    """The runs of a kind at its rate."""
    rate = chosen_rate(lines, kind)
    return [line for line in lines if line["kind"] == kind and line["rate"] == rate]


# -- numbers ------------------------------------------------------------------------------------------------

Ratio = tuple[float, float, float]  # with the ends of its interval


def noises(variance: list[Line]) -> dict[tuple[int, str, str], Ratio]:
    """(steps, kind, nodes) → variance × tokens relative to the shared advantage; nodes: `hidden` together, or `out`."""
    ratios: dict[tuple[int, str, str], Ratio] = {}
    for line in variance:
        base = next(x for x in variance if x["kind"] == BASE and x["trained"] == line["trained"])
        for nodes in ("hidden", "out"):
            pair = (spread(line, nodes) * line["tokens"], spread(base, nodes) * base["tokens"])
            ratios[line["trained"], line["kind"], nodes] = ratio(*pair)
    return ratios


def spread(line: Line, nodes: str) -> Any:
    """Every draw's share of the variance, over the parameters of the output or over those of all other nodes."""
    return np.sum([x for node, x in line["spread"].items() if (node == "out") == (nodes == "out")], axis=0)


def ratio(mine: Any, base: Any) -> Ratio:
    """Ratio of means with a bootstrap interval over draws, paired since a draw has the same random numbers in both."""
    drawn = np.random.default_rng(0).integers(0, len(mine), (RESAMPLES, len(mine)))
    low, high = np.quantile(mine[drawn].mean(1) / base[drawn].mean(1), [0.025, 0.975])
    return float(mine.mean() / base.mean()), float(low), float(high)


def paired(runs: list[Line], base: list[Line], tokens: float, key: str) -> Ratio:
    """Difference of `over_tokens`, seed by seed, with Student's interval over seeds."""
    of = {run["seed"]: over_tokens(run, tokens, key) for run in base}
    return student([over_tokens(run, tokens, key) - of[run["seed"]] for run in runs])


# -- report -------------------------------------------------------------------------------------------------


def content(
    variance: list[Line],
    ratios: dict[tuple[int, str, str], Ratio],
    runs: dict[str, list[Line]],
    lines: list[Line],
    picture: Path,
) -> list[Block]:
    first = runs[BASE][0]
    tokens = min(run["tokens"] for mine in runs.values() for run in mine)
    seeds = ", ".join(str(run["seed"]) for run in runs[BASE])
    floors, n = first["sampled"]["floors"], first["sampled"]["n"]
    chosen = f"learning rate {RATES[0]:g} for all"
    if len(RATES) > 1:
        listed = ", ".join(f"{rate:g}" for rate in RATES)
        chosen = f"rates from {listed} by mean validation accuracy over the run, first seed"
    return [
        Heading("Estimators of credit at equal generated tokens", 1),
        Text(
            "A network of three nodes on nested arithmetic of 4 leaves, embedded backbone "
            f"({first['trainable_parameters']:,} trainable parameters, recipe.toml). Estimators that branch get as "
            "many fewer rollouts as their branches cost, so a step generates about as many tokens for all. Training "
            f"and validation questions only. Floors on {n} validation questions: chance {floors['chance']:.1%}, best "
            f"constant {floors['best_constant']:.1%}. What the estimators are: docs/estimators.md. Made by: python -m "
            "studies.credit.study DIR; python -m studies.credit.report DIR."
        ),
        Picture(picture, "Left: variance at equal tokens. Right: validation accuracy over generated tokens"),
        Heading("Variance of the gradient at fixed weights"),
        Text(
            f"{variance[0]['draws']} gradients of the same 8 questions, at the weights after so many steps of the "
            "shared advantage. Variance: summed over the parameters of the hidden nodes, and of the output. "
            f"Relative: variance × tokens over that of {BASE}, with a bootstrap interval over draws; below 1 is less "
            "noise for the same tokens."
        ),
        spreads(variance, ratios),
        Heading("Learning"),
        Text(
            f"{len(first['curve'])} steps, seeds {seeds}, {chosen}. Accuracy at the end: greedy on "
            f"{first['validation_n']} and sampled on {n} validation questions, mean over seeds with Wilson's interval "
            f"at n. Over the run: means up to {tokens:,} generated tokens, the most that all runs have, of greedy "
            f"validation accuracy and of the training reward, which is sampled; each one's difference to {BASE} is "
            f"paired by seed, with Student's interval over the {len(runs[BASE])} seeds."
        ),
        learned(runs, tokens),
        *([Heading("Every rate, first seed", 3), rates(lines)] if len(RATES) > 1 else []),
    ]


def spreads(variance: list[Line], ratios: dict[tuple[int, str, str], Ratio]) -> Table:
    """Variance of each kind, for the hidden nodes and the output."""
    rows: list[list[str]] = []
    for line in variance:
        row = [str(line["trained"]), line["kind"], f"{line['reward']:.2f}", f"{line['tokens']:,.0f}"]
        for nodes in ("hidden", "out"):
            relative, low, high = ratios[line["trained"], line["kind"], nodes]
            shown = f"{relative:.2f} [{low:.2f}, {high:.2f}]" if line["kind"] != BASE else "1"
            row += [f"{spread(line, nodes).mean():.4f}", shown]
        rows.append(row)
    head = ["steps", "estimator", "reward", "tokens", "variance, hidden", "relative, hidden"]
    head += ["variance, out", "relative, out"]
    return Table(head, rows, words=frozenset({1}))


def learned(runs: dict[str, list[Line]], tokens: int) -> Table:
    """Accuracy at the end and over the run, for each kind."""
    rows: list[list[str]] = []
    for kind, mine in runs.items():
        first, mean = mine[0], lambda key, mine=mine: sum(run[key] for run in mine) / len(mine)
        row = [kind, str(first["rollouts"]), f"{first['rate']:g}", f"{mean('tokens'):,.0f}", f"{mean('calls'):,.0f}"]
        row += [at_end([run["curve"][-1]["validation"] for run in mine], first["validation_n"])]
        row += [at_end([run["sampled"]["accuracy"] for run in mine], first["sampled"]["n"])]
        row += [f"{sum(run['sampled']['parse_rate'] for run in mine) / len(mine):.1%}"]
        for key in ("validation", "reward"):
            areas = [over_tokens(run, tokens, key) for run in mine]
            row += [f"{100 * sum(areas) / len(areas):.1f}% ({' '.join(f'{100 * x:.0f}' for x in areas)})"]
            difference, low, high = (100 * x for x in paired(mine, runs[BASE], tokens, key))
            row += [f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]" if kind != BASE else ""]
        rows.append(row)
    head = ["estimator", "rollouts", "rate", "tokens", "calls", "greedy at the end", "sampled at the end", "parsed"]
    against = f"minus {BASE}"
    return Table([*head, "greedy over the run", against, "reward over the run", against], rows)


def at_end(accuracies: list[float], n: int) -> str:
    """Mean accuracy with its interval, and in brackets that of every seed."""
    mean = sum(accuracies) / len(accuracies)
    return f"{with_wilson(mean, n)} ({' '.join(f'{100 * x:.0f}' for x in accuracies)})"


def rates(lines: list[Line]) -> Table:
    """Validation accuracy of every kind at every rate, first seed."""
    of = {(line["kind"], line["rate"]): line for line in lines if line["seed"] == SEEDS[0]}
    cells = lambda line: f"{over_tokens(line):.1%}; {line['sampled']['accuracy']:.0%}"
    rows = [[kind, *(cells(of[kind, rate]) for rate in RATES)] for kind in LEARNED]
    return Table(["over the run; sampled at the end", *(f"{rate:g}" for rate in RATES)], rows)


def draw(path: Path, ratios: dict[tuple[int, str, str], Ratio], runs: dict[str, list[Line]]) -> Path:
    """Relative variance; greedy validation accuracy and sampled reward over generated tokens."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, *right = figure.subplots(1, 3)
    _variances(left, ratios)
    for axes, key in zip(right, ("validation", "reward"), strict=True):
        for k, (kind, mine) in enumerate(runs.items()):
            x, y = curves(mine, key)
            style = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))[k]
            axes.plot(x, y.mean(0), color=f"C{k}", ls=style, lw=2, label=kind)
            axes.fill_between(x, y.min(0), y.max(0), color=f"C{k}", alpha=0.1)
        axes.set(ylim=(0, 1.02), xlabel="generated tokens in training, thousands")
    right[0].set(title=f"Greedy validation accuracy, {len(runs[BASE])} seeds (mean, range)")
    right[1].set(title="Training reward, sampled (mean of 5 steps)")
    right[1].legend(fontsize=8, loc="lower right")
    for axes in (left, *right):
        axes.title.set_fontsize(10)
        tidy(axes)
    figure.savefig(path, dpi=120)
    return path


def curves(runs: list[Line], key: str) -> tuple[Any, Any]:
    """Thousands of tokens [X] (mean of the runs) and values [run, X]; rewards as the mean of five steps."""
    points = [[(p["tokens"], p[key]) for p in run["curve"] if key in p] for run in runs]
    if key == "validation":
        points = [[(0, run["untrained"]), *mine] for run, mine in zip(runs, points, strict=True)]
    x, y = np.array(points, float).transpose(2, 0, 1)
    if key == "reward":
        x, y = (np.stack([np.convolve(row, np.ones(5) / 5, "valid") for row in of]) for of in (x, y))
    return x.mean(0) / 1000, y


def _variances(axes: Any, ratios: dict[tuple[int, str, str], Ratio]) -> None:
    places = {place: x for x, place in enumerate(dict.fromkeys((steps, nodes) for steps, _, nodes in ratios))}
    for k, kind in enumerate(KINDS):
        if kind != BASE:
            x = np.array(list(places.values())) + (k - 2.5) * 0.16
            y, low, high = np.array([ratios[steps, kind, nodes] for steps, nodes in places]).T
            axes.errorbar(x, y, yerr=[y - low, high - y], fmt="os^Dv"[k], color=f"C{k}", ms=5, label=kind)
    axes.axhline(1, color="C0", lw=1.5, label=BASE)
    axes.set_xticks(list(places.values()), [f"{nodes},\n{steps} steps" for steps, nodes in places])
    axes.set(yscale="log", ylim=(0.2, 12), ylabel="variance × tokens, relative", title="Gradient noise at equal tokens")
    axes.set_yticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
    axes.set_yticks([], minor=True)
    axes.legend(fontsize=7, ncols=2, loc="upper left")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[-1]))
