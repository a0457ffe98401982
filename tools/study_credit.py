"""How estimators of credit compare at equal generated tokens: their variance at fixed weights, and how they learn.

    python tools/study_credit.py OUT [--report]

Writes OUT/recipe.toml, variance.jsonl, learning.jsonl and credit.png. What stands there already is not done again. Only
training and validation questions are read. The recipe's rollouts are those of the shared advantage; an estimator
that branches gets as many fewer as its branches cost.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuromas.config import RunConfig
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines
from neuromas.network.forward import Network
from neuromas.tasks.base import Task
from neuromas.train import critic
from neuromas.train.finish import validation_score
from neuromas.train.loop import build, train
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
RATES, SEEDS = (1e-3, 2e-3, 4e-3), (0, 1, 2)
TRAINED = (0, 20)  # steps of training after which variance is measured


def settings(kind: str, rate: float, seed: int, **more: Any) -> RunConfig:
    train = {**KINDS[kind], "learning_rate": rate, **more}
    return RunConfig.load(RECIPE, seed=seed, **{f"train.{k}": v for k, v in train.items()})


# -- variance ----------------------------------------------------------------------------------------------


def measure_variance(out: Path, draws: int) -> None:
    """Of each node's gradient over draws of the same 8 questions, at weights trained for so many steps by the shared
    advantage. One line for each (steps, kind): its mean tokens a draw, and for each node the mean gradient's squared
    length and the variance, each draw's share first so that intervals can be made."""
    file = out / "variance.jsonl"
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


def interval(
    mine: list[float], tokens: float, base: list[float], base_tokens: float, resamples: int = 2000
) -> tuple[float, float, float]:
    """Variance × tokens relative to the base's, with a bootstrap interval over draws."""
    generator = torch.Generator().manual_seed(0)
    means = [
        torch.tensor(x)[torch.randint(len(x), (resamples, len(x)), generator=generator)].mean(1) for x in (mine, base)
    ]
    ratio = (means[0] * tokens / (means[1] * base_tokens)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return sum(mine) / len(mine) * tokens / (sum(base) / len(base) * base_tokens), ratio[0], ratio[1]


# -- learning ----------------------------------------------------------------------------------------------


def measure_learning(out: Path, seeds: Iterable[int], rates: Iterable[float]) -> None:
    """One line a run: its curve. The rate of each kind is the best of `rates` with the first seed, on validation."""
    file, (first, *later) = out / "learning.jsonl", tuple(seeds)
    for kind in KINDS:
        for rate in rates:
            run_once(file, kind, rate, first)
        rate = chosen_rate(read_json_lines(file), kind)
        for seed in later:
            run_once(file, kind, rate, seed)


def chosen_rate(lines: list[dict[str, Any]], kind: str) -> float:
    """The highest mean of the last two validations; the smaller rate on a tie."""
    tried = [line for line in lines if line["kind"] == kind and line["seed"] == SEEDS[0]]
    return max(tried, key=lambda line: (line["score"], -line["rate"]))["rate"]


def run_once(file: Path, kind: str, rate: float, seed: int) -> None:
    if any((line["kind"], line["rate"], line["seed"]) == (kind, rate, seed) for line in read_json_lines(file)):
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        network, task = train(settings(kind, rate, seed), run)
        metrics, score = read_json_lines(run / "metrics.jsonl"), validation_score(run)
    sampled = evaluate(network, task, "validation", 256, greedy=False, seed=1).result
    floors = evaluate(network, task, "validation", 256).result["floors"]
    tokens, curve = 0, list[dict[str, Any]]()
    for line in metrics:
        tokens += line.get("generated_tokens", 0)
        point = {"step": line["step"], "tokens": tokens, "reward": line.get("reward")}
        curve.append(point | ({"validation": line["validation"]["accuracy"]} if "validation" in line else {}))
    final = {k: sampled[k] for k in ("accuracy", "ci95", "n", "parse_rate")}
    record = {"kind": kind, "rate": rate, "seed": seed, "score": score, "sampled": final, "floors": floors}
    append_json_line(file, record | {"trainable_parameters": network.trainable_parameters, "curve": curve})
    print(kind, rate, seed, f"{score:.3f} {final['accuracy']:.3f} {tokens}", flush=True)


# -- reading ------------------------------------------------------------------------------------------------


def report(out: Path) -> None:
    """Prints the tables that docs/LOG.md quotes, and draws credit.png."""
    variance, learning = read_json_lines(out / "variance.jsonl"), read_json_lines(out / "learning.jsonl")
    rows: list[tuple[int, str, str, float, float, float]] = []
    for steps in TRAINED:
        of = {line["kind"]: line for line in variance if line["trained"] == steps}
        base = of["leave_one_out"]
        for kind, line in of.items():
            for node in line["spread"]:
                found = interval(line["spread"][node], line["tokens"], base["spread"][node], base["tokens"])
                rows.append((steps, kind, node, *found))
                print(f"| {steps} | {line['reward']:.2f} | {kind} | {line['tokens']:.0f} | {node} | "
                      f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}] |")  # fmt: skip
    for kind in KINDS:
        rate = chosen_rate(learning, kind)
        runs = [line for line in learning if line["kind"] == kind and line["rate"] == rate]
        last = lambda r: r["curve"][-1]
        greedy, sampled = [last(r)["validation"] for r in runs], [r["sampled"]["accuracy"] for r in runs]
        show = lambda xs: " ".join(f"{100 * x:.0f}" for x in xs)
        mean = lambda xs: sum(xs) / len(xs)
        print(f"| {kind} | {rate:g} | {mean([last(r)['tokens'] for r in runs]):.0f} | {mean(greedy):.3f} ({show(greedy)}) | "
              f"{mean(sampled):.3f} ({show(sampled)}) | {mean([area(r) for r in runs]):.3f} ({show(map(area, runs))}) |")  # fmt: skip
    draw(out, rows, learning)


def area(run: dict[str, Any]) -> float:
    """Mean greedy validation accuracy over the run: how early it learned."""
    checks = [point["validation"] for point in run["curve"] if "validation" in point]
    return sum(checks) / len(checks)


def draw(out: Path, rows: list[tuple[int, str, str, float, float, float]], learning: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = [kind for kind in KINDS if kind != "leave_one_out"]
    nodes = list(dict.fromkeys(node for _, _, node, *_ in rows))
    for k, kind in enumerate(kinds):
        for s, steps in enumerate(TRAINED):
            for n, node in enumerate(nodes):
                ratio, low, high = next(r[3:] for r in rows if r[:3] == (steps, kind, node))
                x = s * (len(nodes) + 1) + n + (k - 1.5) * 0.17
                bars = [[ratio - low], [high - ratio]]
                label = kind if s == n == 0 else None
                left.errorbar([x], [ratio], yerr=bars, fmt="os^D"[k], color=f"C{k + 1}", ms=5, label=label)
    left.axhline(1, color="C0", lw=1.5, label="leave_one_out")
    ticks = [s * (len(nodes) + 1) + n for s in range(len(TRAINED)) for n in range(len(nodes))]
    left.set_xticks(ticks, nodes * len(TRAINED))
    left.set_xlabel("node, after " + ", ".join(map(str, TRAINED)) + " steps of training")
    left.set(
        yscale="log",
        ylabel="gradient variance × tokens, relative",
        title="Variance at equal tokens (below 1 is better)",
    )
    left.legend(fontsize=8)
    for k, kind in enumerate(KINDS):
        rate = chosen_rate(learning, kind)
        runs = [line for line in learning if line["kind"] == kind and line["rate"] == rate]
        checks = [[p for p in run["curve"] if "validation" in p] for run in runs]
        x = [sum(c[i]["tokens"] for c in checks) / len(checks) / 1000 for i in range(len(checks[0]))]
        y = torch.tensor([[p["validation"] for p in c] for c in checks])
        style = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))[k]
        right.plot(x, y.mean(0), color=f"C{k}", ls=style, lw=2, label=f"{kind} (lr {rate:g})")
        right.fill_between(x, y.amin(0), y.amax(0), color=f"C{k}", alpha=0.1)
    right.set(ylim=(0, 1.02), xlabel="generated tokens in training, thousands", ylabel="validation accuracy, greedy",
              title=f"Learning: mean and range of {len(SEEDS)} seeds")  # fmt: skip
    right.legend(fontsize=8, loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "credit.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--report", action="store_true", help="only print and draw what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report:
        shutil.copyfile(RECIPE, args.out / "recipe.toml")
        measure_variance(args.out, draws=32)
        measure_learning(args.out, SEEDS, RATES)
    report(args.out)


if __name__ == "__main__":
    main()
