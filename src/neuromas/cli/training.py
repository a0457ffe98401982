"""Views of a training run in the terminal: its progress, its test results, its growth."""

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from neuromas.cli.show import console, percent, print_reading, results_table
from neuromas.evaluate.render import plain
from neuromas.results import GrowthRecord, StartRecord, StepMetrics, floors_line
from neuromas.run.final import FinalRecord
from neuromas.run.health import signs


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
        self._steps: list[StepMetrics] = []
        self._stage = 0
        self._said: set[tuple[str, str]] = set()  # kinds and layers of warnings, each of which is said once

    def __enter__(self) -> "TrainingView":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begins(self, start: StartRecord) -> None:
        """Show what the run starts from; the `on_start` of a training run."""
        console.print(escape(str(start)))
        for sample in start.samples:
            messages = sample.record.messages or []
            said = [f"{m.node}: {plain(m.text)}" + (" …" if m.truncated else "") for m in messages]
            verdict = "right" if sample.record.reward == 1 else f"the answer is {sample.record.answer}"
            console.print(escape(f"  {plain(sample.question)} | {' | '.join(said)} ({plain(verdict)})"), style="dim")
        print_warnings(start.advice)

    def measures(self, what: str, done: int, total: int) -> None:
        """After training: show the measurements on the test split under a bar of their own."""
        if done == 0:
            self._bar = self._progress.add_task("measuring on the test split", total=total, note=what)
        self._progress.update(self._bar, completed=done, note=what)

    def __call__(self, metrics: StepMetrics) -> None:
        if metrics.reward is not None:
            self._steps.append(metrics)
            recent = [past.reward or 0.0 for past in self._steps[-10:]]
            self._progress.update(self._bar, note=f"reward {sum(recent) / len(recent):.2f}")
        if (metrics.stage or 0) != self._stage:
            self._stage = metrics.stage or 0
            console.print(f"step {metrics.step:>4}  stage {self._stage} begins")
        if metrics.phase is not None:  # methods of several phases name the present one
            self._progress.update(self._bar, note=metrics.phase)
        self._progress.update(self._bar, completed=metrics.step)
        if metrics.validation is not None:
            check = metrics.validation
            text = f"step {metrics.step:>4}  validation {percent(check.accuracy, check.ci95)} (n = {check.n})"
            if metrics.equal_reward_groups is not None:
                text += f"  equal-reward groups {metrics.equal_reward_groups:.0%}"
                text += f"  commonest answer {escape(repr(metrics.top_answer))} {metrics.top_answer_share:.0%}"
            if metrics.messages_cut:
                text += f"  messages cut {metrics.messages_cut:.0%}"
            console.print(text)
            new = [sign for sign in signs(self._steps) if (sign.kind, sign.layer) not in self._said]
            self._said |= {(sign.kind, sign.layer) for sign in new}
            print_warnings([sign.text for sign in new])


def print_final(final: FinalRecord) -> None:
    """Print the test results of final.json as a table, with floors and warnings."""
    rows = final.results
    console.print(results_table(rows, f"{rows[0].task} ({rows[0].split}), {final.steps} steps"))
    print_reading(rows)
    console.print(escape(floors_line(rows[0])))
    train = final.config.train
    if train.patience is not None and final.steps < train.steps:
        console.print(
            f"ended at step {final.steps} of {train.steps}: validation had not risen {train.patience} times in a row"
        )
    if final.began:
        console.print(escape(f"how it began: {final.began}"))
    if any(row.delivery == "blanked" for row in rows):
        console.print("silent: the same network, every message blanked.")
    size = {row.checkpoint: row.trainable_parameters for row in rows}
    if "last" in size and size["last"] != size["best"]:
        console.print("best: a network from before the last growth; of the grown one use --checkpoint last.")
    print_warnings(final.warnings)


def print_growth(record: GrowthRecord, command: str, steps: int) -> None:
    """Print the record of a growth, and the command that goes on."""
    console.print(escape(f"after step {record.step} of {record.run}: {', '.join(record.operators)}"))
    if record.new:
        copied = "".join(f", {new} copies {old}" for new, old in (record.copied or {}).items())
        console.print(escape(f"new nodes {', '.join(record.new)} ({record.init}{copied})"))
    moved = [f"{old} (asked for as {new})" for old, new in record.mapping.items() if old != new]
    if moved:
        console.print(escape(f"old nodes keep their ids: {', '.join(moved)}"))
    console.print(escape(f"train it for {steps} more steps with: {command}"))


def print_warnings(warnings: list[str]) -> None:
    """Print each as a line of its own."""
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}")
