"""How things look in the terminal: progress, tables, traces, curves."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from neuromas.results import GrowthRecord, Result, StepMetrics, ValidationMetrics, floors_line
from neuromas.run.final import FinalRecord
from neuromas.run.health import collapse_warnings
from neuromas.types import Grade, Question, Trace

console = Console()
_BLOCKS = " ▁▂▃▄▅▆▇█"


class TrainingView:
    """A progress bar with time left and a line at each validation; the `on_step` of a training run."""

    def __init__(self, steps: int, label: str = "training") -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bar = self._progress.add_task(label, total=steps, note="")
        self._rewards: list[float] = []
        self._steps: list[StepMetrics] = []
        self._stage = 0

    def __enter__(self) -> "TrainingView":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def measures(self, what: str, done: int, total: int) -> None:
        """After training: a bar of its own for the measurements on the test split."""
        if done == 0:
            self._bar = self._progress.add_task("measuring on the test split", total=total, note=what)
        self._progress.update(self._bar, completed=done, note=what)

    def __call__(self, metrics: StepMetrics) -> None:
        step = metrics.step
        if metrics.reward is not None:
            self._rewards.append(metrics.reward)
            recent = sum(self._rewards[-10:]) / len(self._rewards[-10:])
            self._progress.update(self._bar, note=f"reward {recent:.2f}")
            self._steps.append(metrics)
        if (metrics.stage or 0) != self._stage:
            self._stage = metrics.stage or 0
            self._progress.console.print(f"step {step:>4}  stage {self._stage} begins")
        if metrics.phase is not None:  # of methods that have several
            self._progress.update(self._bar, note=metrics.phase)
        self._progress.update(self._bar, completed=step)
        if metrics.validation is not None:
            text = f"step {step:>4}  validation {percent(metrics.validation)}"
            if metrics.equal_reward_groups is not None:
                text += f"  equal-reward groups {metrics.equal_reward_groups:.0%}"
                text += f"  commonest answer {escape(repr(metrics.top_answer))} {metrics.top_answer_share:.0%}"
            self._progress.console.print(text)
            for warning in collapse_warnings(self._steps):
                self._progress.console.print(f"[yellow]warning:[/] {escape(warning)}")


def percent(measured: ValidationMetrics) -> str:
    """Accuracy with its interval and n."""
    low, high = measured.ci95
    return f"{measured.accuracy:.1%} [{low:.1%}, {high:.1%}] (n = {measured.n})"


def results_table(rows: Sequence[Result], title: str) -> Table:
    """Results as a table: nothing is shown without n, interval, seeds, parse rate, calls, tokens and parameters."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", min_width=16)
    for name in ("accuracy [95 %]", "n×seeds", "parsed", "calls", "tokens", "trainable"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        low, high = row.ci95
        notes = [row.decoding, *(["silent"] if row.delivery == "blanked" else [])]
        notes += [f"vote of {row.votes}"] if row.votes else []
        table.add_row(
            escape(f"{row.checkpoint or row.system}, {', '.join(notes)}"),
            f"{row.accuracy:.1%} [{low * 100:.1f}, {high * 100:.1f}]",
            f"{row.n}×{row.seeds}",
            f"{row.parse_rate:.0%}",
            f"{row.calls:g}",
            f"{row.generated_tokens:.1f}",
            f"{row.trainable_parameters:,}",
        )
    return table


def print_final(final: FinalRecord) -> None:
    rows = final.results
    console.print(results_table(rows, f"{rows[0].task} ({rows[0].split}), {final.steps} steps"))
    console.print(escape(floors_line(rows[0])))
    if any(row.delivery == "blanked" for row in rows):
        console.print("silent: the same network, every message blanked.")
    size = {row.checkpoint: row.trainable_parameters for row in rows}
    if "last" in size and size["last"] != size["best"]:
        console.print("best: a network from before the last growth; of the grown one use --checkpoint last.")
    for warning in final.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}")


def print_growth(record: GrowthRecord, command: str, steps: int) -> None:
    """Print what a growth did, and the command that goes on."""
    console.print(escape(f"after step {record.step} of {record.run}: {', '.join(record.operators)}"))
    if record.new:
        copied = "".join(f", {new} copies {old}" for new, old in (record.copied or {}).items())
        console.print(escape(f"new nodes {', '.join(record.new)} ({record.init}{copied})"))
    moved = [f"{old} (asked for as {new})" for old, new in record.mapping.items() if old != new]
    if moved:
        console.print(escape(f"old nodes keep their ids: {', '.join(moved)}"))
    console.print(escape(f"train it for {steps} more steps with: {command}"))


def print_trace(
    question: Question, trace: Trace, grade: Grade | None = None, decode: Callable[[list[int]], str] | None = None
) -> None:
    """One question's way through a network, message by message. decode turns ids into text: prompts are shown too."""
    console.print(f"[bold]question[/] {escape(question.text)}")
    for call in trace.calls:
        cut = " [yellow](cut off by the token limit)[/]" if call.truncated else ""
        if call.dropped_tokens:
            cut += f" [yellow]({call.dropped_tokens} tokens of what it should have read did not fit)[/]"
        if decode is not None:
            console.print(f"[dim]{escape(decode(call.prefix_ids + call.own_ids))}[/]")
        likely = "" if call.counted else f", log-prob {sum(call.logprobs):.2f}"
        count = f"[dim]{call.generated_tokens} tokens{likely}[/]"
        console.print(f"  [cyan]{escape(call.node):>5}[/] {escape(call.text) or '[dim](nothing)[/]'}{cut}  {count}")
    verdict = ""
    if grade is not None:
        wrong = f"  [red]wrong[/], the answer is {escape(question.answer)}"
        verdict = "  [green]right[/]" if grade.reward == 1 else wrong
    read = "" if grade is None else f"  [dim]read as {escape(str(grade.parsed))}[/]"
    console.print(f"[bold]answer[/] {escape(trace.answer)}{read}{verdict}")


def sparkline(values: list[float], width: int = 60) -> str:
    """Values in [0, 1] as one line of blocks."""
    if not values:
        return ""
    picked = [values[int(i * len(values) / width)] for i in range(width)] if len(values) > width else values
    return "".join(_BLOCKS[round(max(0.0, min(1.0, v)) * 8)] for v in picked)
