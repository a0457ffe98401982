"""The demonstration: a small network learns on the embedded backbone, beside the controls that keep it honest.

Every system is trained on the same questions, with as many rollouts and updates. Each gets its own learning rate,
chosen from the same grid by validation accuracy with the first seed. The controls: one model with as many trainable
parameters; the same spending the network's calls on a vote; and one model that writes to itself as often as the
network's nodes write (a scratchpad: same calls, same tokens, same parameters, no organisation).
"""

import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from neuromas.baselines.vote import Vote
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.evaluate.run import evaluate
from neuromas.evaluate.table import pool
from neuromas.files import write_json
from neuromas.network.forward import Network
from neuromas.results import StepMetrics
from neuromas.run import checkpoint
from neuromas.run.build import build, load_run
from neuromas.run.final import validation_score
from neuromas.run.folder import read_metrics
from neuromas.run.loop import train

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Report = Callable[[int, int], None]  # (jobs done, jobs in all)


@dataclass(frozen=True)
class Plan:
    """Sizes of the demonstration."""

    topology: str = "2"
    depth: int = 2  # of the expressions: 4 leaves
    task_seed: int = 1  # questions that no choice of a setting was made on; those of seed 0 had been looked at
    steps: int = 40
    questions: int = 8
    rollouts: int = 8
    rank: int = 8
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    seeds: tuple[int, ...] = (0, 1, 2)
    validation: int = 128
    test: int = 512
    workers: int = 2

    @property
    def nodes(self) -> int:
        """Nodes of the network, i.e. its calls per question."""
        return sum(map(int, self.topology.split("-"))) + 1

    def systems(self) -> dict[str, dict[str, Any]]:
        """Name -> topology and adapter settings; all have the same number of trainable parameters."""
        wide = {"rank": self.rank * self.nodes, "targets": ALL_LINEAR}
        chain = "-".join("1" * (self.nodes - 1))
        return {
            "trained": {"topology": self.topology, "adapter": {"rank": self.rank, "targets": ALL_LINEAR}},
            "control_params": {"topology": "single", "adapter": wide},
            "control_scratchpad": {"topology": f"{chain}+skip", "adapter": {**wide, "tied": True}},
        }

    def config(self, system: str, rate: float, seed: int) -> RunConfig:
        return RunConfig.make(
            {
                **self.systems()[system],
                "seed": seed,
                "task": {"name": "compositional", "options": {"depth": self.depth, "seed": self.task_seed}},
                "sampling": {"message_tokens": 12},
                "train": {
                    "steps": self.steps,
                    "questions": self.questions,
                    "rollouts": self.rollouts,
                    "learning_rate": rate,
                    "validate_every": 10,
                    "validation_questions": self.validation,
                    "checkpoint_every": 10,
                    "micro_tokens": 32768,
                },
            }
        )


def folder(out: Path, system: str, rate: float, seed: int) -> Path:
    return out / "runs" / f"{system}_lr{rate:g}_s{seed}"


def run(plan: Plan, out: Path, report: Report) -> dict[str, Any]:
    """Train and measure everything; writes `summary.json` and the runs below `out`. Returns the summary."""
    start = time.perf_counter()
    if out.exists() and any(out.iterdir()) and not (out / "plan.json").exists():
        raise ConfigError(f"{out} holds something else; choose another --out")
    shutil.rmtree(out, ignore_errors=True)
    write_json(out / "plan.json", asdict(plan))
    systems = list(plan.systems())
    first, later = plan.seeds[0], plan.seeds[1:]
    jobs = len(systems) * (len(plan.rates) + len(later) + len(plan.seeds)) + 1
    done = 0

    def gather(pool: ProcessPoolExecutor, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        nonlocal done
        futures = [pool.submit(*call) for call in calls]
        for _ in as_completed(futures):
            done += 1
            report(done, jobs)
        return [future.result() for future in futures]

    with ProcessPoolExecutor(plan.workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        grid = [(s, r) for s in systems for r in plan.rates]
        scores = gather(pool, [(_train, plan, out, s, r, first) for s, r in grid])
        rate = {s: max((v, -r, r) for (t, r), v in zip(grid, scores, strict=True) if t == s)[-1] for s in systems}
        gather(pool, [(_train, plan, out, s, rate[s], seed) for s in systems for seed in later])
        pairs = [(s, seed) for s in systems for seed in plan.seeds]
        calls = [(_measure, plan, out, s, rate[s], seed) for s, seed in pairs]
        *measured, untrained = gather(pool, [*calls, (_measure_untrained, plan)])

    rows: dict[str, dict[str, list[dict[str, Any]]]] = {"untrained": untrained}
    for (_, _), found in zip(pairs, measured, strict=True):
        for name, variants in found.items():
            for variant, results in variants.items():
                rows.setdefault(name, {}).setdefault(variant, []).extend(results)
    summary: dict[str, Any] = {name: pool_seeds(variants) for name, variants in rows.items()}
    for name in systems:
        summary[name]["learning_rate"] = rate[name]
        summary[name]["validation_by_rate"] = {f"{r:g}": v for (s, r), v in zip(grid, scores, strict=True) if s == name}
    summary["control_vote"]["learning_rate"] = rate["control_params"]
    summary["seconds"] = round(time.perf_counter() - start, 1)
    write_json(out / "summary.json", summary)
    return summary


def pool_seeds(variants: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """One system's figures over its seeds, and the accuracy of each variant."""
    out = pool(variants["greedy"])
    for variant, rows in variants.items():
        if variant != "greedy":
            out[f"accuracy_{variant}"] = sum(row["accuracy"] for row in rows) / len(rows)
    return out


def curves(plan: Plan, out: Path, summary: dict[str, Any]) -> dict[str, list[list[StepMetrics]]]:
    """System -> metrics of each seed's run, at the learning rate chosen."""
    return {
        s: [read_metrics(folder(out, s, summary[s]["learning_rate"], seed)) for seed in plan.seeds]
        for s in plan.systems()
    }


def _one_thread() -> None:
    torch.set_num_threads(1)


def _train(plan: Plan, out: Path, system: str, rate: float, seed: int) -> float:
    """Train one run; returns the mean of its last two validation accuracies, by which the rate is chosen."""
    run_folder = folder(out, system, rate, seed)
    train(plan.config(system, rate, seed), run_folder)
    return validation_score(run_folder)


def _measure(plan: Plan, out: Path, system: str, rate: float, seed: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Test figures of one run: {row of the summary: {variant: [result]}}; the best-validation checkpoint leads."""
    run_folder = folder(out, system, rate, seed)
    best, task, _ = load_run(run_folder, "best")
    assert isinstance(best, Network), "the demonstration trains networks"
    ask = lambda subject, **how: [evaluate(subject, task, "test", plan.test, seed=seed, **how).result.to_dict()]
    rows = {"greedy": ask(best), "sampled": ask(best, greedy=False)}
    rows["last"] = rows["greedy"]
    if checkpoint.step_of(run_folder / "best") != plan.steps:
        rows["last"] = ask(load_run(run_folder, "last", best.backbone)[0])
    found = {system: rows}
    if len(best.topology.nodes) > 1:
        rows["messages_blanked"] = ask(best, blank=best.topology.nodes[:-1])
    else:
        vote = Vote(best, plan.nodes, task.parse)
        found["control_vote"] = {"greedy": ask(vote)}
    write_json(run_folder / "test.json", found)
    return found


def _measure_untrained(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    network, task = build(plan.config("trained", plan.rates[0], plan.seeds[0]))
    assert isinstance(network, Network)
    ask = lambda **options: [evaluate(network, task, "test", plan.test, **options).result.to_dict()]
    return {
        "greedy": ask(),
        "sampled": ask(greedy=False),
        "messages_blanked": ask(blank=network.topology.nodes[:-1]),
    }
