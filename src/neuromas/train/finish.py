"""After training: the test figures of a run, beside those that keep them honest, and its learning curve."""

import json
from pathlib import Path
from typing import Any

from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines, write_json
from neuromas.network.forward import Network
from neuromas.tasks.base import Task
from neuromas.train import checkpoint
from neuromas.train.health import collapse_warnings
from neuromas.train.loop import load_run
from neuromas.train.plots import learning_curve


def validation_score(run: Path) -> float:
    """By what a learning rate is chosen: the mean of the run's last two validation accuracies."""
    checks = [m["validation"]["accuracy"] for m in read_json_lines(run / "metrics.jsonl") if "validation" in m]
    return sum(checks[-2:]) / len(checks[-2:])


def finish(run: Path, network: Network, task: Task, limit: int | None = None) -> dict[str, Any]:
    """Measure the run on the test split and write `final.json`, `answers.jsonl` and `curve.png`.

    Rows: the untrained network (greedy and sampled), then the last checkpoint and the best one on validation (greedy,
    sampled, and with every message blanked). network: as of the last step. Where the last is the best, it is measured
    once, as the best.
    """
    metrics = read_json_lines(run / "metrics.jsonl")
    rows: list[dict[str, Any]] = []
    answers = run / "answers.jsonl"
    answers.unlink(missing_ok=True)

    def measure(which: str, subject: Network, *, greedy: bool = True, blank: bool = False) -> None:
        hidden = subject.topology.nodes[:-1] if blank else ()
        found = evaluate(subject, task, "test", limit, greedy=greedy, seed=1, blank=hidden)
        label = {"checkpoint": which, "delivery": "blanked" if blank else "as sent"}
        rows.append(found.result | {"system": f"{run.name} ({which})"} | label)
        for record in found.records:
            append_json_line(answers, label | {"decoding": rows[-1]["decoding"]} | record)

    untrained = Network.create(
        network.topology,
        network.backbone,
        rank=network.adapters.rank,
        targets=tuple({k.rsplit(".", 1)[-1] for k in network.adapters.shapes}),
        limits=network.limits,
        decoding=network.decoding,
        tied=len(network.adapters.names) < len(network.topology.nodes),
    )
    best, _, _ = load_run(run, "best", network.backbone)
    subjects = {"untrained": untrained, "last": network, "best": best}
    if checkpoint.step_of(run / "best") == metrics[-1]["step"]:
        del subjects["last"]  # the same network
    for which, subject in subjects.items():
        measure(which, subject)
        measure(which, subject, greedy=False)
        if which != "untrained" and len(subject.topology.nodes) > 1:
            measure(which, subject, blank=True)
    final = {
        "run": run.name,
        "steps": metrics[-1]["step"],
        "config": json.loads((run / "config.json").read_text(encoding="utf-8")),
        "results": rows,
        "warnings": collapse_warnings(metrics),
    }
    write_json(run / "final.json", final)
    learning_curve(metrics, run / "curve.png", title=run.name)
    return final
