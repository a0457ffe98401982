"""`neuromas baselines`: what a network can be compared with."""

from pathlib import Path
from typing import Annotated, Any

import tyro


def main(names: Annotated[tuple[str, ...], tyro.conf.Positional] = (), json: Path | None = None) -> None:
    """List the baselines with their calls a question and their sources, or the options of some.

    Args:
        names: Baselines to describe. None: list what there is.
        json: Write the same here, for programs.
    """
    from neuromas.baselines import BASELINES
    from neuromas.files import write_json

    if names:
        records = [_describe(name) for name in names]
        _print_options(records)
    else:
        fields = ("about", "calls", "source", "fitted", "trained")
        records = [{"name": n, **{field: getattr(e, field) for field in fields}} for n, e in BASELINES.items()]
        _print_list(records)
    if json is not None:
        write_json(json, records)


def _describe(name: str) -> dict[str, Any]:
    from neuromas.baselines import BASELINES
    from neuromas.baselines.load import options_of
    from neuromas.errors import ConfigError

    if name not in BASELINES:
        raise ConfigError(f"{name!r} is no baseline; the baselines are: {', '.join(BASELINES)}")
    own, of_fit = options_of(name)
    return {"name": name, "about": BASELINES[name].about, "options": own, "fit": of_fit}


def _print_list(records: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("baseline", "what it does", "calls a question (by default)", "source", box=None, pad_edge=False)
    for r in records:
        mark = " (learns from the train split first)" if r["fitted"] else " (trained)" if r["trained"] else ""
        table.add_row(r["name"], r["about"] + mark, r["calls"], r["source"])
    console = Console(soft_wrap=True)
    console.print(table)
    console.print("\nneuromas eval NAME --task T --backbone B --options name=value measures one.")
    console.print("neuromas train --method NAME --task T --backbone B trains one that is marked as trained.")
    console.print("neuromas baselines NAME tells its options.")


def _print_options(records: list[dict[str, Any]]) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True)
    for r in records:
        console.print(f"{r['name']}: {r['about']}", style="bold", markup=False)
        for title, options in (("options", r["options"]), ("options of fitting", r["fit"])):
            if options:
                console.print(f"  {title}: {', '.join(f'{k}={v}' for k, v in options.items())}", markup=False)
        if not r["options"] and not r["fit"]:
            console.print("  no options")
