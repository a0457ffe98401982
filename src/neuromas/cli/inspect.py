"""`neuromas inspect`: the messages of each node of a run, and their worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape
from rich.table import Table as Grid

from neuromas.baselines import BASELINES
from neuromas.cli.options import Natural, Positive
from neuromas.cli.show import bar, console
from neuromas.errors import ConfigError
from neuromas.evaluate.render import Block, Heading, Table, Text, plain
from neuromas.files import write_json, write_json_lines


def main(
    run: Annotated[str, tyro.conf.Positional],
    task: str | None = None,
    split: Literal["train", "validation", "test"] = "test",
    limit: Positive = 256,
    checkpoint: Literal["best", "last"] = "best",
    decoding: Literal["greedy", "sampled", "both"] = "both",
    exact: Natural = 6,
    orders: Positive = 4,
    seed: Natural = 0,
    out: Path | None = None,
    json: Path | None = None,
    threads: Positive | None = None,
    backbone: str | None = None,
) -> None:
    """Study the nodes of a trained network: interventions, values, distinctness, messages.

    Args:
        run: A run folder.
        task: Task whose questions are asked; by default the run's own.
        split: Split whose questions are asked.
        limit: Use only the first LIMIT questions.
        checkpoint: State of the run: best on validation, or last.
        decoding: Let nodes write greedily, by sampling, or study both.
        exact: Most hidden nodes for which Shapley values are exact (2^n passes).
        orders: Random orders of joining for each question, in larger networks; an odd number is rounded up.
        seed: Seed of sampling and of everything that is drawn at random.
        out: Folder of the report, its drawings, figures and raw lines; by default RUN/inspect.
        json: Write the figures to this file too.
        threads: CPU threads; by default all cores.
        backbone: The base model, where it has another name here.
    """
    from neuromas.analysis.report import content, write_report
    from neuromas.analysis.study import Sizes, study
    from neuromas.cli.options import SystemConfig
    from neuromas.cli.systems import load_system
    from neuromas.network.forward import Network

    if run in BASELINES:
        raise ConfigError(f"{run} is a baseline, whose calls are prompted by hand; inspect takes a trained run folder")
    loaded = load_system(run, SystemConfig(checkpoint=checkpoint, threads=threads, task=task, backbone=backbone))
    if not isinstance(loaded.system, Network):
        raise ConfigError(f"{run} holds a team with fixed roles, not a network; inspect takes a network's run folder")
    decodings = ("greedy", "sampled") if decoding == "both" else (decoding,)
    sizes = Sizes(limit, exact, orders)
    with bar("passes") as on_pass:
        inspection = study(loaded.system, loaded.task, split, sizes, decodings=decodings, seed=seed, on_pass=on_pass)
    findings, folder = inspection.findings, _default_folder(run) if out is None else out
    write_json(folder / "findings.json", findings.to_dict())
    write_json_lines(folder / "raw.jsonl", inspection.raw_lines())
    report = write_report(findings, folder)
    show(content(findings, brief=True))
    console.print(f"\nreport: {report}; figures: findings.json and raw.jsonl beside it", markup=False)
    if json is not None:
        write_json(json, findings.to_dict())


def _default_folder(run: str) -> Path:
    """Inside a run folder; for an export on the hub, in the current folder."""
    return Path(run) / "inspect" if Path(run).is_dir() else Path(f"{Path(run).name}_inspect")


def show(blocks: Sequence[Block]) -> None:
    """Show a report in the terminal, without its last section, which only explains."""
    for block in blocks:
        if isinstance(block, Heading):
            if block.text == "How to read it":
                return
            console.print(f"\n[bold]{escape(plain(block.text))}[/]")
        elif isinstance(block, Text):
            console.print(plain(block.text), markup=False)
        elif isinstance(block, Table):
            grid = Grid(box=None, pad_edge=False, padding=(0, 1, 0, 0))
            for i, name in enumerate(block.head):
                grid.add_column(name, justify="left" if i in block.words else "right")
            for row in block.rows:
                grid.add_row(*(escape(plain(cell)) for cell in row))
            console.print(grid)
