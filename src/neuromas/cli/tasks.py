"""`neuromas tasks`: what can be trained and measured on."""

import json
from pathlib import Path
from typing import Annotated, Any

import tyro


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    all: bool = False,
    json: Path | None = None,
) -> None:
    """List the tasks, or describe some: their splits, and the floors that their results are read against.

    Args:
        names: Tasks to describe; this loads their data. None: list what there is.
        all: List every subject of a benchmark that has many, instead of one line for all of them.
        json: Write the same here, for programs.
    """
    from neuromas.tasks import list_tasks, load_task

    if names:
        records = [load_task(name).describe() for name in names]
        _print_descriptions(records)
        _write(json, records)
        return
    listed = list_tasks()
    _print_list(listed, all)
    _write(json, [{"name": name, "about": about} for name, about in listed.items()])


def _print_list(tasks: dict[str, str], everything: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    families: dict[str, list[str]] = {}
    for name in tasks:
        families.setdefault(name if everything else name.split("/")[0], []).append(name)
    table = Table("task", "about", box=None, header_style="bold", pad_edge=False)
    for family, names in families.items():
        if len(names) == 1:
            table.add_row(names[0], tasks[names[0]])
        else:
            table.add_row(f"{family}/…", f"{len(names)} tasks, such as {names[0]} (--all lists them)")
    console = Console(soft_wrap=True)
    console.print(table)
    console.print("\nneuromas tasks NAME tells the sizes and floors; reasoning-gym/NAME takes any of its data sets.")


def _print_descriptions(records: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    for record in records:
        title = f"{record['name']}  (version {record['version']}, from {record['source']})"
        table = Table("split", "questions", "chance", "majority", "best constant", box=None, pad_edge=False)
        for split, size in record["sizes"].items():
            floors = record["floors"].get(split)
            shown = (
                [f"{floors[k]:.3f}" for k in ("chance", "majority")]
                + [f"{floors['best_constant']:.3f} ({floors['constant_answer']!r})"]
                if floors
                else ["–", "–", "–"]
            )
            table.add_row(split, str(size), *shown)
        console.print(title, style="bold")
        console.print(table)
        console.print()


def _write(path: Path | None, record: Any) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
