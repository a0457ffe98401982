"""Tasks by name: the registry of questions, graders, and the scores that need no understanding."""

import difflib
import importlib
import inspect
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import TaskError
from neuromas.tasks.base import SPLITS, Split, Task
from neuromas.tasks.mmlu import SUBJECTS
from neuromas.tasks.tables import KINDS, is_table

__all__ = ["SPLITS", "Split", "Task", "is_known", "list_tasks", "load_task", "register", "registrars", "run_registrars"]

_REASONING = "reasoning-gym/"


@dataclass(frozen=True)
class BuiltinTask:
    """A built-in task; its module is imported when the task is first loaded."""

    about: str  # One line about it.
    module: str  # The module in this package.
    factory: str  # The class or function in the module that makes the task.
    positional: tuple[str, ...] = ()  # The factory's first arguments; its others are the task's options.


_TASKS = {
    "compositional": BuiltinTask("nested modular arithmetic or booleans, generated", "compositional", "Compositional"),
    "calculator": BuiltinTask(
        "sums of products, generated; nodes may ask a calculator while they write", "calculator", "Calculator"
    ),
    "bbh/navigate": BuiltinTask("do walking instructions lead back to the start? yes or no", "bbh", "Navigate"),
    "arc-challenge": BuiltinTask("school science, multiple choice", "arc", "ArcChallenge"),
    **{
        f"mmlu/{subject}": BuiltinTask(
            f"{subject.replace('_', ' ')} exams, multiple choice", "mmlu", "Mmlu", (subject,)
        )
        for subject in SUBJECTS
    },
    "gsm8k": BuiltinTask("school arithmetic in words, a number as the answer", "gsm8k", "Gsm8k"),
    "humaneval": BuiltinTask(
        "functions from signature and description, official tests; Linux only", "humaneval", "HumanEval"
    ),
    "mbpp": BuiltinTask("short functions from one sentence; what humaneval trains on; Linux only", "mbpp", "Mbpp"),
    "reasoning-gym/chain_sum+products": BuiltinTask(
        "sums and products, generated; any reasoning-gym data sets can be joined like this",
        "reasoning",
        "ReasoningGym",
        ("chain_sum+products",),
    ),
}
_REGISTRARS: dict[str, None] = {}  # The files that registered tasks, in order, for other processes to run.
_REGISTERED: dict[str, tuple[Callable[..., Task], str]] = {}  # A user's tasks in Python: factory, line about it.


def register(name: str, factory: Callable[..., Task], about: str = "") -> None:
    """Make your own task known as `name` to this process: to `load_task`, to recipes, and to the commands.

    factory: a `Task` class, or a function that makes a task; its keyword parameters are the task's options.
    about: one line for `neuromas tasks`. Raises TaskError where the name means something else already.
    """
    if not name or name in _TASKS or name.endswith((".toml", *KINDS)) or name.startswith(_REASONING):
        raise TaskError(f"task name {name!r} means something else already; choose another one for your task")
    _REGISTERED[name] = factory, about
    file = sys._getframe(1).f_globals.get("__file__")  # pyright: ignore[reportPrivateUsage]
    if file is not None:
        _REGISTRARS[str(Path(file).resolve())] = None


def registrars() -> list[str]:
    """The files that registered tasks in this process."""
    return list(_REGISTRARS)


def run_registrars(files: Sequence[str]) -> None:
    """Run, in a worker, the files that registered tasks elsewhere; as `multiprocessing` does, not as `__main__`.

    Raises `TaskError` for a file that this machine does not have.
    """
    for file in files:
        if file in _REGISTRARS:
            continue
        if not Path(file).is_file():
            raise TaskError(f"{file} registers a task and is not on this machine; put it there, at the same path")
        sys.path.insert(0, str(Path(file).parent))  # as Python does for a script
        runpy.run_path(file, run_name="__mp_main__")


def list_tasks() -> dict[str, str]:
    """For the name of each task, one line about it. Reads no data and imports nothing."""
    own = {name: about for name, (_, about) in _REGISTERED.items()}
    return {name: entry.about for name, entry in _TASKS.items()} | own


def load_task(name: str, **options: Any) -> Task:
    """The task called `name`; its data are read when questions are first asked for.

    `options` are the task's own, e.g. `load_task("compositional", depth=3)`. `reasoning-gym/<dataset>` takes the
    options of that reasoning-gym data set; `reasoning-gym/<a>+<b>` a table of them for each data set, e.g.
    `load_task("reasoning-gym/chain_sum+products", chain_sum={"max_digits": 1}, train_size=500)`.

    A name that ends with `.toml` is the file of a user's own task (`tasks/own.py`); options override the file's. The
    path of a table (`data.csv`) is a task too, whose settings are guessed from its rows (`tasks/guess.py`).
    A task that a user wrote in Python has the name that `register` gave it.

    Raises TaskError for an unknown name or option.
    """
    if name in _REGISTERED:
        factory, positional = _REGISTERED[name][0], ()
    else:
        entry = _entry(name)
        factory = getattr(importlib.import_module(f"neuromas.tasks.{entry.module}"), entry.factory)
        positional = entry.positional
    parameters = list(inspect.signature(factory).parameters.values())[len(positional) :]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    valid = [parameter.name for parameter in parameters]
    for option in options:
        if option not in valid and not takes_any:
            raise TaskError(f"task {name!r} has no option {option!r}; valid options: {', '.join(valid)}")
    return factory(*positional, **options)


def is_known(name: str, *, files: bool = True) -> bool:
    """True where `load_task` knows what `name` means. files: a task's file, or a table, that is there counts."""
    if name in _TASKS or name in _REGISTERED or name.startswith(_REASONING):
        return True
    return files and Path(name).exists() and (name.endswith(".toml") or is_table(name))


def _entry(name: str) -> BuiltinTask:
    """The entry of a built-in task, of a user's file, or of any reasoning-gym data sets."""
    if name in _TASKS:
        return _TASKS[name]
    if name.endswith(".toml") or is_table(name):
        return BuiltinTask("", "own", "OwnTask", (name,))
    if name.startswith(_REASONING):
        return BuiltinTask("", "reasoning", "ReasoningGym", (name.removeprefix(_REASONING),))
    names = [*_TASKS, *_REGISTERED, f"{_REASONING}<dataset>"]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    close = close or [known for known in names if name.lower() in known] or names
    raise TaskError(
        f"unknown task {name!r}; did you mean {' or '.join(close[:3])}? `neuromas tasks` lists them all; "
        f"a table of your own is one by its path ({', '.join(KINDS)}), or through a file that ends with .toml"
    )
