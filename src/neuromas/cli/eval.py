"""`neuromas eval`: measure a run, or a baseline, on a task."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from neuromas.cli.options import Natural, Positive, SystemOptions
from neuromas.cli.show import bar, console, print_reading, results_table
from neuromas.errors import ConfigError
from neuromas.files import write_json, write_json_lines
from neuromas.results import fit_line, floors_line
from neuromas.tasks.base import Task
from neuromas.types import System


def main(
    system: Annotated[str, tyro.conf.Positional],
    source: SystemOptions,
    split: Literal["train", "validation", "test"] = "test",
    limit: Positive | None = None,
    sampled: bool = False,
    blank: bool = False,
    votes: Positive = 1,
    seed: Natural = 0,
    json: Path | None = None,
    answers: Path | None = None,
) -> None:
    """Measure a system: n, Wilson interval, parse rate, calls, tokens, floors.

    Args:
        system: A run folder, an export on the hub (OWNER/NAME), or a baseline (see `neuromas baselines`).
        source: Options of the system.
        split: Split whose questions are asked.
        limit: Use only the first LIMIT questions.
        sampled: Sample answers instead of decoding greedily.
        blank: Deliver every message empty, to measure the network without its messages.
        votes: Take the majority of this many sampled answers.
        seed: Seed of sampling, and of what a baseline learns.
        json: Write the figures to this file too.
        answers: Write one JSON line a question to this file.
    """
    from neuromas.cli.systems import load_system
    from neuromas.evaluate.run import evaluate

    _check(system, sampled, blank, votes)
    with bar("fitting on the train split", shown=False) as on_fit:
        loaded = load_system(system, source, on_fit, seed)
    subject, silent = _subject(loaded.system, loaded.task, blank, votes)
    silent |= {"greedy": not sampled and votes == 1, "seed": seed}
    with bar(f"{subject.name} on {loaded.task.name}") as progress:
        evaluation = evaluate(subject, loaded.task, split, limit, progress=progress, **silent)
    result = replace(evaluation.result, delivery="blanked" if blank else "as sent")
    if json is not None:
        write_json(json, result.to_dict())
    if answers is not None:
        write_json_lines(answers, (record.to_dict() for record in evaluation.records))
    console.print(results_table([result], f"{loaded.task.name} ({split})"))
    print_reading([result])
    console.print(floors_line(result), markup=False)
    if result.fit is not None:
        console.print(fit_line(result.fit), markup=False)


def _check(system: str, sampled: bool, blank: bool, votes: int) -> None:
    """Raises ConfigError for options that contradict each other."""
    if blank and votes > 1:
        raise ConfigError("--blank and --votes cannot be combined; leave one out")
    if system == "logit" and (blank or sampled or votes > 1):
        raise ConfigError("logit scores the options and writes nothing; leave out --blank, --sampled and --votes")


def _subject(system: System, task: Task, blank: bool, votes: int) -> tuple[System, dict[str, Any]]:
    """The system to be measured, and the options of its `answer`."""
    from neuromas.baselines.vote import Vote
    from neuromas.network.forward import Network

    if votes > 1:
        return Vote(system, votes, task.parse), {}
    if not blank:
        return system, {}
    if not isinstance(system, Network):
        raise ConfigError(f"--blank silences the nodes of a network, and {system.name} is none; leave it out")
    return system, {"blank": system.topology.nodes[:-1]}
