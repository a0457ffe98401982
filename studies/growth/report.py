"""Writes the report of the study of growth, tables and figures, from its lines alone.

usage: python -m studies.growth.report DIR [TARGET]    TARGET: folder for report, figures and lines; by default DIR

An interval over seeds is Student's t over their means; with fewer than three seeds there is none.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuromas.evaluate.render import Block, Heading, Picture, Table, Text, to_markdown
from neuromas.files import read_json_lines, write_text
from studies.growth.figures import ABOUT, Run, draw_curves, draw_kept, draw_paths, of, split
from studies.growth.study import CELLS, READERS, SIZES
from studies.growth.ways import INITS, RECIPES, SHAPES, TARGETS
from studies.shared import percents, student

ROOT = Path(__file__).parents[2]
SEEDS = 5
COMPARED = {15: "fade+copy", 31: "noise+copy+slow"}  # size -> way that is compared with others; of other sizes `fade`
MEASURES = ("last_greedy", "last_sampled", "best_greedy", "best_sampled")
TRIED = {  # earlier runs: title, difference from the settings of today, networks by size
    "paths_unanchored": (
        "As first tried, without the anchor: expressions of 8 leaves",
        (
            "As with recipes/tiny_compositional_paths.toml, but train.kl 0, answers not balanced, 16 questions a "
            "step, 120 steps, and in easy questions what does not count always adds 0."
        ),
        SHAPES,
    ),
    "paths_deeper": (
        "With a new last layer as the last growth: expressions of 8 leaves",
        "As with recipes/tiny_compositional_paths.toml, but 4-2 grew to 8-4-2: both layers twice as wide, and a third.",
        SHAPES | {15: "8-4-2"},
    ),
    "paths_wider": (
        "With readers of all messages as the last growth: expressions of 8 leaves",
        (
            "As with recipes/tiny_compositional_paths.toml, but 4-2 grew to 24-6, whose second layer reads 24 "
            "messages where it had read 4, instead of five groups of 4-2 side by side."
        ),
        SHAPES | {31: "24-6"},
    ),
    "sizes_deeper": (
        "With a new last layer as the last growth: expressions of 4 leaves",
        "As with studies/growth/sizes.toml, but from 4-2 to 8-4-2, whose new nodes faded in.",
        SHAPES | {15: "8-4-2"},
    ),
}


def main(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    blocks: list[Block] = [Heading("Growth on the embedded backbone", 1)]
    parts = {"paths": grown, "readers": readers, "tune": tuned, "sizes": grown, "keep": kept} | dict.fromkeys(
        TRIED, tried
    )
    for name, content in parts.items():
        runs: list[Run] = sorted(read_json_lines(folder / f"{name}.jsonl"), key=lambda r: r["seed"])
        if runs:
            blocks += content(name, runs, target)
            if folder != target:
                shutil.copyfile(folder / f"{name}.jsonl", target / f"{name}.jsonl")
    write_text(target / "report.md", to_markdown(blocks))
    print(target / "report.md")


# -- does growth keep what was learned? ------------------------------------------------------------------------


def kept(_: str, runs: list[Run], target: Path) -> list[Block]:
    n = runs[0]["n"]
    return [
        Heading("Does a grown network end below its parent?"),
        Text(
            "recipes/tiny_compositional_growth.toml: a network of three nodes until its sampled reward is 95 % (mean "
            f"of 5 steps), then 40 steps as the larger one. Greedy accuracy of the whole network on {n} validation "
            "questions (task seed 4): the parent's, the lowest after growing, at the end. Best constant: about 27 %. "
            "The noise of one such accuracy is 1.3 points at 90 % and 0.6 at 98 %."
        ),
        Picture(draw_kept(runs, target / "keep.png"), "Validation accuracy before and after growing, every seed"),
        kept_table(runs),
    ]


def kept_table(runs: list[Run]) -> Table:
    rows: list[list[str]] = []
    for growth, init in ((g, i) for g in TARGETS for i in INITS):
        mine = [r for r in runs if (r["target"], r["init"]) == (growth, init)]
        if mine:
            parts = [split(r) for r in mine]
            parents, grown = [b[-1][1] for b, _ in parts], [a[-1][1] for _, a in parts]
            lowest = [min(y for _, y in a) for _, a in parts]
            rewards = [np.mean([y for _, y in r["reward"][-5:]]) for r in mine]
            gain = [100 * (a - b) for a, b in zip(grown, parents, strict=True)]
            row = [f"2 → {growth}", init, str(len(mine)), percents(parents), percents(lowest), percents(grown)]
            rows.append([*row, f"{np.mean(gain):+.1f}{interval(gain)}", percents(rewards)])
    head = ["growth", "new nodes", "seeds", "parent %", "lowest %", "end %"]
    head += ["end − parent, points [95 %]", "sampled reward %"]
    return Table(head, rows, words=frozenset({0, 1}))


# -- how many messages does a reader bear? -----------------------------------------------------------------------


def readers(_: str, runs: list[Run], __: Path) -> list[Block]:
    rows: list[list[str]] = []
    for target in READERS:
        if mine := [r for r in runs if r["target"] == target]:
            size, read, output = (str(mine[0][k]) for k in ("nodes", "node_reads", "output_reads"))
            figures = [percents([r[k] for r in mine]) for k in ("greedy", "sampled")]
            rows.append([target, size, read, output, str(len(mine)), *figures])
    head = ["topology", "nodes", "messages that a node reads", "that the output reads"]
    head += ["seeds", "greedy %", "sampled %"]
    return [
        Heading("How many more messages does a trained reader bear?"),
        Text(
            "Seven nodes (4-2), grown and trained as above, grow by copies and are measured as they are, without "
            f"further training, on {runs[0]['n']} validation questions. In groups (8-4/2) a copied node reads copies "
            "of what the one that it copies reads, and the output alone meets more messages."
        ),
        Table(head, rows, words=frozenset({0})),
    ]


# -- from scratch against grown ----------------------------------------------------------------------------------


def grown(name: str, runs: list[Run], target: Path) -> list[Block]:
    first, leaves, cells = runs[0], {"paths": 8, "sizes": 4}[name], {"paths": CELLS, "sizes": SIZES}[name]
    wanted = SEEDS * sum(map(len, cells))
    missing = "" if len(runs) >= wanted else (
        f" Incomplete: {len(runs)} of {wanted} runs; `python -m studies.growth.study DIR {name}` goes on."
    )  # fmt: skip
    floors = first["floors"]
    return [
        Heading(f"From scratch against grown: expressions of {leaves} leaves"),
        Text(
            f"{RECIPES[name].relative_to(ROOT)}: {min(r['rollouts'] for r in runs):,} rollouts in training for every "
            f"network unless its way says otherwise, n = {first['n']} test questions. Floors: chance "
            f"{floors['chance']:.1%}, best constant {floors['best_constant']:.1%}. Peak: the best checkpoint on "
            "validation, of a grown network perhaps before its last growth; final: the last step. Parse rate: at "
            f"least {min(r['parse_rate'] for r in runs):.1%}.{missing}"
        ),
        *differences(runs),
        Picture(
            draw_paths(runs, target / f"{name}.png", leaves),
            "Test accuracy against size; bands from the worst to the best seed",
        ),
        Picture(draw_curves(runs, target / f"{name}_curves.png"), "Reward of the questions in training, every seed"),
        paths_table(runs),
    ]  # fmt: skip


def tuned(_: str, runs: list[Run], target: Path) -> list[Block]:
    rows: list[list[str]] = []
    for run in runs:
        changed = ", ".join(f"{name} {value:g}" for name, value in run["changed"].items())
        values = [accuracy for _, accuracy in run["validation"]]
        figures = [f"{100 * v:.1f}" for v in (max(values), values[-1], np.mean(run["reward"][-5:]))]
        tokens = f"{run['generated_tokens'] / 1e6:.2f}"
        rows.append([ABOUT[run["way"]], changed, f"{run['rollouts']:,}", *figures, tokens])
    head = ["way", "train", "rollouts", "peak greedy %", "final greedy %", "final sampled reward %"]
    head += ["million tokens trained on"]
    return [
        Heading("Would other settings do?"),
        Text(
            "7 nodes on 8 leaves with other settings than recipes/tiny_compositional_paths.toml: seed "
            f"{runs[0]['seed']}, which no other study has, and {runs[0]['n']} validation questions. Sampled reward: "
            "mean of the last 5 steps, on balanced answers."
        ),
        Table(head, rows, words=frozenset({0, 1})),
    ]


def differences(runs: list[Run]) -> list[Block]:
    """Grown networks minus each control, where both are there, in points at the end; 95 % of the mean over seeds."""
    rows: list[list[str]] = []
    for size in SHAPES:
        way = COMPARED.get(size, "fade")
        grown = {r["seed"]: r for r in of(runs, way, size)}
        for control in ("scratch", "staged", "easy", "longer", "scratchpad", "scratchpad+easy"):
            other = {r["seed"]: r for r in of(runs, control, size)}
            if seeds := sorted(grown.keys() & other.keys()):
                points = [[100 * (grown[s][m] - other[s][m]) for s in seeds] for m in MEASURES[:2]]
                words = [f"{np.mean(p):+.1f}{interval(p)}" for p in points]
                rows.append([f"{size} ({SHAPES[size]})", ABOUT[way], ABOUT[control], str(len(seeds)), *words])
    head = ["nodes", "this", "minus this", "seeds", "greedy, points [95 %]", "sampled, points [95 %]"]
    return [Table(head, rows, words=frozenset({0, 1, 2}))] if rows else []


def tried(name: str, runs: list[Run], target: Path) -> list[Block]:
    title, differed, shapes = TRIED[name]
    size = f"{runs[0]['rollouts']:,} rollouts in training for every network, n = {runs[0]['n']} test questions."
    picture = Picture(draw_curves(runs, target / f"{name}_curves.png", shapes), "Reward in training, every seed")
    return [Heading(title), Text(f"{differed} {size}"), picture, paths_table(runs, shapes)]


def paths_table(runs: list[Run], shapes: dict[int, str] = SHAPES) -> Table:
    rows: list[list[str]] = []
    for size in shapes:
        for way in ABOUT:
            if mine := of(runs, way, size):
                mean = lambda key, mine=mine: float(np.mean([r[key] for r in mine]))
                accuracies = [percents([r[m] for r in mine]) for m in MEASURES]
                stages = "; ".join("+".join(map(str, r["stages"])) for r in mine)
                row = [f"{size} ({shapes[size]})", ABOUT[way], str(len(mine)), *accuracies]
                row += ["; ".join(map(solved, mine)), f"{mean('generated_tokens') / 1e6:.2f}"]
                row += [f"{mean('sequential_calls'):g}", f"{mean('sequential_tokens'):.0f}"]
                rows.append([*row, f"{mine[0]['trainable_parameters']:,}", stages])
    head = ["nodes", "way", "seeds", "final greedy %", "final sampled %", "peak greedy %", "peak sampled %"]
    head += ["thousand rollouts to 90 % on validation", "million tokens trained on", "calls in a row"]
    head += ["tokens in a row", "trainable", "steps of the stages"]
    return Table(head, rows, words=frozenset({0, 1, 12}))


def solved(run: Run) -> str:
    """Thousands of rollouts until the network first had 90 % of the whole questions right on validation."""
    step = next((step for step, accuracy in run["validation"] if accuracy >= 0.9), None)
    return "–" if step is None else f"{step * run['rollouts'] / len(run['reward']) / 1000:.1f}"


def interval(points: Sequence[float]) -> str:
    """The 95 % interval of a mean over seeds; empty where there are fewer than three."""
    if len(points) < 3:
        return ""
    _, low, high = student(points)
    return f" [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[-1]))
