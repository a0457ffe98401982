"""From the answers of a comparison to its figures: one result a cell, one row a system, paired tests.

A cell is one system on one task with one seed. All that is needed stands in two files of JSON lines: `cells.jsonl`
says what each cell is, in the order of the report, and `answers.jsonl` holds one line for each of its questions.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import ConfigError
from neuromas.evaluate.run import COSTS, summarise
from neuromas.evaluate.stats import holm, mcnemar, paired_bootstrap, wilson
from neuromas.files import read_json_lines
from neuromas.results import AnswerRecord

CELLS, ANSWERS = "cells.jsonl", "answers.jsonl"
Key = tuple[str, str, int]  # system, task, seed


@dataclass(frozen=True)
class Cell:
    """One system on one task with one seed, answered to the end."""

    facts: dict[str, Any]  # its line of cells.jsonl
    answers: list[dict[str, Any]]  # its lines of answers.jsonl, in the order of the questions


def key_of(line: dict[str, Any]) -> Key:
    """The cell that a line of either file belongs to."""
    return line["system"], line["task"], line["seed"]


def read_cells(folder: Path) -> list[Cell]:
    """The complete cells of a comparison, in the order of cells.jsonl; answers.jsonl may be gzipped.

    Raises ConfigError where there is none.
    """
    answers: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    packed = not (folder / ANSWERS).exists()
    for line in read_json_lines(folder / (f"{ANSWERS}.gz" if packed else ANSWERS)):
        answers[key_of(line)].append(line)
    cells = [
        Cell(facts, sorted(answers[key_of(facts)], key=lambda line: line["index"]))
        for facts in read_json_lines(folder / CELLS)
        if len(answers[key_of(facts)]) == facts["n"]
    ]
    if not cells:
        raise ConfigError(f"{folder} holds no complete cell of a comparison; run: neuromas compare SPEC.toml --out DIR")
    return cells


def results(cells: list[Cell]) -> list[dict[str, Any]]:
    """The figures of each cell: what `evaluate` returns, and the cell's facts."""
    return [cell.facts | summarise([AnswerRecord.from_dict(line) for line in cell.answers]).to_dict() for cell in cells]


def pool(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One system's figures over its seeds: means, and the Wilson interval at the number of distinct questions.

    All seeds answer the same questions, so n is not multiplied by the seeds; the accuracy of each seed stands beside.
    """
    mean = lambda key: sum(run[key] for run in runs) / len(runs)
    accuracy, n = mean("accuracy"), runs[0]["n"]
    return {
        "accuracy": accuracy,
        "ci95": list(wilson(accuracy * n, n)),
        "n": n,
        "seeds": len(runs),
        "by_seed": [run["accuracy"] for run in runs],
        **{cost: mean(cost) for cost in COSTS if cost != "dropped_tokens"},
        "trainable_parameters": runs[0]["trainable_parameters"],
        "parse_rate": mean("parse_rate"),
        "floors": runs[0]["floors"],
    }


def rows(cells: list[Cell]) -> list[dict[str, Any]]:
    """One row for each system and task: its figures over the seeds, and how far it is from the reference.

    `versus_reference` is None for the reference itself, and where the reference has no answers yet.
    """
    by_row: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        by_row[cell.facts["task"], cell.facts["system"]].append(cell)
    found: list[dict[str, Any]] = []
    for of_row in by_row.values():
        seed_free = {k: v for k, v in of_row[0].facts.items() if k not in ("seed", "note")}
        notes = [f"seed {c.facts['seed']}: {c.facts['note']}" for c in of_row if c.facts["note"]]
        found.append(seed_free | pool(results(of_row)) | {"notes": notes, "versus_reference": None})
    for task in dict.fromkeys(task for task, _ in by_row):
        of_task = [row for row in found if row["task"] == task]
        reference = next((row for row in of_task if row["reference"]), None)
        if reference is None:
            continue
        others = [row for row in of_task if row is not reference]
        base = by_row[task, reference["system"]]
        tests = [compare(by_row[task, row["system"]], base) for row in others]
        for row, test, p in zip(others, tests, holm([test["p"] for test in tests]), strict=True):
            row["versus_reference"] = test | {"p_holm": p}
    return found


def compare(mine: list[Cell], reference: list[Cell]) -> dict[str, Any]:
    """Paired over the questions: a system's accuracy minus the reference's, its interval, and a p-value.

    A question counts once: with several seeds its mean over them. The interval is a paired bootstrap's over questions.
    The p-value is McNemar's exact one where both have one seed and rewards of 0 or 1, else that bootstrap's.
    """
    a, b = mean_rewards(mine), mean_rewards(reference)
    assert a.keys() == b.keys(), "both were asked the same questions"
    found = paired_bootstrap([a[q] - b[q] for q in a])
    out = {"difference": found.difference, "ci95": list(found.ci95), "test": "paired bootstrap", "p": found.p}
    if len(mine) == len(reference) == 1 and {*a.values(), *b.values()} <= {0, 1}:
        ahead, behind = sum(a[q] > b[q] for q in a), sum(a[q] < b[q] for q in a)
        out |= {"test": "McNemar", "p": mcnemar(ahead, behind)}
    return out


def mean_rewards(cells: list[Cell]) -> dict[str, float]:
    """Question id → its mean reward over the seeds."""
    rewards: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        for line in cell.answers:
            rewards[line["id"]].append(line["reward"])
    return {question: sum(some) / len(some) for question, some in rewards.items()}


def floors_line(row: dict[str, Any]) -> str:
    """The floors of a result, in words."""
    f = row["floors"]
    return (
        f"floors on these {row['n']} questions: chance {f['chance']:.1%}, majority of training answers "
        f"{f['majority']:.1%}, best constant ({f['constant_answer']!r}) {f['best_constant']:.1%}"
    )


def fit_line(row: dict[str, Any]) -> str:
    """What a result's baseline took to be fitted, in words."""
    f = row["fit"]
    if not f["questions"]:
        return "not fitted"
    return (
        f"fitted before on {f['questions']} train questions: {f['calls']} calls, {f['prompt_tokens']} prompt and "
        f"{f['generated_tokens']} generated tokens (not counted above), {f['reward'] / f['questions']:.1%} right"
    )
