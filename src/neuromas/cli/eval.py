"""`neuromas eval`: measure a run, or a baseline, on a task."""

import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neuromas.cli.options import SystemOptions

if TYPE_CHECKING:
    from neuromas.cli.systems import Watch
    from neuromas.evaluate.run import Evaluation
    from neuromas.tasks.base import Split, Task
    from neuromas.types import System


def main(
    system: Annotated[str, tyro.conf.Positional],
    source: SystemOptions,
    task: str | None = None,
    split: Literal["train", "validation", "test"] = "test",
    limit: int | None = None,
    sampled: bool = False,
    blank: bool = False,
    votes: int = 1,
    seed: int = 0,
    json: Path | None = None,
    answers: Path | None = None,
) -> None:
    """Measure a system: n, Wilson interval, parse rate, calls, tokens, floors.

    Args:
        system: A run folder, or a baseline (see `neuromas baselines`).
        source: Options of the system.
        task: What to ask; by default the run's own task.
        split: Which questions.
        limit: The first so many questions only.
        sampled: Sample answers instead of decoding greedily.
        blank: Deliver every message empty: what the network is worth without what its nodes say.
        votes: Take the majority of so many sampled answers.
        seed: Of sampling, and of what a baseline learns.
        json: Write the figures to this file too.
        answers: Write one JSON line a question to this file.
    """
    from neuromas.cli.show import console, results_table
    from neuromas.cli.systems import load_system
    from neuromas.files import write_json, write_text
    from neuromas.results import fit_line, floors_line

    _check(system, sampled, blank, votes)
    with _progress() as fit:
        made = load_system(system, source, task, fit, seed)
    loaded = made.task
    subject, silent = _subject(made.system, loaded, blank, votes)
    found = _measure(subject, loaded, split, limit, greedy=not sampled and votes == 1, seed=seed, **silent)
    result = replace(found.result, delivery="blanked" if blank else "as sent")
    console.print(results_table([result], f"{loaded.name} ({split})"))
    console.print(floors_line(result), markup=False)
    if result.fit is not None:
        console.print(fit_line(result.fit), markup=False)
    if json is not None:
        write_json(json, result.to_dict())
    if answers is not None:
        write_text(answers, "".join(json_module.dumps(r.to_dict(), ensure_ascii=False) + "\n" for r in found.records))


def _check(system: str, sampled: bool, blank: bool, votes: int) -> None:
    """Raises ConfigError for options that contradict each other."""
    from neuromas.errors import ConfigError

    if blank and votes > 1:
        raise ConfigError("--blank and --votes cannot be combined; leave one out")
    if system == "logit" and (blank or sampled or votes > 1):
        raise ConfigError("logit scores the options and writes nothing; leave out --blank, --sampled and --votes")


def _subject(system: "System", task: "Task", blank: bool, votes: int) -> "tuple[System, dict[str, Any]]":
    """What is measured, and the options of its `answer`."""
    from neuromas.baselines.vote import Vote
    from neuromas.errors import ConfigError
    from neuromas.network.forward import Network

    if votes > 1:
        return Vote(system, votes, task.parse), {}
    if not blank:
        return system, {}
    if not isinstance(system, Network):
        raise ConfigError(f"--blank silences the nodes of a network, and {system.name} is none; leave it out")
    return system, {"blank": system.topology.nodes[:-1]}


@contextmanager
def _progress() -> "Iterator[Watch]":
    """A bar that appears when a baseline begins to be fitted."""
    from rich.progress import Progress

    from neuromas.cli.show import console

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("fitting on the train split", total=None, visible=False)
        yield lambda done, total: progress.update(bar, completed=done, total=total, visible=True)


def _measure(subject: "System", task: "Task", split: "Split", limit: int | None, **options: Any) -> "Evaluation":
    """`evaluate` under a progress bar."""
    from rich.progress import Progress

    from neuromas.cli.show import console
    from neuromas.evaluate.run import evaluate

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"{subject.name} on {task.name}", total=None)
        show = lambda done, total: progress.update(bar, completed=done, total=total)
        return evaluate(subject, task, split, limit, progress=show, **options)
