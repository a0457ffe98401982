"""Measures whether growth keeps what was learned and reaches what training from scratch does not, on `tiny`.

usage: python -m studies.growth.study DIR [keep] [tune] [sizes] [paths] [readers] [--seeds 0 1 ...]

All five parts run by default; a study that is started again goes on where it stopped.

- keep: does a trained network of three nodes keep its accuracy when it grows by a layer or by a node? New nodes begin
  in each way; validation accuracy before, on the way and at the end, with recipes/tiny_compositional_growth.toml.
- tune: would other settings do for seven nodes, above all from scratch? Rates, rollouts a step, twice the samples; one
  seed that no other part has; validation alone.
- sizes: networks of 3 to 15 nodes on expressions of 4 leaves, from scratch and grown by way of the smaller sizes, all
  with the same number of samples, with studies/growth/sizes.toml.
- paths: networks of 1 to 31 nodes on expressions of 8 leaves, all with the same number of samples, with
  recipes/tiny_compositional_paths.toml. The ways of training (`scratch`, `fade`, ...) are in studies/growth/ways.py.
- readers: how many more messages does a trained reader bear? A grown network of 7 nodes (`fade` of `paths`) grows by
  copies and is measured on validation without further training.

Each run is a line of DIR/PART.jsonl. Cells are done in order of what they tell, so that a study cut short is of use.
"""

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.growth import between
from neuromas.network.topology import Topology
from neuromas.run.build import load_run
from neuromas.train.transplant import transplant
from studies.growth.ways import INITS, LONGER, TARGETS, recipe, run_settings
from studies.shared import arguments, is_done, start, train_network

TEST = 256  # test questions for each of best and last, greedy and sampled

# (way, nodes) in groups by what they tell, each done for all seeds before the next; up to 3 nodes nothing grows.
CELLS = [
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
MORE = {"rollouts": 32, "steps": 80}  # the same number of samples in fewer steps, with more rollouts a question
TUNE = [  # (way, settings of [train] that differ from the recipe) for 7 nodes
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


def keep(out: Path, seeds: list[int], backbone: Backbone) -> None:
    """Grow a trained network of three nodes in each way and follow its validation accuracy."""
    for init, target, seed in product(INITS, TARGETS, seeds):
        cell = {"target": target, "init": init, "seed": seed}
        if not is_done(out / "keep.jsonl", cell):
            settings: dict[str, Any] = recipe("keep") | {"seed": seed}
            settings["stages"][1] |= {"topology": target, "init": init}
            _, metrics = train_settings(settings, out / "runs" / f"keep_{target}_{init}_s{seed}", backbone)
            line = cell | {"grown_after": max(m["step"] for m in metrics if m.get("stage", 0) == 0)}
            line |= {"n": metrics[0]["validation"]["n"], "validation": validations(metrics)}
            append_json_line(out / "keep.jsonl", line | {"reward": [(m["step"], m["reward"]) for m in metrics[1:]]})
            print(line, flush=True)


def tune(out: Path, backbone: Backbone) -> None:
    """Train seven nodes with other settings of [train], one seed each, and follow their validation accuracy."""
    for way, changed in TUNE:
        cell = {"way": way, "changed": changed}
        if not is_done(out / "tune.jsonl", cell):
            folder = out / "runs" / "_".join(["tune", way, *(f"{k}_{v}" for k, v in changed.items())])
            _, metrics = train_settings(run_settings("paths", way, 7, TUNE_SEED, changed), folder, backbone)
            line = cell | {"seed": TUNE_SEED, "n": metrics[0]["validation"]["n"], "validation": validations(metrics)}
            line |= {k: sum(m[k] for m in metrics[1:]) for k in ("rollouts", "generated_tokens")}
            append_json_line(out / "tune.jsonl", line | {"reward": [round(m["reward"], 4) for m in metrics[1:]]})
            shutil.rmtree(folder)
            print(line, flush=True)


def compare(name: str, groups: list[list[tuple[str, int]]], out: Path, seeds: list[int], backbone: Backbone) -> None:
    """Train and measure every cell of `paths` or `sizes`, from scratch and grown."""
    for group, seed in product(groups, seeds):
        for way, size in group:
            cell = {"way": way, "nodes": size, "seed": seed}
            if not is_done(out / f"{name}.jsonl", cell):
                folder = out / "runs" / f"{name}_{way}_{size}_s{seed}"
                network, metrics = train_settings(run_settings(name, way, size, seed), folder, backbone)
                append_json_line(out / f"{name}.jsonl", cell | measure(folder, network, metrics, backbone))
                shutil.rmtree(folder)


def measure(folder: Path, network: Network, metrics: list[dict[str, Any]], backbone: Backbone) -> dict[str, Any]:
    """Test accuracy of the best and of the last checkpoint, cost, curves, and the steps of each stage."""
    steps = metrics[1:]
    line: dict[str, Any] = {"n": TEST, "trainable_parameters": network.trainable_parameters}
    line |= {name: sum(m[name] for m in steps) for name in ("rollouts", "calls", "generated_tokens", "prompt_tokens")}
    line["stages"] = [sum(m.get("stage", 0) == s for m in steps) for s in range(1 + steps[-1].get("stage", 0))]
    line["reward"] = [round(m["reward"], 4) for m in steps]
    line["validation"] = validations(metrics)
    for checkpoint in ("best", "last"):
        system, task, _ = load_run(folder, checkpoint, backbone)
        for greedy in (True, False):
            result = evaluate(system, task, "test", TEST, greedy=greedy, seed=1).result.to_dict()
            line[f"{checkpoint}_{'greedy' if greedy else 'sampled'}"] = result["accuracy"]
            kept = ("floors", "parse_rate", "sequential_calls", "sequential_tokens")
            line |= {key: result[key] for key in kept}
    return line


def readers(out: Path, seeds: list[int], backbone: Backbone) -> None:
    """Grow a trained network of seven nodes by copies and measure it without further training."""
    for seed in seeds:
        todo = [t for t in READERS if not is_done(out / "readers.jsonl", {"target": t, "seed": seed})]
        folder = out / "runs" / f"readers_s{seed}"
        if todo:
            train_settings(run_settings("paths", "fade", 7, seed), folder, backbone)
        for target in todo:
            parent, task, _ = load_run(folder, "last", backbone)
            assert isinstance(parent, Network)
            growth = between(parent.topology, Topology.parse(target))
            network, parents = transplant(parent, growth, "copy", seed), growth.topology.parents
            hidden = max(len(parents(node)) for node in growth.topology.nodes[:-1])
            line = {"target": target, "seed": seed, "nodes": len(growth.topology.nodes), "n": 128}
            line |= {"node_reads": hidden, "output_reads": len(parents(growth.topology.output))}
            for greedy in (True, False):
                result = evaluate(network, task, "validation", 128, greedy=greedy, seed=1).result.to_dict()
                line["greedy" if greedy else "sampled"] = result["accuracy"]
            append_json_line(out / "readers.jsonl", line)
        shutil.rmtree(folder, ignore_errors=True)


def train_settings(settings: dict[str, Any], folder: Path, backbone: Backbone) -> tuple[Network, list[dict[str, Any]]]:
    """Train a network with the settings of a recipe; returns it and the lines of its metrics.jsonl."""
    network, _ = train_network(RunConfig.make(settings), folder, backbone)
    return network, read_json_lines(folder / "metrics.jsonl")


def validations(metrics: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, greedy validation accuracy) of every validation."""
    return [(m["step"], m["validation"]["accuracy"]) for m in metrics if "validation" in m]


PARTS: dict[str, Callable[[Path, list[int], Backbone], None]] = {
    "keep": keep,
    "tune": lambda out, seeds, backbone: tune(out, backbone),
    "sizes": lambda out, seeds, backbone: compare("sizes", SIZES, out, seeds, backbone),
    "paths": lambda out, seeds, backbone: compare("paths", CELLS, out, seeds, backbone),
    "readers": readers,
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    if unknown := set(args.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    backbone = start(args.out)
    for name in args.parts or PARTS:
        PARTS[name](args.out, args.seeds, backbone)


if __name__ == "__main__":
    main()
