"""`neuromas demo`: the main job on the embedded backbone, in minutes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuromas.results import StepMetrics

_ROWS = {
    "untrained": "untrained network",
    "control_params": "one model",
    "control_vote": "one model, vote",
    "control_scratchpad": "one model, scratchpad",
    "trained": "trained network",
}


def main(out: Path = Path("runs/demo"), seeds: int = 3, steps: int = 40, test: int = 512, workers: int = 2) -> None:
    """Train a network of three nodes from its final reward, beside its controls, and show what it learned.

    Args:
        out: Folder for the runs, summary.json and curve.png; an earlier demonstration there is replaced.
        seeds: Training runs of each system.
        steps: Updates of each run.
        test: Held-out questions.
        workers: Processes; each uses one core.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from neuromas.cli.show import console
    from neuromas.compare.demo import Plan, curves, run
    from neuromas.network.drawing import to_text
    from neuromas.network.topology import Topology
    from neuromas.run.plots import compare_curves

    plan = Plan(seeds=tuple(range(seeds)), steps=steps, test=test, workers=workers)
    console.print("[bold]A network of language models learns from its final reward[/]\n")
    console.print(to_text(Topology.parse(plan.topology)), markup=False, highlight=False)
    console.print(
        f"\nTask: expressions of {2**plan.depth} digits, modulo 10. Every node is the same frozen model with "
        "an adapter of its own.\nA node is told where it stands, never what to do. "
        "The only reward: is the final answer right?\n"
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training and measuring", total=None)
        summary = run(plan, out, lambda done, jobs: progress.update(bar, completed=done, total=jobs))
    histories = curves(plan, out, summary)
    picture = compare_curves(histories, _ROWS, out / "curve.png", "Validation accuracy while training (greedy)")
    console.print(_table(summary))
    console.print(_notes(summary), highlight=False)
    _show_curves(histories)
    _show_traces(out, plan, summary)
    console.print(
        f"\n{summary['seconds']:.0f} s. Figures: {out / 'summary.json'}; curves: {picture}; runs: {out / 'runs'}"
    )


def _table(summary: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("test accuracy", no_wrap=True)
    for name in ("greedy [95 %]", "each seed", "sampled", "silent", "calls", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, label in _ROWS.items():
        row = summary[key]
        low, high = row["ci95"]
        share = lambda field, row=row: f"{row[field]:.1%}" if field in row else "–"
        table.add_row(
            f"[bold]{label}[/]" if key == "trained" else label,
            f"{row['accuracy']:.1%} [{low * 100:.0f}, {high * 100:.0f}]",
            " ".join(f"{a * 100:.0f}" for a in row["by_seed"]),
            share("accuracy_sampled"),
            share("accuracy_messages_blanked"),
            f"{row['calls']:g}",
            f"{row['generated_tokens']:.0f}",
        )
    return table


def _notes(summary: dict[str, Any]) -> str:
    row = summary["trained"]
    floors, worst = row["floors"], min(summary[key]["parse_rate"] for key in _ROWS)
    return (
        f"n = {row['n']} held-out questions for each of {row['seeds']} seeds; the interval is that of n.\n"
        "silent: the same network with every message blanked.\n"
        "vote: the calls of the network. scratchpad: one adapter that writes to itself as\noften as the nodes write.\n"
        f"Every trained system has {row['trainable_parameters']:,} trainable parameters, the same\nnumber of samples, "
        "and its own learning rate, chosen on validation.\n"
        f"floors: chance {floors['chance']:.0%}, best constant answer ({floors['constant_answer']}) "
        f"{floors['best_constant']:.0%}. Parse rate: at least {worst:.0%}.\n"
    )


def _show_curves(histories: "dict[str, list[list[StepMetrics]]]") -> None:
    from neuromas.cli.show import console, sparkline
    from neuromas.run.plots import smooth

    console.print("reward while training (sampled, mean of the seeds; the bar's height is 0 to 1)")
    for name, runs in histories.items():
        rewards = [[m.reward for m in run if m.reward is not None] for run in runs]
        mean = smooth([sum(step) / len(step) for step in zip(*rewards, strict=False)], 0.5)
        console.print(f"  {sparkline(mean, 40)} {mean[-1]:.2f}  {_ROWS[name].strip()}", highlight=False)


def _show_traces(out: Path, plan: Any, summary: dict[str, Any]) -> None:
    """The first test question that the untrained network gets wrong: its trace before and after."""
    from neuromas.cli.show import console, print_trace
    from neuromas.compare.demo import folder
    from neuromas.run.build import build, load_run

    config = plan.config("trained", summary["trained"]["learning_rate"], plan.seeds[0])
    before, task = build(config)
    after, _, _ = load_run(
        folder(out, "trained", summary["trained"]["learning_rate"], plan.seeds[0]), "best", before.backbone
    )
    questions = task.questions("test")[:64]
    traces = before.answer(questions)
    wrong = [i for i, (q, t) in enumerate(zip(questions, traces, strict=True)) if task.grade(q, t.answer).reward == 0]
    pick = wrong[0] if wrong else 0
    question, trace = questions[pick], traces[pick]
    console.print(f"\n[bold]Before training[/], the first test question{' that it gets wrong' if wrong else ''}")
    print_trace(question, trace, task.grade(question, trace.answer))
    trained = after.answer([question])[0]
    console.print("\n[bold]After training[/]")
    print_trace(question, trained, task.grade(question, trained.answer))
