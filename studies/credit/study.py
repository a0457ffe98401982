"""Compares estimators of credit at equal generated tokens: variance of the gradient at fixed weights, and learning.

usage: python -m studies.credit.study OUT

Writes OUT/recipe.toml, variance.jsonl and learning.jsonl; a study that is started again goes on where it stopped. Only
training and validation questions are read. An estimator that branches gets fewer rollouts, by as many as its branches
cost.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromas.config import RunConfig
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines
from neuromas.network.forward import Network
from neuromas.run.build import build
from neuromas.tasks.base import Task
from neuromas.train import critic
from neuromas.train.step import train_step
from studies.shared import arguments, is_done, start, train_network

RECIPE = Path(__file__).with_name("recipe.toml")
# Every kind has as many rollouts a question as spend about the tokens of 8 with the shared advantage.
KINDS: dict[str, dict[str, Any]] = {
    "leave_one_out": {"estimator": "leave_one_out", "rollouts": 8},
    "critic": {"estimator": "critic", "rollouts": 8},
    "difference": {"estimator": "difference", "rollouts": 5},
    "counterfactual, K = 1": {"estimator": "counterfactual", "alternatives": 1, "rollouts": 4},
    "counterfactual, K = 3": {"estimator": "counterfactual", "alternatives": 3, "rollouts": 2},
}
LEARNED = tuple(KINDS)[:4]  # the kinds that networks are trained with; the last is left out for time
RATES, SEEDS = (2e-3,), (0, 1, 2)
VALIDATION = 256  # questions on which the last state is measured, sampled
TRAINED = (0, 20)  # steps of training after which variance is measured


def settings(kind: str, rate: float, seed: int, **more: Any) -> RunConfig:
    """The recipe with an estimator of credit; more: further settings of [train]."""
    train = {**KINDS[kind], "learning_rate": rate, **more}
    return RunConfig.load(RECIPE, seed=seed, **{f"train.{k}": v for k, v in train.items()})


def measure_variance(file: Path, draws: int) -> None:
    """Measure the variance of each node's gradient over draws of the same 8 questions.

    The weights are those after some steps of the shared advantage. A line for each (steps, kind): mean tokens a draw,
    and for each node the squared length of the mean gradient and every draw's share of the variance.
    """
    for steps in TRAINED:
        todo = [kind for kind in KINDS if not is_done(file, {"trained": steps, "kind": kind})]
        if not todo:
            continue
        network, task = trained_for(steps)
        critic.attach(network)
        for kind in todo:
            line = {"trained": steps, "kind": kind, "draws": draws}
            append_json_line(file, line | variance_of(network, task, kind, draws))
            print(steps, kind, flush=True)


def trained_for(steps: int) -> tuple[Network, Task]:
    """A network after some steps of the shared advantage."""
    config = settings("leave_one_out", 1e-3, 0, steps=max(1, steps), validate_every=100, validation_questions=1)
    if steps > 0:
        with tempfile.TemporaryDirectory() as folder:
            return train_network(config, Path(folder) / "run")
    network, task = build(config)
    assert isinstance(network, Network)
    return network, task


def variance_of(network: Network, task: Task, kind: str, draws: int) -> dict[str, Any]:
    """Variance of the gradient with one kind of estimator. Legend: X draw, N node, T parameter."""
    config = settings(kind, 1e-3, 0, clip=1e9).train
    optimizer = torch.optim.SGD(network.adapters.stacks(), lr=0.0)
    questions = task.questions("train")
    if kind == "critic":  # it learns from 20 steps at these weights before it is measured
        for step in range(1, 21):
            train_step(network, optimizer, task, questions[8 * step : 8 * step + 8], config, step=step, seed=7)
    tokens, rewards, gradients = 0, 0.0, list[Tensor]()
    for step in range(1, draws + 1):
        metrics = train_step(network, optimizer, task, questions[:8], config, step=step, seed=8).metrics
        tokens, rewards = tokens + (metrics.generated_tokens or 0), rewards + (metrics.reward or 0.0)
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in network.adapters.stacks()]
        gradients.append(torch.cat([g.flatten(1) for g in grads], 1))
    drawn_XNT = torch.stack(gradients)
    spread_XN = (drawn_XNT - drawn_XNT.mean(0)).square().sum(2) * draws / (draws - 1)
    squared_N = drawn_XNT.mean(0).square().sum(1) - spread_XN.mean(0) / draws  # less the noise of a mean of draws
    names = network.adapters.names
    return {
        "tokens": tokens / draws,
        "reward": rewards / draws,
        "mean_squared": dict(zip(names, squared_N.tolist(), strict=True)),
        "spread": {n: [round(x, 6) for x in spread_XN[:, i].tolist()] for i, n in enumerate(names)},
    }


def measure_learning(file: Path, seeds: Sequence[int] = SEEDS, rates: Sequence[float] = RATES) -> None:
    """Train every kind at every rate with the first seed, then further seeds at the rate chosen; a line a run."""
    first, *later = seeds
    for rate in rates:
        for kind in LEARNED:
            run_once(file, kind, rate, first)
    for seed in later:
        lines = read_json_lines(file)
        for kind in LEARNED:
            run_once(file, kind, chosen_rate(lines, kind), seed)


def chosen_rate(lines: list[dict[str, Any]], kind: str) -> float:
    """The rate with the highest mean validation accuracy over the run, first seed; the smaller rate on a tie."""
    first = [line for line in lines if line["kind"] == kind and line["seed"] == SEEDS[0]]
    return max(first, key=lambda line: (over_tokens(line), -line["rate"]))["rate"]


def over_tokens(run: dict[str, Any], tokens: float | None = None, key: str = "validation") -> float:
    """Mean of a curve up to a number of generated tokens (None: to its end), a measure of how early a run learned.

    key: `validation`, the greedy accuracy, or `reward`, the sampled one of the step's own rollouts.
    """
    checks = [(p["tokens"], p[key]) for p in run["curve"] if key in p]
    checks = [(0, run["untrained"]), *checks] if key == "validation" else checks
    xs, ys = np.array(checks, float).T
    grid = np.linspace(0, xs[-1] if tokens is None else tokens, 1001)
    return float(np.interp(grid, xs, ys).mean())


def run_once(file: Path, kind: str, rate: float, seed: int) -> None:
    """Train one network and append its line, unless it stands there."""
    if is_done(file, {"kind": kind, "rate": rate, "seed": seed}):
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        network, task = train_network(settings(kind, rate, seed), run)
        untrained, *metrics = read_json_lines(run / "metrics.jsonl")
    sampled = evaluate(network, task, "validation", VALIDATION, greedy=False, seed=1).result.to_dict()
    tokens, curve = 0, list[dict[str, Any]]()
    for line in metrics:
        tokens += line["generated_tokens"]
        point = {"step": line["step"], "tokens": tokens, "reward": line["reward"]}
        curve.append(point | ({"validation": line["validation"]["accuracy"]} if "validation" in line else {}))
    record = {"kind": kind, "rate": rate, "seed": seed, "rollouts": KINDS[kind]["rollouts"], "tokens": tokens}
    record |= {"calls": sum(m["calls"] for m in metrics), "trainable_parameters": network.trainable_parameters}
    record |= {"sampled": {k: sampled[k] for k in ("accuracy", "n", "parse_rate", "floors")}}
    record |= {"validation_n": untrained["validation"]["n"]}
    record |= {"untrained": untrained["validation"]["accuracy"], "curve": curve}
    append_json_line(file, record)
    print(f"{kind} rate {rate:g} seed {seed}: {over_tokens(record):.3f} over {tokens} tokens", flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    start(out)
    shutil.copyfile(RECIPE, out / "recipe.toml")
    measure_learning(out / "learning.jsonl")
    measure_variance(out / "variance.jsonl", draws=32)


if __name__ == "__main__":
    main()
