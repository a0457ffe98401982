"""Measures the seconds until one question is answered, by networks of different shapes.

The nodes of a layer write side by side, those of a chain one after the other. Untrained networks on the recipe's
questions, greedy, each question asked of every shape in turn; ratios are to the first shape, question by question.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from neuromas.config import RunConfig
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line
from neuromas.network.topology import Topology
from neuromas.run.build import build


def latencies(config: RunConfig, shapes: list[str], n: int) -> list[dict[str, Any]]:
    """A line for each shape: seconds of each of `n` questions, after two that are not timed, and calls and tokens."""
    first, task = build(config, topology=Topology.parse(shapes[0]))
    shared = first.backbone
    networks = {shape: build(config, shared, Topology.parse(shape))[0] for shape in shapes}
    seconds: dict[str, list[float]] = {shape: [] for shape in shapes}
    for number, question in enumerate(task.questions("validation")[: n + 2]):
        for shape, network in networks.items():
            start = time.perf_counter()
            network.answer([question], greedy=True)
            if number >= 2:
                seconds[shape].append(time.perf_counter() - start)
    lines: list[dict[str, Any]] = []
    for shape, network in networks.items():
        cost = evaluate(network, task, "validation", n).result
        keys = ("calls", "generated_tokens", "sequential_calls", "sequential_tokens")
        lines.append({"shape": shape, **{key: getattr(cost, key) for key in keys}, "seconds": seconds[shape]})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("recipe", type=Path, help="whose backbone and task are used")
    parser.add_argument("shapes", nargs="+", help="topologies; the first is what the others are compared with")
    parser.add_argument("--n", type=int, default=20, help="questions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a file of JSON lines to append to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = latencies(RunConfig.load(args.recipe), args.shapes, args.n)
    for line in lines:
        ratio = statistics.median(a / b for a, b in zip(line["seconds"], lines[0]["seconds"], strict=True))
        middle = 1000 * statistics.median(line["seconds"])
        cost = f"{line['calls']:g} calls, {line['generated_tokens']:.0f} tokens"
        row = f"{line['sequential_calls']:g} and {line['sequential_tokens']:.0f} in a row"
        print(f"{line['shape']:20} {cost}; {row}; median {middle:.0f} ms, {ratio:.2f} times")
        if args.out:
            append_json_line(args.out, {"recipe": args.recipe.name, "threads": args.threads, **line})


if __name__ == "__main__":
    main()
