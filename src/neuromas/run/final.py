"""After training: the test results of a run, beside those that keep them honest, what it cost, and its curve."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from neuromas.baselines.trained.team import Team
from neuromas.baselines.vote import Vote
from neuromas.config import RunConfig
from neuromas.evaluate.figure import save_figure
from neuromas.evaluate.run import evaluate
from neuromas.files import write_json, write_json_lines
from neuromas.network.forward import Network
from neuromas.results import JsonRecord, Result, StartRecord, StepMetrics, TrainingCost
from neuromas.run import checkpoint
from neuromas.run.build import build, fill_adapters, load_run
from neuromas.run.checkpoint import Trained
from neuromas.run.folder import read_metrics, read_start
from neuromas.run.health import signs
from neuromas.run.plots import curve_figure
from neuromas.run.start import began
from neuromas.tasks.base import Task
from neuromas.types import System
from neuromas.workers import ALONE, Workers


@dataclass(frozen=True, kw_only=True)
class FinalRecord(JsonRecord):
    """The content of final.json: what a finished run was, what training cost, and its test results."""

    run: str  # The name of the run's folder.
    steps: int  # Steps done.
    config: RunConfig  # The settings of the run.
    training: TrainingCost | None = None  # What training took; None only in early files.
    results: list[Result]  # Test results of the untrained network, of the last checkpoint, and of the best one.
    warnings: list[str]  # Warnings of a collapse; empty when nothing points to one.
    began: str = ""  # How the network began, in words; empty in early files.
    start: StartRecord | None = None  # What the run started from; None where that was not measured.

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"config": self.config.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return super().from_dict({**data, "config": RunConfig.saved(data["config"])})


def evaluate_run(
    run: Path,
    network: Trained,
    task: Task,
    limit: int | None = None,
    workers: Workers = ALONE,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> FinalRecord:
    """Measure the run on the test split and write `final.json`, `answers.jsonl` and `curve.png`.

    Rows: the untrained network (greedy and sampled), then the last checkpoint and the best one on validation (greedy,
    sampled, and with every message blanked; of a team whose paper votes too, the vote instead). network: as of the last
    step. Where the last is the best, it is measured once, as the best. workers: among whom the questions are divided.
    on_progress: called before each measurement, and at the end, with what it is, how many are done, and how many there
    are. Raises TaskError where the test split is empty.
    """
    metrics = workers.from_first(lambda: read_metrics(run))
    results: list[Result] = []
    answers: list[dict[str, Any]] = []
    best, _, config = load_run(run, "best", network.backbone)
    untrained, _ = build(config, network.backbone, network.topology if isinstance(network, Network) else None, task)
    fill_adapters(config, untrained)
    subjects: dict[str, Trained] = {"untrained": untrained, "last": network, "best": best}
    if checkpoint.step_of(run / "best") == metrics[-1].step:
        del subjects["last"]  # the same network
    plan = [(which, *how) for which, subject in subjects.items() for how in _measurements(which, subject, task)]
    for number, (which, subject, greedy, blank) in enumerate(plan):
        delivery = "blanked" if blank else "as sent"
        if on_progress is not None:
            on_progress(f"{which}, {'greedy' if greedy else 'sampled'}, {delivery}", number, len(plan))
        silent: dict[str, Any] = {"blank": blank} if blank else {}
        evaluation = evaluate(subject, task, "test", limit, greedy=greedy, seed=1, workers=workers, **silent)
        result = replace(
            evaluation.result,
            system=f"{run.name} ({which})",
            checkpoint=which,
            delivery=delivery,
            votes=subject.votes if isinstance(subject, Vote) else None,
        )
        results.append(result)
        label = {"checkpoint": which, "delivery": delivery, "decoding": result.decoding}
        answers.extend(label | record.to_dict() for record in evaluation.records)
    if on_progress is not None:
        on_progress("", len(plan), len(plan))
    progress = workers.from_first(lambda: checkpoint.newest_progress(run))
    final = FinalRecord(
        run=run.name,
        steps=metrics[-1].step,
        config=config,
        training=training_cost(metrics),
        results=results,
        warnings=[sign.text for sign in signs(metrics)],
        began=began(config, metrics, progress.lineage, progress.changes),
        start=workers.from_first(lambda: read_start(run)),
    )
    if workers.first:
        write_json_lines(run / "answers.jsonl", answers)
        write_json(run / "final.json", final.to_dict())
        save_figure(curve_figure(metrics, run.name), run / "curve.png")
    return final


def _measurements(which: str, subject: Trained, task: Task) -> list[tuple[System, bool, tuple[str, ...]]]:
    """(what answers, greedily, nodes whose messages are blanked), in the order of the rows."""
    plan: list[tuple[System, bool, tuple[str, ...]]] = [(subject, True, ()), (subject, False, ())]
    if which == "untrained":
        return plan
    if isinstance(subject, Network) and len(subject.topology.nodes) > 1:
        plan.append((subject, True, subject.topology.nodes[:-1]))
    if isinstance(subject, Team) and subject.votes > 1:
        plan.append((Vote(subject, subject.votes, task.parse), True, ()))
    return plan


def training_cost(metrics: Sequence[StepMetrics]) -> TrainingCost:
    """The cost of training, summed over its steps: for matching systems by their samples."""
    return TrainingCost(
        rollouts=sum(m.rollouts or 0 for m in metrics),
        calls=sum(m.calls or 0 for m in metrics),
        prompt_tokens=sum(m.prompt_tokens or 0 for m in metrics),
        generated_tokens=sum(m.generated_tokens or 0 for m in metrics),
        updates=sum(bool(m.nodes) for m in metrics),
        seconds=round(sum(sum(m.seconds.values()) for m in metrics), 1),
    )
