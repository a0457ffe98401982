"""The bar that shows a training run, in a terminal or in a notebook."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from neuromas.markup import say
from neuromas.results import StartRecord, StepMetrics


@contextmanager
def progress_bar(steps: int, show: bool | None = None) -> Iterator[Callable[[StepMetrics], None]]:
    """A bar for a training run of `steps` steps, fed with every step's metrics.

    show: None shows it in notebooks, and in terminals.
    """
    notebook = _display() if show is not False else None
    if notebook is not None:
        yield _notebook_bar(notebook, steps)
    elif show or (show is None and sys.stderr.isatty()):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as progress:
            bar = progress.add_task("training", total=steps, note="")
            yield lambda metrics: progress.update(bar, completed=metrics.step, note=_note(metrics))
    else:
        yield lambda metrics: None


def show_start(start: StartRecord, show: bool | None = None) -> None:
    """Tell what a training run starts from, and what to change, wherever its bar is shown."""
    if show or (show is None and (sys.stderr.isatty() or _display() is not None)):
        say(str(start), *(f"warning: {text}" for text in start.advice), file=sys.stderr)


def _display() -> Any:
    """IPython's `display` inside a notebook; None elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if "ZMQInteractiveShell" not in (kind.__name__ for kind in type(shell).__mro__):  # Colab's is a subclass
        return None
    from IPython.display import display  # pyright: ignore

    return display


def _notebook_bar(display: Any, steps: int) -> Callable[[StepMetrics], None]:
    from IPython.display import HTML  # pyright: ignore

    handle = display(HTML("training"), display_id=True)

    def show(metrics: StepMetrics) -> None:
        bar = f'<progress max="{steps}" value="{metrics.step}"></progress>'
        handle.update(HTML(f"{bar} {metrics.step} of {steps} steps {escape(_note(metrics))}"))

    return show


def _note(metrics: StepMetrics) -> str:
    reward = "" if metrics.reward is None else f"reward {metrics.reward:.2f}"
    return reward if metrics.validation is None else f"{reward} validation {metrics.validation.accuracy:.1%}"
