"""`neuromas init`: a table becomes a task and a recipe, both to be read and changed."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import tyro

from neuromas.cli.lists import describe_task, print_table
from neuromas.markup import say
from neuromas.network.builtin import smollm2_installed
from neuromas.tasks import load_task
from neuromas.tasks.guess import Guess, guess

_SHOWN = 5  # questions


def main(
    table: Annotated[Path, tyro.conf.Positional],
    question: str | None = None,
    answer: str | None = None,
    choices: tuple[str, ...] = (),
    grader: str | None = None,
    instruction: str | None = None,
    backbone: str | None = None,
) -> None:
    """Look at a table, guess what it asks, and write a task and a recipe beside it. Nothing is overwritten.

    Args:
        table: A file (.csv, .tsv, .json, .jsonl, .parquet, .arrow), or a folder of one data set.
        question: Column of questions; by default guessed.
        answer: Column of answers; by default guessed.
        choices: Column with lists of options, or the columns of the options.
        grader: exact, contains, number, math, yes-no, choice, or FILE.py:FUNCTION; by default guessed.
        instruction: What the answering node is told; by default according to the grader.
        backbone: The frozen language model; by default one that is here (see `neuromas backbones`).
    """
    from neuromas.cli.scaffold import FILES, existing, recipe_text, task_text, write

    told: dict[str, Any] = {"question": question, "answer": answer, "grader": grader, "instruction": instruction}
    told |= {"choices": choices[0] if len(choices) == 1 else list(choices) or None}
    told = {key: value for key, value in told.items() if value is not None}
    task_file, recipe = (table.with_name(table.stem + ending) for ending in FILES)
    existing(task_file, recipe)
    found = guess(table, told)
    task = load_task(str(table), **found.settings)
    _show(table, found)
    for asked in task.questions("train")[:_SHOWN]:
        say("", *asked.text.splitlines(), f"  answer: {asked.answer}")
    say("")
    describe_task(task)
    model = backbone or ("smollm2-135m" if smollm2_installed() else "tiny")
    write(task_file, task_text(table, found))
    write(recipe, recipe_text(task_file, model, len(task.questions("train"))))
    first = next(iter(task.questions("test") or task.questions("train"))).text
    run = Path("runs") / table.stem
    say(
        f"written: {task_file} (the task), {recipe} (the training); both are yours to change",
        "now try:",
        f"  neuromas plan {shlex.quote(str(recipe))}",
        f"  neuromas train {shlex.quote(str(recipe))} --out {shlex.quote(str(run))}",
        f"  neuromas ask {shlex.quote(str(run))} {shlex.quote(first)}",
    )


def _show(table: Path, found: Guess) -> None:
    """Print what was guessed, with reasons and warnings."""
    shown = {key: value for key, value in found.settings.items() if key != "data"}
    say(f"{table}:")
    print_table(("setting", "value", ""), [(k, str(value), found.reasons.get(k, "")) for k, value in shown.items()])
    say(*(f"warning: {text}" for text in found.warnings))
