"""Writes the report of the study of prompts from its lines alone: the choice, two tables, a figure.

usage: python -m studies.prompts.report DIR [TARGET]    TARGET: folder for report, figure and lines; by default DIR

Only wordings that were measured on every pair of backbone and task are reported.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromas.evaluate.render import Heading, Picture, Table, Text, to_markdown
from neuromas.files import read_json_lines, write_json_lines, write_text
from studies.prompts.study import LIMITS, TASKS, TOPOLOGY, WORDINGS
from studies.shared import tidy

Line = dict[str, Any]
NAMES = {
    "qwen": "Qwen2.5-Coder-0.5B-Instruct",
    "smollm2": "SmolLM2-135M-Instruct",
    "gemma": "Gemma-3-270M (base, style plain)",
}
TITLES = {"steps": "(a ± b) * c", "chain_sum": "a ± b ± c ± d", "basic_arithmetic": "basic arithmetic"}
FIRST, MARGIN = "place", 0.01


def main(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = read_json_lines(folder / "prompts.jsonl")
    of = lambda wording: [r for r in lines if r["wording"] == wording and r["topology"] == TOPOLOGY]
    measured = {wording: of(wording) for wording in WORDINGS if len(of(wording)) == len(NAMES) * len(TASKS)}
    if FIRST not in measured:
        sys.exit(f"{folder} is not complete; go on with: python -m studies.prompts.study {folder} --backbone …")
    if target != folder:
        write_json_lines(target / "prompts.jsonl", lines)
    picture = draw(measured, target / "prompts.png")
    write_text(target / "report.md", to_markdown(content(measured, lines, picture)))
    print(target / "report.md")


def mean(lines: Sequence[Line], name: str, **cell: str) -> float:
    """The mean of a measure over the lines that have it and these values."""
    kept = [r[name] for r in lines if r[name] is not None and all(r[key] == value for key, value in cell.items())]
    return float(np.mean(kept)) if kept else float("nan")


def choice(measured: dict[str, list[Line]], **cell: str) -> str:
    """The wording that the rule of the README chooses."""
    accuracy = {wording: mean(lines, "accuracy", **cell) for wording, lines in measured.items()}
    close = [wording for wording in measured if accuracy[wording] >= max(accuracy.values()) - MARGIN]
    return max(close, key=lambda wording: mean(measured[wording], "new_and_true", **cell))


def content(measured: dict[str, list[Line]], lines: list[Line], picture: Path) -> list[Any]:
    """The blocks of the report."""
    best, base = choice(measured), choice(measured, backbone="gemma")
    old, new = (mean(measured[wording], "accuracy") for wording in (FIRST, best))
    lead = mean(measured[base], "accuracy", backbone="gemma") - mean(measured[best], "accuracy", backbone="gemma")
    first = measured[FIRST][0]
    about = (
        f"Untrained network `1-1`, n = {first['n']} validation questions a cell, greedy, "
        f"{LIMITS.message_tokens} tokens a message, {LIMITS.answer_tokens} an answer, bfloat16. A share of "
        f"{first['n']} has a 95 % interval of up to ±14 points, the mean of nine cells of about ±4. Wordings are those "
        "of `studies/prompts/wordings.toml`. The rule of choice, in `studies/prompts/README.md`, was narrowed to this "
        "network after five cells; which wordings were completed was decided while results came in, and the three that "
        "were had been looked at before on one of the pairs' models."
    )
    result = (
        f"The rule chooses {best!r}: {new:.1%} right on the mean of the nine pairs, where the words of version 1 have "
        f"{old:.1%}. On the base model alone it would choose {base!r}, which leads there by {lead * 100:.1f} points; "
        "words of its own would need five."
    )
    return [
        Heading("What are the words of a prompt worth?", 1),
        Text(about),
        Text(result),
        Picture(picture, "Accuracy by wording and backbone"),
        Heading("By wording", 2),
        summary(measured),
        Heading("By pair: accuracy in percent", 2),
        pairs(measured),
        *others([r for r in lines if r["wording"] not in measured or r["topology"] != TOPOLOGY]),
        Heading("What nodes say: the first question of each task", 2),
        examples(measured, best),
    ]


def summary(measured: dict[str, list[Line]]) -> Table:
    """The means of every wording."""
    head = ["wording", "mean %", *(f"{name} %" for name in NAMES), "new and true %", "blanked %", "cut %"]
    rows: list[list[str]] = []
    for wording, lines in measured.items():
        by = [mean(lines, "accuracy"), *(mean(lines, "accuracy", backbone=name) for name in NAMES)]
        by += [mean(lines, name) for name in ("new_and_true", "blanked", "messages_cut")]
        rows.append([wording, *("–" if np.isnan(value) else f"{value * 100:.1f}" for value in by)])
    return Table(head, rows, words=frozenset({0}))


def pairs(measured: dict[str, list[Line]]) -> Table:
    """The accuracies of every cell, with the best constant answer."""
    head = ["backbone", "task", "best constant", *measured]
    rows: list[list[str]] = []
    for name in NAMES:
        for task in TASKS:
            cell = {"backbone": name, "task": task}
            accuracies = [f"{mean(lines, 'accuracy', **cell) * 100:.0f}" for lines in measured.values()]
            constant = mean(measured[FIRST], "best_constant", **cell)
            rows.append([NAMES[name], TITLES[task], f"{constant * 100:.0f}", *accuracies])
    return Table(head, rows, words=frozenset({0, 1}))


def others(lines: list[Line]) -> list[Any]:
    """What was measured of other networks and of wordings that are not complete."""
    if not lines:
        return []
    head = ["network", "wording", "backbone", "task", "accuracy %", "new and true %", "blanked %"]
    rows = [
        [r["topology"], r["wording"], r["backbone"], TITLES[r["task"]]]
        + ["–" if r[name] is None else f"{r[name] * 100:.0f}" for name in ("accuracy", "new_and_true", "blanked")]
        for r in sorted(lines, key=lambda r: (r["topology"], r["wording"], r["backbone"], r["task"]))
    ]
    return [Heading("Measured in part", 2), Table(head, rows, words=frozenset({0, 1, 2, 3}))]


def examples(measured: dict[str, list[Line]], best: str) -> Table:
    """Messages and answers under the words of version 1 and under the chosen ones."""
    rows: list[list[str]] = []
    for name in NAMES:
        for task in TASKS:
            said: list[str] = []
            for wording in dict.fromkeys((FIRST, best)):
                line = next(r for r in measured[wording] if (r["backbone"], r["task"]) == (name, task))
                question, texts, _ = line["examples"][0]
                said.append(" → ".join(" ".join(text.split()) for text in texts))
            rows.append([name, question, *said])
    return Table(["backbone", "question", *dict.fromkeys((FIRST, best))], rows, words=frozenset({0, 1, 2, 3}))


def draw(measured: dict[str, list[Line]], file: Path) -> Path:
    """Accuracy by wording: bars for each backbone, and the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    places, width = np.arange(len(measured)), 0.2
    for k, name in enumerate([*NAMES, "mean"]):
        cell = {} if name == "mean" else {"backbone": name}
        heights = [100 * mean(lines, "accuracy", **cell) for lines in measured.values()]
        label = NAMES.get(name, "mean of the nine pairs")
        axes.bar(places + (k - 1.5) * width, heights, width, label=label, color="black" if name == "mean" else f"C{k}")
    axes.set_xticks(places, list(measured), rotation=20)
    axes.set_ylabel("right, untrained, greedy, %")
    axes.legend(fontsize=8)
    tidy(axes)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
    return file


if __name__ == "__main__":
    source = Path(sys.argv[1])
    main(source, Path(sys.argv[2]) if len(sys.argv) > 2 else source)
