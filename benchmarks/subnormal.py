"""Measures training steps that count subnormal numbers as zero beside steps that compute with them, in turn.

The same network, questions and draws both ways; one thread, whose state `flushed` sets and puts back.
"""

import argparse
import copy
import statistics
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from neuromas.config import RunConfig
from neuromas.files import append_json_line
from neuromas.network.forward import Network
from neuromas.network.topology import Topology
from neuromas.run.build import build, optimizer_of
from neuromas.train.step import train_step


def steps(config: RunConfig, topology: Any, warm: int, pairs: int) -> list[dict[str, float]]:
    """Seconds of both kinds of step, pair by pair, after `warm` steps that are not timed."""
    network, task = build(config, topology=Topology.parse(topology))
    assert isinstance(network, Network), "a recipe of a team has no topology"
    optimizer, pool, n = optimizer_of(config, network), task.questions("train"), config.train.questions
    timed: list[dict[str, float]] = []

    def seconds(step: int) -> float:
        questions = pool[step * n : (step + 1) * n]
        result = train_step(network, optimizer, task, questions, config.train, step=step, seed=config.seed)
        return sum(result.metrics.seconds.values())

    for step in range(warm):
        seconds(step)
    for step in range(warm, warm + pairs):
        kept = {name: p.detach().clone() for name, p in network.adapters.named_parameters()}
        state = copy.deepcopy(optimizer.state_dict())
        pair = {"flushed": seconds(step)}
        network.adapters.load_state_dict(kept, strict=False)
        optimizer.load_state_dict(state)
        with (
            patch("neuromas.network.backbone.flushed", nullcontext),
            patch("neuromas.train.update.flushed", nullcontext),
        ):
            timed.append(pair | {"subnormal": seconds(step)})
    return timed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subnormal", description=__doc__)
    parser.add_argument("recipe", type=Path, help="what is trained")
    parser.add_argument("--topology", help="instead of the recipe's")
    parser.add_argument("--warm", type=int, default=2, help="steps before the first that is timed")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a file of JSON lines to append to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = RunConfig.load(args.recipe)
    topology = args.topology or config.topology
    pairs = steps(config, topology, args.warm, args.pairs)
    ratios = [pair["subnormal"] / pair["flushed"] for pair in pairs]
    for pair, ratio in zip(pairs, ratios, strict=True):
        print(f"flushed {pair['flushed']:.2f} s, with subnormal numbers {pair['subnormal']:.2f} s: {ratio:.2f} times")
    print(f"median of {len(ratios)}: {statistics.median(ratios):.2f} times")
    if args.out:
        line = {"recipe": args.recipe.name, "topology": topology, "warm": args.warm, "pairs": pairs}
        append_json_line(args.out, line)


if __name__ == "__main__":
    main()
