"""`neuromas compare`: several systems on several tasks with several seeds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from neuromas.cli import goes_on
from neuromas.cli.options import Positive
from neuromas.cli.show import PercentLines, console, grid, percent, print_reading
from neuromas.errors import ConfigError
from neuromas.files import write_json
from neuromas.results import ComparisonRow, floors_line

if TYPE_CHECKING:
    from neuromas.compare.spec import Spec


def main(
    spec: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    report: bool = False,
    plan: bool = False,
    workers: Positive = 2,
    threads: Positive = 1,
    address: str | None = None,
    json: Path | None = None,
) -> None:
    """Compare systems: train, answer, test against a reference, report. Kill it at any time and start it again.

    Args:
        spec: A TOML file (one is in recipes/), or with --report the folder of a comparison.
        out: Folder of the comparison; what is done there is not done again.
        report: Only write the report anew from the folder's JSON lines.
        plan: Only show the rows that the table would have, and the trainings.
        workers: Processes at a time; on a GPU take 1.
        threads: CPU threads of each process, and programs that it runs at a time; keep them the same from start to end.
        address: Address of a Ray cluster that does the work; by default this machine does, without Ray.
        json: Write the rows to this file too (they are always in OUT/summary.json).
    """
    from neuromas.compare.spec import Spec
    from neuromas.evaluate.report import write_report

    if spec.is_dir() and not report:
        raise ConfigError(f"{spec} is a folder; give the spec and --out {spec} to go on, or --report for its report")
    if plan:
        _show_plan(Spec.load(spec))
        return
    if report:
        folder = spec if spec.is_dir() else out
        if folder is None:
            raise ConfigError("--report needs the folder of a comparison: neuromas compare DIR --report")
    elif out is None:
        raise ConfigError("the results need a folder; give a folder with --out DIR (started again with it, it goes on)")
    else:
        folder = out
        run_with_bar(Spec.load(spec), folder.resolve() if address else folder, workers, threads, address)
    rows = write_report(folder)
    _show(rows)
    figures = f"{folder / 'report.html'}, {folder / 'report.md'}; figures: {folder / 'summary.json'}"
    console.print(f"\nreport: {figures}", markup=False)
    if json is not None:
        write_json(json, [row.to_dict() for row in rows])


def run_with_bar(spec: "Spec", folder: Path, workers: int, threads: int, address: str | None = None) -> None:
    """Run a comparison under a progress bar."""
    from neuromas.compare.run import run
    from neuromas.scale.compare import tasks

    goes_on()
    columns = (
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
    )
    with Progress(*columns, console=console, speed_estimate_period=36_000, expand=True) as progress:
        bar = progress.add_task("starting", total=None)
        lines = None if console.is_terminal else PercentLines()

        def show(name: str, done: float, total: float) -> None:
            progress.update(bar, completed=done, total=total, description=escape(name))
            if lines is not None:
                lines(name, done, total)

        cluster = tasks(folder, address, workers, threads) if address else None
        run(spec, folder, workers=workers, threads=threads, on_job=show, cluster=cluster)


def _show_plan(spec: "Spec") -> None:
    from neuromas.compare.plan import make_plan

    plan = make_plan(spec)
    table = grid("system", "samples", words=("what it is", "control"))
    for row in plan.rows:
        samples = plan.samples.get(row.contender.name)
        name = row.name + (" (reference)" if row.reference else "")
        cells = (name, f"{samples:,}" if samples else "", row.about, "; ".join(row.control_for))
        table.add_row(*map(escape, cells))
    console.print(table)
    trained = sum(contender.trained for contender in plan.contenders)
    runs = trained * len(spec.tasks) * (len(spec.learning_rates) + len(spec.seeds) - 1)
    console.print(
        f"\n{len(plan.rows)} rows × {len(spec.tasks)} tasks; seeds {', '.join(map(str, spec.seeds))}; {runs} training "
        f"runs: {trained} systems, each at {len(spec.learning_rates)} learning rates with the first seed"
    )


def _show(rows: list[ComparisonRow]) -> None:
    """Show results, floors and tests, task by task."""
    from neuromas.evaluate.report import difference, points, ps

    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in rows if row.task == task]
        title = f"\n{task}, n = {of_task[0].n}; in brackets: one after the other"
        numbers = ("accuracy [95 %]", "seeds", "parsed", "calls", "tokens", "trainable")
        figures = grid("system", *numbers, title=title)
        reference = next((row.system for row in of_task if row.reference), "reference")
        tests = grid("system", "difference [95 %]", "p", "p Holm", title=f"\nminus {reference}, paired")
        for row in of_task:
            figures.add_row(
                escape(row.system),
                percent(row.accuracy, row.ci95),
                str(row.seeds),
                f"{row.parse_rate:.0%}",
                f"{row.calls:.3g} ({row.sequential_calls:.3g})",
                f"{row.generated_tokens:.3g} ({row.sequential_tokens:.3g})",
                f"{row.trainable_parameters:,}",
                style="bold" if row.reference else None,
            )
            if (test := row.versus_reference) is not None:
                apart = f"{points(test.difference)} [{difference(test.ci95)}]"
                tests.add_row(escape(row.system), apart, *ps(test))
        console.print(figures)
        print_reading(of_task)
        console.print(floors_line(of_task[0]), markup=False)
        if tests.row_count:
            console.print(tests)
