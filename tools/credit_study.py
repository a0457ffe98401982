"""How estimators of credit compare at equal generated tokens: their variance at fixed weights, and how they learn.

usage: python tools/credit_study.py OUT    started again, it goes on

Writes OUT/recipe.toml, variance.jsonl and learning.jsonl; `tools/credit_report.py OUT` makes report and figure of them. Only
training and validation questions are read. The recipe's rollouts are those of the shared advantage; an estimator
that branches gets as many fewer as its branches cost.
"""

import argparse
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
from neuromas.run.loop import train
from neuromas.tasks.base import Task
from neuromas.train import critic
from neuromas.train.step import train_step

RECIPE = Path(__file__).parents[1] / "recipes" / "credit_tiny_compositional.toml"
# estimator settings -> rollouts a question that spend about as many tokens as 8 of the shared advantage
KINDS: dict[str, dict[str, Any]] = {
    "leave_one_out": {"estimator": "leave_one_out", "rollouts": 8},
    "critic": {"estimator": "critic", "rollouts": 8},
    "difference": {"estimator": "difference", "rollouts": 5},
    "counterfactual, K = 1": {"estimator": "counterfactual", "alternatives": 1, "rollouts": 4},
    "counterfactual, K = 3": {"estimator": "counterfactual", "alternatives": 3, "rollouts": 2},
}
LEARNED = tuple(KINDS)[:4]  # those that are trained with, for time
RATES, SEEDS = (2e-3,), (0, 1, 2)
TRAINED = (0, 20)  # steps of training after which variance is measured


def settings(kind: str, rate: float, seed: int, **more: Any) -> RunConfig:
    train = {**KINDS[kind], "learning_rate": rate, **more}
    return RunConfig.load(RECIPE, seed=seed, **{f"train.{k}": v for k, v in train.items()})


# -- variance ----------------------------------------------------------------------------------------------


def measure_variance(file: Path, draws: int) -> None:
    """Of each node's gradient over draws of the same 8 questions, at weights trained for so many steps by the shared
    advantage. One line for each (steps, kind): its mean tokens a draw, and for each node the mean gradient's squared
    length and the variance, each draw's share first so that intervals can be made."""
    done = {(line["trained"], line["kind"]) for line in read_json_lines(file)}
    for steps in TRAINED:
        if all((steps, kind) in done for kind in KINDS):
            continue
        network, task = trained_for(steps)
        critic.attach(network)
        for kind in KINDS:
            if (steps, kind) not in done:
                line = {"trained": steps, "kind": kind, "draws": draws}
                append_json_line(file, line | variance_of(network, task, kind, draws))
                print(steps, kind, flush=True)


def trained_for(steps: int) -> tuple[Network, Task]:
    config = settings("leave_one_out", 1e-3, 0, steps=max(1, steps), validate_every=100, validation_questions=1)
    if steps == 0:
        network, task = build(config)
    else:
        with tempfile.TemporaryDirectory() as folder:
            network, task = train(config, Path(folder) / "run")
    assert isinstance(network, Network)
    return network, task


def variance_of(network: Network, task: Task, kind: str, draws: int) -> dict[str, Any]:
    config = settings(kind, 1e-3, 0, clip=1e9).train
    optimizer = torch.optim.SGD(network.adapters.stacks(), lr=0.0)
    questions = task.questions("train")
    if kind == "critic":  # what it would know after 20 steps at these weights
        for step in range(1, 21):
            train_step(network, optimizer, task, questions[8 * step : 8 * step + 8], config, step=step, seed=7)
    tokens, rewards, gradients = 0, 0.0, list[Tensor]()
    for step in range(1, draws + 1):
        metrics = train_step(network, optimizer, task, questions[:8], config, step=step, seed=8).metrics
        tokens, rewards = tokens + metrics["generated_tokens"], rewards + metrics["reward"]
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in network.adapters.stacks()]
        gradients.append(torch.cat([g.flatten(1) for g in grads], 1))
    drawn_XNT = torch.stack(gradients)
    spread_XN = (drawn_XNT - drawn_XNT.mean(0)).square().sum(2) * draws / (draws - 1)
    squared_N = drawn_XNT.mean(0).square().sum(1) - spread_XN.mean(0) / draws  # of the true mean, without its noise
    names = network.adapters.names
    return {
        "tokens": tokens / draws,
        "reward": rewards / draws,
        "mean_squared": dict(zip(names, squared_N.tolist(), strict=True)),
        "spread": {n: [round(x, 6) for x in spread_XN[:, i].tolist()] for i, n in enumerate(names)},
    }


# -- learning ----------------------------------------------------------------------------------------------


def measure_learning(file: Path, seeds: Sequence[int] = SEEDS, rates: Sequence[float] = RATES) -> None:
    """One line a run: its curve. Every kind and rate with the first seed, then each further seed at the kind's rate."""
    first, *later = seeds
    for rate in rates:
        for kind in LEARNED:
            run_once(file, kind, rate, first)
    for seed in later:
        lines = read_json_lines(file)
        for kind in LEARNED:
            run_once(file, kind, chosen_rate(lines, kind), seed)


def chosen_rate(lines: list[dict[str, Any]], kind: str) -> float:
    """The highest mean of validation accuracy over the run, with the first seed; the smaller rate on a tie."""
    tried = [line for line in lines if line["kind"] == kind and line["seed"] == SEEDS[0]]
    return max(tried, key=lambda line: (over_tokens(line), -line["rate"]))["rate"]


def over_tokens(run: dict[str, Any], tokens: float | None = None, key: str = "validation") -> float:
    """Mean over the run up to so many generated tokens (all): how early it learned. key: `validation`, the greedy
    accuracy; or `reward`, that of the step's own rollouts, which is sampled."""
    checks = [(p["tokens"], p[key]) for p in run["curve"] if key in p]
    checks = [(0, run["untrained"]), *checks] if key == "validation" else checks
    xs, ys = np.array(checks, float).T
    grid = np.linspace(0, xs[-1] if tokens is None else tokens, 1001)
    return float(np.interp(grid, xs, ys).mean())


def run_once(file: Path, kind: str, rate: float, seed: int) -> None:
    if any((line["kind"], line["rate"], line["seed"]) == (kind, rate, seed) for line in read_json_lines(file)):
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        network, task = train(settings(kind, rate, seed), run)
        before, *metrics = read_json_lines(run / "metrics.jsonl")
    sampled = evaluate(network, task, "validation", 256, greedy=False, seed=1).result
    tokens, curve = 0, list[dict[str, Any]]()
    for line in metrics:
        tokens += line["generated_tokens"]
        point = {"step": line["step"], "tokens": tokens, "reward": line["reward"]}
        curve.append(point | ({"validation": line["validation"]["accuracy"]} if "validation" in line else {}))
    record = {"kind": kind, "rate": rate, "seed": seed, "rollouts": KINDS[kind]["rollouts"], "tokens": tokens}
    record |= {"calls": sum(m["calls"] for m in metrics), "trainable_parameters": network.trainable_parameters}
    record |= {"sampled": {k: sampled[k] for k in ("accuracy", "n", "parse_rate", "floors")}}
    record |= {"validation_n": before["validation"]["n"], "untrained": before["validation"]["accuracy"], "curve": curve}
    append_json_line(file, record)
    print(f"{kind} rate {rate:g} seed {seed}: {over_tokens(record):.3f} over {tokens} tokens", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(RECIPE, out / "recipe.toml")
    measure_learning(out / "learning.jsonl")
    measure_variance(out / "variance.jsonl", draws=32)


if __name__ == "__main__":
    main()
