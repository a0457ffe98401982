"""Tasks by name: what to ask, how to grade, and what can be scored without understanding anything."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from neuromas.errors import TaskError
from neuromas.tasks.base import SPLITS, Split, Task
from neuromas.tasks.mmlu import SUBJECTS

__all__ = ["SPLITS", "Split", "Task", "list_tasks", "load_task", "register"]

_REASONING = "reasoning-gym/"

# name → module, its factory, positional arguments, one line about it
_TASKS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "compositional": ("compositional", "Compositional", (), "nested modular arithmetic or booleans, generated"),
    "bbh/navigate": ("bbh", "Navigate", (), "do walking instructions lead back to the start? yes or no"),
    "arc-challenge": ("arc", "ArcChallenge", (), "school science, multiple choice"),
    **{f"mmlu/{s}": ("mmlu", "Mmlu", (s,), f"{s.replace('_', ' ')} exams, multiple choice") for s in SUBJECTS},
    "gsm8k": ("gsm8k", "Gsm8k", (), "school arithmetic in words, a number as the answer"),
    "humaneval": ("humaneval", "HumanEval", (), "functions from signature and description, official tests; Linux only"),
    "mbpp": ("mbpp", "Mbpp", (), "short functions from one sentence; what humaneval trains on; Linux only"),
    "reasoning-gym/chain_sum+products": (
        "reasoning",
        "build",
        ("chain_sum+products",),
        "sums and products, generated; any reasoning-gym data sets can be joined like this",
    ),
}

_REGISTERED: dict[str, tuple[Callable[..., Task], str]] = {}  # tasks of one's own in Python → (factory, line about it)


def register(name: str, factory: Callable[..., Task], about: str = "") -> None:
    """Make a task of one's own known as `name` to this process: to `load_task`, to recipes, and to the commands.

    factory: a `Task` class, or a function that makes one; its keyword parameters are the task's options. about: one
    line for `neuromas tasks`. Raises TaskError where the name means something else already.
    """
    if not name or name in _TASKS or name.endswith(".toml") or name.startswith(_REASONING):
        raise TaskError(f"task name {name!r} means something else already; choose another one for your task")
    _REGISTERED[name] = factory, about


def list_tasks() -> dict[str, str]:
    """Name → one line about it, for every task that `load_task` knows by itself. Reads no data, imports nothing."""
    return {name: entry[3] for name, entry in _TASKS.items()} | {n: about for n, (_, about) in _REGISTERED.items()}


def load_task(name: str, **options: Any) -> Task:
    """The task called `name`; its data are read when questions are first asked for.

    `options` are the task's own, e.g. `load_task("compositional", depth=3)`. `reasoning-gym/<dataset>` takes the
    options of that reasoning-gym data set; `reasoning-gym/<a>+<b>` a table of them for each data set, e.g.
    `load_task("reasoning-gym/chain_sum+products", chain_sum={"max_digits": 1}, train_size=500)`.

    A name that ends with `.toml` is the file of a task of one's own (`tasks/own.py`); options override what it says.
    One written in Python is known by the name that `register` gave it.

    Raises TaskError for an unknown name or option.
    """
    if name in _REGISTERED:
        make, _ = _REGISTERED[name]
        _check_options(name, make, 0, options)
        return make(**options)
    if name.endswith(".toml"):  # a table of one's own
        module, factory, positional = "own", "OwnTask", (name,)
    elif name.startswith(_REASONING) and name not in _TASKS:
        module, factory, positional = "reasoning", "build", (name.removeprefix(_REASONING),)
    elif name in _TASKS:
        module, factory, positional, _ = _TASKS[name]
    else:
        raise _unknown(name)
    make = getattr(importlib.import_module(f"neuromas.tasks.{module}"), factory)
    _check_options(name, make, len(positional), options)
    return make(*positional, **options)


def _unknown(name: str) -> TaskError:
    names = [*_TASKS, *_REGISTERED, f"{_REASONING}<dataset>"]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    close = close or [known for known in names if name.lower() in known] or names
    return TaskError(
        f"unknown task {name!r}; did you mean {' or '.join(close[:3])}? `neuromas tasks` lists them all; "
        "a table of your own is a task through a file that ends with .toml"
    )


def _check_options(name: str, make: Callable[..., Task], positional: int, options: dict[str, Any]) -> None:
    """Raises TaskError for an option that the factory does not take, unless it takes (and checks) any."""
    parameters = list(inspect.signature(make).parameters.values())[positional:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    valid = [p.name for p in parameters]
    for option in options:
        if option not in valid:
            raise TaskError(f"task {name!r} has no option {option!r}; valid options: {', '.join(valid)}")
