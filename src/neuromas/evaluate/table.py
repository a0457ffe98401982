"""From the answers of a comparison to its figures: one result a cell, one row a system, paired tests.

A cell is one system on one task with one seed. All that is needed stands in two files of JSON lines: `cells.jsonl`
says what each cell is, in the order of the report, and `answers.jsonl` holds one line for each of its questions.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from neuromas.errors import CheckpointError, ConfigError
from neuromas.evaluate.run import summarise
from neuromas.evaluate.stats import holm, mcnemar, paired_bootstrap, wilson
from neuromas.files import read_json_lines
from neuromas.results import CellAnswer, CellKey, CellRecord, CellResult, ComparisonRow, Versus

CELLS, ANSWERS = "cells.jsonl", "answers.jsonl"


@dataclass(frozen=True)
class Cell:
    """One system on one task with one seed, answered to the end."""

    record: CellRecord
    answers: list[CellAnswer]  # In the order of the questions.


def read_cells(folder: Path) -> list[Cell]:
    """The complete cells of a comparison, in the order of cells.jsonl; answers.jsonl may be gzipped.

    Raises ConfigError where there is none, `CheckpointError` where a file is damaged.
    """
    answers: dict[CellKey, list[CellAnswer]] = defaultdict(list)
    packed = not (folder / ANSWERS).exists()
    for line in read_json_lines(folder / (f"{ANSWERS}.gz" if packed else ANSWERS), CellAnswer.from_dict):
        answers[line.key].append(line)
    records: list[CellRecord] = read_json_lines(folder / CELLS, CellRecord.from_dict)
    check_known(folder, {record.key for record in records}, answers)
    cells = [
        Cell(record, sorted(answers[record.key], key=lambda line: line.index))
        for record in records
        if len(answers[record.key]) == record.n
    ]
    if not cells:
        raise ConfigError(f"{folder} holds no complete cell of a comparison; run: neuromas compare SPEC.toml --out DIR")
    return cells


def check_known(folder: Path, known: Collection[CellKey], answered: Iterable[CellKey]) -> None:
    """Raises `CheckpointError` for answers of a cell that is not there: a cell is on disk before its answers."""
    if lost := next((key for key in answered if key not in known), None):
        raise CheckpointError(
            f"{folder / ANSWERS} has answers of {', '.join(map(str, lost))}, and {CELLS} has no such cell; nothing was "
            f"changed: put a copy of {CELLS} back, or choose another folder"
        )


def results(cells: list[Cell]) -> list[CellResult]:
    """The score of each cell."""
    return [CellResult(**vars(cell.record) | vars(summarise(cell.answers))) for cell in cells]


def pool(cells: list[Cell]) -> ComparisonRow:
    """One system over its seeds: means, and the Wilson interval at the number of distinct questions.

    All seeds answer the same questions, so n is not multiplied by the seeds; the accuracy of each seed stands beside.
    """
    runs = results(cells)
    mean = lambda key: sum(getattr(run, key) for run in runs) / len(runs)
    share = lambda key: sum(getattr(run, key) or 0 for run in runs) / len(runs) or None
    accuracy, n = mean("accuracy"), runs[0].n
    return ComparisonRow(
        **{name: value for name, value in vars(cells[0].record).items() if name not in ("seed", "note")},
        accuracy=accuracy,
        ci95=wilson(accuracy * n, n),
        seeds=len(runs),
        by_seed=[run.accuracy for run in runs],
        calls=mean("calls"),
        sequential_calls=mean("sequential_calls"),
        generated_tokens=mean("generated_tokens"),
        sequential_tokens=mean("sequential_tokens"),
        prompt_tokens=mean("prompt_tokens"),
        parse_rate=mean("parse_rate"),
        answers_cut=share("answers_cut"),
        thoughts_cut=share("thoughts_cut"),
        ambiguous=share("ambiguous"),
        notes=[f"seed {run.seed}: {run.note}" for run in runs if run.note],
        versus_reference=None,
    )


def rows(cells: list[Cell]) -> list[ComparisonRow]:
    """One row for each system and task, with how far it is from the reference."""
    by_row: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        by_row[cell.record.task, cell.record.system].append(cell)
    table = {key: pool(of_row) for key, of_row in by_row.items()}
    for task in dict.fromkeys(task for task, _ in by_row):
        of_task = {key: row for key, row in table.items() if row.task == task}
        reference = next((key for key, row in of_task.items() if row.reference), None)
        if reference is None:
            continue
        tests = {key: compare(by_row[key], by_row[reference]) for key in of_task if key != reference}
        for (key, test), p in zip(tests.items(), holm([test.p for test in tests.values()]), strict=True):
            table[key] = replace(table[key], versus_reference=replace(test, p_holm=p))
    return list(table.values())


def compare(mine: list[Cell], reference: list[Cell]) -> Versus:
    """Paired over the questions: a system's accuracy minus the reference's, its interval, and a p-value.

    A question counts once: with several seeds its mean over them. The interval is a paired bootstrap's over questions.
    The p-value is McNemar's exact one where both have one seed and rewards of 0 or 1, else that bootstrap's.
    """
    a, b = mean_rewards(mine), mean_rewards(reference)
    assert a.keys() == b.keys(), "both were asked the same questions"
    paired = paired_bootstrap([a[q] - b[q] for q in a])
    test = Versus(difference=paired.difference, ci95=paired.ci95, test="paired bootstrap", p=paired.p)
    if len(mine) == len(reference) == 1 and {*a.values(), *b.values()} <= {0, 1}:
        ahead, behind = sum(a[q] > b[q] for q in a), sum(a[q] < b[q] for q in a)
        test = replace(test, test="McNemar", p=mcnemar(ahead, behind))
    return test


def mean_rewards(cells: list[Cell]) -> dict[str, float]:
    """Question id → its mean reward over the seeds."""
    rewards: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        for line in cell.answers:
            rewards[line.id].append(line.reward)
    return {question: sum(some) / len(some) for question, some in rewards.items()}
