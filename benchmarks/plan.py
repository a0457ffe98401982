"""Compares `neuromas plan` with real steps: python -m benchmarks.plan RECIPE… [--set train.questions=4 …] [--steps 3]

Every recipe runs in a process of its own: it is built, trains a few steps, its peak memory is read, and only then is
the calibration run that the prediction rests on. Rewards are compared with a fixed baseline of 0.5 (estimator
`running_mean`), so that no group is left out of the update and every run does what the planner counts. Seconds are
those of the processor (with one thread, what an idle core takes), since other work may disturb the wall's; both are
in the lines.

Prints a JSON line a recipe (appended to --out) and a table of predicted against measured.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import launch
from benchmarks.report import emit

Line = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the recipe to replace")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "plan.jsonl")
    parser.add_argument("--measure", action="store_true", help="in this process; the others start one each")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(args.recipes[0], changes(args.set), args.steps, args.threads)))
        return
    for recipe in args.recipes:
        own = ["--measure", "--steps", str(args.steps), "--threads", str(args.threads), "--set", *args.set]
        line = launch.run([sys.executable, "-m", "benchmarks.plan", str(recipe.resolve()), *own], args.threads)
        line = {"recipe": recipe.stem, "set": args.set, "threads": args.threads, **line}
        emit(line, args.out)
        if "skipped" not in line:
            print(table(line), flush=True)


def changes(settings: list[str]) -> Line:
    """ "train.questions=4" as {"train.questions": 4}; what is no JSON stays text."""
    found: Line = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


def measured(recipe: Path, settings: Line, steps: int, threads: int) -> Line:
    """Train, then calibrate and predict."""
    import torch

    from neuromas.config import RunConfig
    from neuromas.network.forward import Network
    from neuromas.plan.calibrate import base_bytes, calibrate, peak_bytes
    from neuromas.plan.memory import memory
    from neuromas.plan.model import model_of
    from neuromas.plan.seconds import seconds
    from neuromas.run.build import build, optimizer_of
    from neuromas.run.method import Joint
    from neuromas.run.stages import stages_of
    from neuromas.workers import ALONE

    torch.set_num_threads(threads)
    config = RunConfig.load(recipe, **settings, **{"train.estimator": "running_mean"})
    model = model_of(config.backbone.name)
    network, task = build(config)
    assert isinstance(network, Network), "only networks are planned"
    base = base_bytes(network, model)
    network.backbone.checkpoint_gradients(config.train.gradient_checkpointing)
    optimizer, method = optimizer_of(config, network), Joint(config, network, task, stages_of(config)[0], 0, ALONE)
    optimizer.set_rates(1e-6, {})  # the network stays what it is: lengths do not drift while they are compared
    laps: list[Line] = []
    for step in range(1, steps + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        result = method.step(optimizer, step, 0.5)
        lap = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
        tokens = {k: getattr(result.metrics, k) for k in ("calls", "prompt_tokens", "generated_tokens")}
        laps.append(lap | tokens | {"phases_wall": result.metrics.seconds})
    peak = peak_bytes()

    here = calibrate(config, network, task, model, time.process_time)
    held, taken = memory(model, here.work, base), seconds(model, here.work, here.rates)
    median = statistics.median(lap["cpu_seconds"] for lap in laps)
    return {
        "predicted": {
            "memory": held.to_dict() | {"peak": held.peak, "phase": held.phase},
            "seconds": taken.to_dict() | {"step": taken.step},
            "rates": here.rates.to_dict(),
        },
        "writes": {turn.node: turn.writes for turn in here.work.turns},
        "measured": {"peak_bytes": peak, "cpu_seconds": median},
        "steps": laps,
        "memory_ratio": held.peak / peak,
        "seconds_ratio": taken.step / median,
    }


def table(line: Line) -> str:
    """Predicted against measured."""
    p, m = line["predicted"], line["measured"]
    return (
        f"{line['recipe']}: memory {p['memory']['peak'] / 1e9:.2f} GB predicted, {m['peak_bytes'] / 1e9:.2f} measured "
        f"({line['memory_ratio'] - 1:+.0%}); a step {p['seconds']['step']:.2f} s predicted, "
        f"{m['cpu_seconds']:.2f} measured ({line['seconds_ratio'] - 1:+.0%})"
    )


if __name__ == "__main__":
    main()
