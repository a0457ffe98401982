"""Does growth keep what was learned, and does it reach what training from scratch does not? Five studies on `tiny`.

usage: python tools/growth_study.py DIR [keep] [tune] [sizes] [paths] [readers] [--seeds 0 1 ...]   all by default;
started again, it goes on

- keep: a trained network of three nodes grows by a layer, or by a node, new nodes beginning in each way, with
  recipes/tiny_compositional_growth.toml: validation accuracy before, on the way and at the end. A line of DIR/keep.jsonl
  for each run.
- tune: would other settings do for seven nodes, from scratch above all? Rates, rollouts a step, twice the samples; one seed
  that no other study has; validation alone. A line of DIR/tune.jsonl for each run.
- sizes: networks of 3 to 15 nodes on expressions of 4 leaves with recipes/tiny_compositional_sizes.toml, from scratch and
  grown by way of the smaller sizes, all with as many samples. A line of DIR/sizes.jsonl for each run.
- paths: networks of 1 to 15 nodes on expressions of 8 leaves with recipes/tiny_compositional_paths.toml, all with as many
  samples. A line of DIR/paths.jsonl for each run. Ways (`scratch`, `fade`, ...): tools/growth_ways.py.
- readers: a grown network of 7 nodes (`fade` of `paths`) grows by copies and is measured on validation without further
  training: how many more messages does a trained reader bear? A line of DIR/readers.jsonl for each topology and seed.

Cells are done in order of what they tell, so that a study cut short says something.
`tools/growth_report.py DIR` makes tables and figures of these lines alone.
"""

import argparse
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import torch

from growth_ways import INITS, LONGER, TARGETS, recipe, run
from neuromas.config import RunConfig
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.growth import between
from neuromas.network.topology import Topology
from neuromas.run.build import load_run
from neuromas.run.loop import train
from neuromas.train.transplant import transplant

TEST = 256  # test questions for each of best and last, greedy and sampled

CELLS = [  # (way, nodes) in groups by what they tell, each done for all seeds before the next; up to 3 nodes nothing grows
    [("fade", 7)],
    [("scratch", 1), ("scratch", 3)],
    [("scratch", 7), ("staged", 7)],
    [("longer", 7)],
    [("scratchpad", 7)],
    [("fade+copy", 15)],
    [("easy", 7)],
    [("scratch", 15)],
    [("zero", 7), ("copy", 7), ("noise", 7)],
    [("fade", 5), ("scratch", 5)],
    [("plain", 7)],
    [("fade", 15)],
    [("fade+copy", 31), ("fade+copy+slow", 31), ("noise+copy+slow", 31)],
    [("scratch", 31)],
]
MORE = {"rollouts": 32, "steps": 80}  # as many samples in fewer steps, surer about each question
TUNE = [  # (way, what differs from the recipe), 7 nodes
    ("easy", MORE),
    ("easy", {"learning_rate": 2e-3}),
    ("staged", {"learning_rate": 2e-3}),
    ("easy", LONGER),
    ("scratchpad", {"learning_rate": 1e-3}),
    ("scratchpad", {"learning_rate": 5e-4}),
    ("scratchpad", {"learning_rate": 5e-4, "steps": 320}),
    ("scratchpad+easy", {"learning_rate": 5e-4, "steps": 320}),
    ("scratchpad+easy", {"learning_rate": 1e-3, "steps": 320}),
    ("fade", LONGER),
    ("staged", LONGER),
    ("easy", {"learning_rate": 1e-3}),
    ("scratch", {"learning_rate": 2e-3}),
    ("scratch", MORE),
    ("staged", MORE),
]
TUNE_SEED = 5
SIZES = [[("scratch", 3), *((w, n) for n in (5, 7) for w in ("fade", "scratch")), ("fade+copy", 15), ("scratch", 15)]]
READERS = ("4-2", "4-4", "4-6", "4-10", "4-18", "8-2", "12-2", "16-2", "8-6", "8-4/2", "24-6", "20-10/5")


# -- does growth keep what was learned? ------------------------------------------------------------------------


def keep(out: Path, seeds: list[int], backbone: Backbone) -> None:
    for init, target in product(INITS, TARGETS):
        for seed in seeds:
            cell = {"target": target, "init": init, "seed": seed}
            if not done(out / "keep.jsonl", cell):
                data: dict[str, Any] = recipe("tiny_compositional_growth") | {"seed": seed}
                data["stages"][1] |= {"topology": target, "init": init}
                _, metrics = trained(data, out / "runs" / f"keep_{target}_{init}_s{seed}", backbone)
                checks = [(m["step"], m["validation"]["accuracy"]) for m in metrics if "validation" in m]
                before = max(m["step"] for m in metrics if m.get("stage", 0) == 0)
                rewards = [(m["step"], m["reward"]) for m in metrics if m["step"]]
                line = cell | {"grown_after": before, "n": metrics[0]["validation"]["n"], "validation": checks}
                append_json_line(out / "keep.jsonl", line | {"reward": rewards})
                print(cell, before, checks, flush=True)


# -- would other settings do? ------------------------------------------------------------------------------------


def tune(out: Path, backbone: Backbone) -> None:
    for way, changed in TUNE:
        cell = {"way": way, "changed": changed}
        if not done(out / "tune.jsonl", cell):
            name = "_".join([way, *(f"{k}_{v}" for k, v in changed.items())])
            folder = out / "runs" / f"tune_{name}"
            _, metrics = trained(run("paths", way, 7, TUNE_SEED, changed), folder, backbone)
            checks = [(m["step"], m["validation"]["accuracy"]) for m in metrics if "validation" in m]
            line = cell | {"seed": TUNE_SEED, "n": metrics[0]["validation"]["n"], "validation": checks}
            line |= {k: sum(m[k] for m in metrics[1:]) for k in ("rollouts", "generated_tokens")}
            append_json_line(out / "tune.jsonl", line | {"reward": [round(m["reward"], 4) for m in metrics[1:]]})
            shutil.rmtree(folder)
            print(line, flush=True)


# -- from scratch against grown ----------------------------------------------------------------------------------


def compare(name: str, groups: list[list[tuple[str, int]]], out: Path, seeds: list[int], backbone: Backbone) -> None:
    """Train and measure every cell of a study; a line of `name`.jsonl for each."""
    for group, seed in product(groups, seeds):
        for way, size in group:
            cell = {"way": way, "nodes": size, "seed": seed}
            if not done(out / f"{name}.jsonl", cell):
                folder = out / "runs" / f"{name}_{way}_{size}_s{seed}"
                network, metrics = trained(run(name, way, size, seed), folder, backbone)
                append_json_line(out / f"{name}.jsonl", cell | measured(folder, network, metrics, backbone))
                shutil.rmtree(folder)


def measured(run: Path, network: Network, metrics: list[dict[str, Any]], backbone: Backbone) -> dict[str, Any]:
    """What a run has reached and what it cost: test accuracy of its best and its last state, curves, stages."""
    steps = metrics[1:]
    line: dict[str, Any] = {"n": TEST, "trainable_parameters": network.trainable_parameters}
    line |= {name: sum(m[name] for m in steps) for name in ("rollouts", "calls", "generated_tokens", "prompt_tokens")}
    line["stages"] = [sum(m.get("stage", 0) == s for m in steps) for s in range(1 + steps[-1].get("stage", 0))]
    line["reward"] = [round(m["reward"], 4) for m in steps]
    line["validation"] = [(m["step"], m["validation"]["accuracy"]) for m in metrics if "validation" in m]
    for which in ("best", "last"):
        system, task, _ = load_run(run, which, backbone)
        for greedy in (True, False):
            found = evaluate(system, task, "test", TEST, greedy=greedy, seed=1).result
            line[f"{which}_{'greedy' if greedy else 'sampled'}"] = found["accuracy"]
            line |= {"floors": found["floors"], "parse_rate": found["parse_rate"]}
            line |= {"sequential_calls": found["sequential_calls"], "sequential_tokens": found["sequential_tokens"]}
    return line


# -- how many messages does a reader bear? ---------------------------------------------------------------------------


def readers(out: Path, seeds: list[int], backbone: Backbone) -> None:
    for seed in seeds:
        todo = [t for t in READERS if not done(out / "readers.jsonl", {"target": t, "seed": seed})]
        folder = out / "runs" / f"readers_s{seed}"
        if todo:
            trained(run("paths", "fade", 7, seed), folder, backbone)
        for target in todo:
            parent, task, _ = load_run(folder, "last", backbone)
            assert isinstance(parent, Network)
            growth = between(parent.topology, Topology.parse(target))
            network, read = transplant(parent, growth, "copy", seed), growth.topology.parents
            hidden = max(len(read(node)) for node in growth.topology.nodes[:-1])
            line = {"target": target, "seed": seed, "nodes": len(growth.topology.nodes), "n": 128}
            line |= {"node_reads": hidden, "output_reads": len(read(growth.topology.output))}
            for greedy in (True, False):
                found = evaluate(network, task, "validation", 128, greedy=greedy, seed=1).result
                line["greedy" if greedy else "sampled"] = found["accuracy"]
            append_json_line(out / "readers.jsonl", line)
        shutil.rmtree(folder, ignore_errors=True)


# -- all ----------------------------------------------------------------------------------------------------------


def done(file: Path, cell: dict[str, Any]) -> bool:
    return any(all(line[k] == v for k, v in cell.items()) for line in read_json_lines(file))


def trained(data: dict[str, Any], run: Path, backbone: Backbone) -> tuple[Network, list[dict[str, Any]]]:
    network, _ = train(RunConfig.make(data), run, resume=run.exists(), backbone=backbone)
    assert isinstance(network, Network)
    return network, read_json_lines(run / "metrics.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("studies", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    names = ("keep", "tune", "sizes", "paths", "readers")
    if unknown := set(args.studies) - set(names):
        parser.error(f"there is no study {', '.join(sorted(unknown))}; choose of {', '.join(names)}")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    backbone = Backbone.load("tiny", device="cpu", dtype="float32")
    for name in args.studies or names:
        if name == "keep":
            keep(args.out, args.seeds, backbone)
        elif name == "tune":
            tune(args.out, backbone)
        elif name == "readers":
            readers(args.out, args.seeds, backbone)
        else:
            compare(name, SIZES if name == "sizes" else CELLS, args.out, args.seeds, backbone)


if __name__ == "__main__":
    main()
