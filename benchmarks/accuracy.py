"""Measures the seconds to a given accuracy, beside CoMLRL's trainer: python -m benchmarks.accuracy --help

Same task, backbone, prompts, reward and number of questions and rollouts a step; each library at the best learning
rate of a small grid. Seconds are those of training; validation (greedy, held-out questions) does not count.
"""

import argparse
import json
import math
import subprocess
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks import launch
from benchmarks.problems import PROBLEMS

Line = dict[str, Any]
STYLES = ("-", "--", ":", "-.")
SIDES = {"neuromas": launch.Item("learn_ours"), "comlrl": launch.Item("learn_comlrl", environment="comlrl")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("problem", choices=list(PROBLEMS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rates", nargs="+", type=float, help="learning rates; by default the problem's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, help="updates; by default the problem's")
    parser.add_argument("--peer-rollouts", type=int, help="G of the peer, whose rollouts multiply by turns")
    parser.add_argument("--seconds", type=float, help="end a run once its training has taken so long")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    problem = PROBLEMS[args.problem]
    lines: list[Line] = []
    for side in args.sides:
        for rate in args.rates or problem.rates:
            for seed in args.seeds:
                lines += run(side, rate, seed, args)
    lines += [summary(side, lines, problem.target) for side in args.sides]
    for line in lines[-len(args.sides) :]:
        print(json.dumps(line), flush=True)
    file = args.out / f"accuracy_{args.problem}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    draw(lines, problem.target, args.out / f"accuracy_{args.problem}.png")


def run(side: str, rate: float, seed: int, args: argparse.Namespace) -> list[Line]:
    """Train once with one library; returns a line per validation, each printed as it comes."""
    python = launch.interpreter(SIDES[side])
    about = {"problem": args.problem, "side": side, "rate": rate, "seed": seed, "dtype": args.dtype}
    if python is None:
        return [about | {"skipped": "no environment; make it with benchmarks/install_peers.sh"}]
    command = [python, "-m", f"benchmarks.items.{SIDES[side].module}", args.problem, "--rate", str(rate)]
    command += ["--seed", str(seed), "--dtype", args.dtype, "--threads", str(args.threads)]
    rollouts = args.peer_rollouts if side != "neuromas" else None
    for name, value in (("steps", args.steps), ("seconds", args.seconds), ("rollouts", rollouts)):
        if value is not None:
            command += [f"--{name}", str(value)]
    lines: list[Line] = []
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=launch.environment(args.threads)
    )
    assert child.stdout is not None
    assert child.stderr is not None
    for text in child.stdout:
        if text.startswith("{"):
            lines.append(about | json.loads(text))
            print(json.dumps(lines[-1]), flush=True)
    errors = child.stderr.read().strip().splitlines()
    if child.wait():
        lines.append(about | {"skipped": errors[-1] if errors else "it failed and printed nothing"})
        print(json.dumps(lines[-1]), flush=True)
    return lines


def summary(side: str, lines: list[Line], target: float) -> Line:
    """Seconds until `target` is first reached at the rate that reaches it soonest, seeds averaged; None: never."""
    runs: dict[float, dict[int, float]] = {}  # rate -> seed -> seconds, infinite where it was not reached
    for line in lines:
        if line["side"] == side and "accuracy" in line:
            reached = line["seconds"] if line["accuracy"] >= target else math.inf
            seeds = runs.setdefault(line["rate"], {})
            seeds[line["seed"]] = min(reached, seeds.get(line["seed"], math.inf))
    means = {rate: sum(seeds.values()) / len(seeds) for rate, seeds in runs.items()}
    best = min(means, key=means.__getitem__, default=None)
    if best is None or math.isinf(means[best]):
        return {"side": side, "target": target, "best_rate": None, "seconds_to_target": None}
    return {"side": side, "target": target, "best_rate": best, "seconds_to_target": round(means[best], 3)}


def draw(lines: list[Line], target: float, path: Path) -> None:
    """Accuracy against seconds of training, one line a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.8))
    axis = figure.subplots()
    runs: dict[tuple[str, float, int], list[Line]] = {}
    for line in lines:
        if "accuracy" in line:
            runs.setdefault((line["side"], line["rate"], line["seed"]), []).append(line)
    styles = dict(zip(sorted({rate for _, rate, _ in runs}), cycle(STYLES), strict=False))
    for (side, rate, _), points in runs.items():
        xs = [max(point["seconds"], 1) for point in points]  # step 0 stands at one second: the axis is logarithmic
        ys = [point["accuracy"] for point in points]
        axis.plot(xs, ys, styles[rate], marker="o", ms=3, color=f"C{list(SIDES).index(side)}", alpha=0.7)
    for n, side in enumerate(SIDES):
        axis.plot([], [], color=f"C{n}", label=side)
    for rate, style in styles.items():
        axis.plot([], [], style, color="grey", label=f"learning rate {rate:g}")
    axis.axhline(target, color="grey", lw=0.8, ls="--")
    axis.set_xscale("log")
    axis.set_xlabel("seconds of training")
    axis.set_ylabel("validation accuracy")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
