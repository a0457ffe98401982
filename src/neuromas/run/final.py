"""After training: the test figures of a run, beside those that keep them honest, what it cost, and its curve."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuromas.baselines.trained.team import Team
from neuromas.baselines.vote import Vote
from neuromas.evaluate.run import evaluate
from neuromas.files import read_json_lines, write_json, write_json_lines
from neuromas.network.forward import Network
from neuromas.run import checkpoint
from neuromas.run.build import build, load_run
from neuromas.run.checkpoint import Trained
from neuromas.run.health import collapse_warnings
from neuromas.run.plots import learning_curve
from neuromas.tasks.base import Task
from neuromas.types import System
from neuromas.workers import ALONE, Workers


def validation_score(run: Path) -> float:
    """By what a learning rate is chosen: the mean of the run's last two validation accuracies."""
    checks = [m["validation"]["accuracy"] for m in read_json_lines(run / "metrics.jsonl") if "validation" in m]
    return sum(checks[-2:]) / len(checks[-2:])


def finish(
    run: Path,
    network: Trained,
    task: Task,
    limit: int | None = None,
    workers: Workers = ALONE,
    watch: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure the run on the test split and write `final.json`, `answers.jsonl` and `curve.png`.

    Rows: the untrained network (greedy and sampled), then the last checkpoint and the best one on validation (greedy,
    sampled, and with every message blanked; of a team whose paper votes too, the vote instead). network: as of the last
    step. Where the last is the best, it is measured once, as the best. workers: among whom the questions are divided.
    watch: called before each measurement, and at the end, with what it is, how many are done, and how many there are.
    """
    metrics = workers.from_first(lambda: read_json_lines(run / "metrics.jsonl"))
    rows: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    best, _, config = load_run(run, "best", network.backbone)
    untrained, _ = build(config, network.backbone, network.topology if isinstance(network, Network) else None)
    subjects: dict[str, Trained] = {"untrained": untrained, "last": network, "best": best}
    if checkpoint.step_of(run / "best") == metrics[-1]["step"]:
        del subjects["last"]  # the same network
    plan = [(which, *how) for which, subject in subjects.items() for how in _measurements(which, subject, task)]
    for number, (which, subject, greedy, blank) in enumerate(plan):
        label = {"checkpoint": which, "delivery": "blanked" if blank else "as sent"}
        if watch is not None:
            watch(f"{which}, {'greedy' if greedy else 'sampled'}, {label['delivery']}", number, len(plan))
        silent: dict[str, Any] = {"blank": blank} if blank else {}
        found = evaluate(subject, task, "test", limit, greedy=greedy, seed=1, workers=workers, **silent)
        rows.append(found.result | {"system": f"{run.name} ({which})"} | label)
        rows[-1] |= {"votes": subject.votes} if isinstance(subject, Vote) else {}
        answered.extend(label | {"decoding": rows[-1]["decoding"]} | record for record in found.records)
    if watch is not None:
        watch("", len(plan), len(plan))
    final = {
        "run": run.name,
        "steps": metrics[-1]["step"],
        "config": config.model_dump(mode="json"),
        "training": training_cost(metrics),
        "results": rows,
        "warnings": collapse_warnings(metrics),
    }
    if workers.first:
        write_json_lines(run / "answers.jsonl", answered)
        write_json(run / "final.json", final)
        learning_curve(metrics, run / "curve.png", title=run.name)
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


def training_cost(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """What training sampled and did, summed over the lines of metrics.jsonl: for matching systems by their samples.

    rollouts: graded answers. calls, prompt_tokens, generated_tokens: of sampling; validation and testing count nowhere.
    updates: steps that changed weights. seconds: of all steps.
    """
    sampled = ("rollouts", "calls", "prompt_tokens", "generated_tokens")
    cost: dict[str, Any] = {key: sum(line.get(key, 0) for line in metrics) for key in sampled}
    cost["updates"] = sum(bool(line.get("nodes")) for line in metrics)
    cost["seconds"] = round(sum(sum(line["seconds"].values()) for line in metrics if "seconds" in line), 1)
    return cost
