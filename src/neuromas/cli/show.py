"""Console, tables, bars, traces and curves, as commands show them in the terminal."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table

from neuromas.markup import say, visible
from neuromas.results import Result, reading_lines
from neuromas.types import Grade, Question, Trace


class PlainConsole(Console):
    """A console to which no text, whoever wrote it, can give orders: the one door to the terminal of all commands."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


console = PlainConsole()
_SILENCE = 120.0  # seconds without a line
_BLOCKS = " ▁▂▃▄▅▆▇█"


def grid(first: str, *numbers: str, title: str | None = None, words: tuple[str, ...] = ()) -> Table:
    """A table without lines: a first column of names, then numbers, and last columns of words."""
    table = Table(title=title and escape(title), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, min_width=16)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for name in words:
        table.add_column(name)
    return table


class PercentLines:
    """Lines that take a bar's place where there is no terminal: every two minutes, and with every tenth of the work.

    tenths: False leaves out the latter, so that a short job says nothing.
    file: standard output by default.
    """

    def __init__(self, *, tenths: bool = True, file: TextIO | None = None) -> None:
        self._start = self._last = time.monotonic()
        self._tenths, self._file, self._next = tenths, file, 0

    def __call__(self, name: str, done: float, total: float) -> None:
        percent, now = int(100 * done / total) if total else 100, time.monotonic()
        if now - self._last >= _SILENCE or (self._tenths and percent >= self._next):
            self._next, self._last = percent // 10 * 10 + 10, now
            say(f"{percent:>3} % after {now - self._start:.0f} s ({name})", file=self._file)


@contextmanager
def bar(label: str, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that vanishes at its end; yields its update, called with (done, all).

    Where there is no terminal, a line on standard error takes its place every two minutes.
    shown: False hides it until its first update.
    """
    if not console.is_terminal:
        lines = PercentLines(tenths=False, file=sys.stderr)
        yield lambda done, total: lines(label, done, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(escape(label), total=None, visible=shown)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


def percent(accuracy: float, interval: Sequence[float], digits: int = 1) -> str:
    """An accuracy and its interval, in percent."""
    low, high = interval
    return f"{accuracy:.1%} [{low * 100:.{digits}f}, {high * 100:.{digits}f}]"


def results_table(rows: Sequence[Result], title: str) -> Table:
    """Results as a table: nothing is shown without n, interval, seeds, parse rate, calls, tokens and parameters."""
    table = grid("system", "accuracy [95 %]", "n×seeds", "parsed", "calls", "tokens", "trainable", title=title)
    for row in rows:
        notes = [row.decoding, *(["silent"] if row.delivery == "blanked" else [])]
        notes += [f"vote of {row.votes}"] if row.votes else []
        table.add_row(
            escape(f"{row.checkpoint or row.system}, {', '.join(notes)}"),
            percent(row.accuracy, row.ci95),
            f"{row.n}×{row.seeds}",
            f"{row.parse_rate:.0%}",
            f"{row.calls:g}",
            f"{row.generated_tokens:.1f}",
            f"{row.trainable_parameters:,}",
        )
    return table


def print_reading(rows: Sequence[Result]) -> None:
    """Print the shares of answers that could not be read whole, row by row; nothing where all could be."""
    for row in rows:
        for line in reading_lines(row):
            console.print(f"{row.checkpoint or row.system}, {row.decoding}: {line}", markup=False)


def print_trace(
    question: Question, trace: Trace, grade: Grade | None = None, decode: Callable[[list[int]], str] | None = None
) -> None:
    """One question's way through a network, message by message. decode turns ids into text: prompts are shown too."""
    console.print(f"[bold]question[/] {escape(question.text)}")
    for call in trace.calls:
        notes = " [yellow](cut off by the token limit)[/]" if call.truncated else ""
        if call.dropped_tokens:
            notes += f" [yellow]({call.dropped_tokens} tokens of what it should have read did not fit)[/]"
        if decode is not None:
            console.print(f"[dim]{escape(decode(call.prefix_ids + call.own_ids))}[/]")
        likely = "" if call.counted else f", log-prob {sum(call.logprobs):.2f}"
        count = f"[dim]{call.generated_tokens} tokens{likely}[/]"
        console.print(f"  [cyan]{escape(call.node):>5}[/] {escape(call.text) or '[dim](nothing)[/]'}{notes}  {count}")
    verdict = ""
    if grade is not None:
        wrong = f"  [red]wrong[/], the answer is {escape(question.answer)}"
        verdict = f"  [dim]read as {escape(str(grade.parsed))}[/]" + (
            "  [green]right[/]" if grade.reward == 1 else wrong
        )
    console.print(f"[bold]answer[/] {escape(trace.answer)}{verdict}")


def sparkline(values: list[float], width: int = 60) -> str:
    """Values in [0, 1] as one line of blocks."""
    if len(values) > width:
        values = [values[int(i * len(values) / width)] for i in range(width)]
    return "".join(_BLOCKS[round(max(0.0, min(1.0, value)) * 8)] for value in values)
