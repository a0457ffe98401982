"""`neuromas plan`: memory and time of a run before it is started, and what to change where it does not fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape
from rich.table import Column, Table

from neuromas.cli.options import Amount, Positive, use_threads
from neuromas.cli.show import console
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.files import write_json
from neuromas.recipe import override, read_recipe

if TYPE_CHECKING:
    from neuromas.plan.report import Report


def main(
    recipe: Annotated[Path, tyro.conf.Positional],
    gpu: str | None = None,
    flops: Amount | None = None,
    bandwidth: Amount | None = None,
    backbone: str | None = None,
    topology: str | None = None,
    system: str | None = None,
    prompt_tokens: Positive | None = None,
    calibrate: bool = True,
    threads: Positive | None = None,
    json: Path | None = None,
) -> None:
    """Memory and seconds of a training step, by arithmetic and a short calibration; nothing is trained.

    Args:
        recipe: A recipe, or the spec of a comparison: then every network of it is planned.
        gpu: Plan for an accelerator: its memory such as 24GB, or its name such as h100. By default for this machine.
        flops: Peak FLOP/s of that accelerator in bfloat16, e.g. 165e12; for the seconds.
        bandwidth: Bytes a second of its memory, e.g. 1e12; likewise.
        backbone: Another backbone; a folder with only its config.json is enough.
        topology: Another topology.
        system: Of a spec: plan this system alone.
        prompt_tokens: Tokens of a prompt, where the backbone's tokenizer or the task's questions are not here.
        calibrate: Measure this machine with a few rollouts; without it there are no seconds.
        threads: CPU threads of the calibration; by default all cores.
        json: Write the plans to this file too.
    """
    from neuromas.plan.devices import device_of
    from neuromas.plan.report import plan

    use_threads(threads)
    device = device_of(gpu, flops, bandwidth)
    runs = _configs(recipe, {"backbone.name": backbone, "topology": topology}, system)
    single = len(runs) == 1
    reports = [
        plan(c, device, name=", ".join(name), prompt_tokens=prompt_tokens, calibrated=calibrate and single)
        for name, c in runs
    ]
    largest = max(reports, key=lambda r: r.longest_memory.peak)
    if not single:
        _print_all(reports, [name for name, _ in runs])
        _print_times(reports, [c for _, c in runs], recipe)
    _print(largest)
    if json is not None:
        write_json(json, [report.to_dict() for report in reports])


def _configs(recipe: Path, changes: dict[str, str | None], system: str | None) -> list[tuple[list[str], "RunConfig"]]:
    """Name (system and task) and settings of every network that a recipe or a spec trains, one for each task."""
    from neuromas.compare.plan import make_plan
    from neuromas.compare.spec import Spec

    data = read_recipe(recipe)
    if "systems" not in data:
        return [([recipe.stem], RunConfig.make(override(data, changes)))]
    if changes["topology"]:
        raise ConfigError("--topology belongs to a recipe; of a spec choose a system with --system")
    spec = Spec.load(recipe)
    networks = [c for c in make_plan(spec).contenders if c.kind == "network" and system in (None, c.name)]
    if not networks:
        raise ConfigError(f"spec {str(recipe)!r} trains no network{f' called {system!r}' if system else ''}")
    made = [([c.name, task.title], c.config(task, spec.seeds[0])) for c in networks for task in spec.tasks]
    return [(name, RunConfig.make(override(config.model_dump(), changes))) for name, config in made]


def _print(report: "Report") -> None:
    from neuromas.plan.report import change_line, gigabytes, verdict

    expected, most = report.expected_memory, report.longest_memory
    right = (Column("expected", justify="right"), Column("at most", justify="right"))
    table = Table("what is held", *right, title=escape(f"{report.name}: memory of a step on {report.device.name}"))
    rows = {
        "base": "process, libraries, context",
        "weights": f"backbone, {report.longest.dtype}",
        "adapters": "adapters, gradients, optimiser",
        "load": "while loading",
        "sample": "while sampling",
        "update": "while updating",
        "measure": "while measuring KL",
    }
    for name, label in rows.items():
        if getattr(most, name):
            mark = " ←" if name == most.phase else ""
            table.add_row(label + mark, gigabytes(getattr(expected, name)), gigabytes(getattr(most, name)))
    table.add_row("peak", gigabytes(expected.peak), gigabytes(most.peak), style="bold")
    console.print(table)
    console.print(verdict(report), markup=False)
    for line in [*(f"  {change_line(change)}" for change in report.changes), *(f"note: {n}" for n in report.notes)]:
        console.print(line, highlight=False, markup=False)


def _print_all(reports: "list[Report]", names: list[list[str]]) -> None:
    """A line for each system; for each task where they differ."""
    from neuromas.plan.report import gigabytes

    table = Table("run", "nodes", "peak at most", "fits", "seconds a step")
    seen: dict[tuple[str, ...], list[str]] = {}  # what is told of a system → the tasks of which it is
    for r, (system, task) in zip(reports, names, strict=True):
        time, fits = "" if r.seconds is None else f"{r.seconds.step:.3g}", "yes" if r.fits else "no"
        cells = (system, str(len(r.longest.turns)), gigabytes(r.longest_memory.peak), fits, time)
        seen.setdefault(cells, []).append(task)
    for (system, *cells), tasks in seen.items():
        what = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
        table.add_row(escape(f"{system}, {what}"), *cells)
    console.print(table)


def _print_times(reports: "list[Report]", configs: list[RunConfig], path: Path) -> None:
    """Print how long the networks of a spec train, one run after another: all steps, every rate and seed."""
    from neuromas.compare.spec import Spec

    times = [r.seconds.step * c.train.steps for r, c in zip(reports, configs, strict=True) if r.seconds is not None]
    if len(times) == len(reports):
        spec = Spec.load(path)
        each = len(spec.learning_rates) + len(spec.seeds) - 1
        console.print(
            f"{len(reports) * each} trainings of networks take about {_duration(sum(times) * each)} one after "
            "another; validation, tests and other systems come on top.",
            highlight=False,
        )


def _duration(seconds: float) -> str:
    """In the unit of which there are more than two, hours at most."""
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds > 2 * unit:
            return f"{float(f'{seconds / unit:.3g}'):,g} {name}"
    return f"{seconds:.3g} seconds"
