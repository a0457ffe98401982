"""Do networks that were trained with node dropout survive a silent node? On `tiny`, 4 hidden nodes for 2 roles.

usage: python tools/dropout_study.py OUT [--seeds 0 1 ...]    started again, it goes on

Trains topology 4 with recipes/tiny_compositional_2.toml for each probability of dropout and seed, and measures the last
state on the test split: undisturbed, and with each hidden node silenced (it does not exist, and the others are told
so), the same answers for every row. A line of OUT/dropout.jsonl for each run, then OUT/report.md.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch

from growth_report import each
from neuromas.config import RunConfig
from neuromas.evaluate.render import Heading, Table, Text, to_markdown
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines, write_text
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.run.loop import train

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny_compositional_2.toml"
CHANCES = (0.0, 0.1, 0.3)
N = 512


def measure(out: Path, dropout: float, seed: int, backbone: Backbone) -> dict[str, Any]:
    config = RunConfig.load(RECIPE, topology="4", seed=seed, **{"train.node_dropout": dropout})
    folder = out / f"run_{dropout:g}_s{seed}"
    network, task = train(config, folder, resume=folder.exists(), backbone=backbone)
    assert isinstance(network, Network)
    line: dict[str, Any] = {"dropout": dropout, "seed": seed, "n": N, "trainable": network.trainable_parameters}
    for how, greedy in (("greedy", True), ("sampled", False)):
        ask = lambda absent, greedy=greedy: (
            evaluate(network, task, "test", N, greedy=greedy, seed=1, absent=absent).result
        )
        whole = ask(())
        line[how] = {"whole": whole["accuracy"]} | {n: ask((n,))["accuracy"] for n in network.topology.nodes[:-1]}
        line |= {key: whole[key] for key in ("floors", "parse_rate", "calls", "generated_tokens")}
    shutil.rmtree(folder)
    return line


def report(lines: list[dict[str, Any]]) -> str:
    rows: list[list[str]] = []
    for how in ("greedy", "sampled"):
        for dropout in CHANCES:
            mine = [line[how] for line in sorted(lines, key=lambda r: r["seed"]) if line["dropout"] == dropout]
            if mine:
                silenced = [[v for k, v in run.items() if k != "whole"] for run in mine]
                figures = [each([run["whole"] for run in mine]), each([sum(s) / len(s) for s in silenced])]
                rows.append([how, f"{dropout:g}", str(len(mine)), *figures, each([min(s) for s in silenced])])
    floors, first = lines[0]["floors"], lines[0]
    head = ["decoding", "node_dropout", "seeds", "whole %", "one node silenced, mean %", "the worst node silenced %"]
    about = (
        f"recipes/tiny_compositional_2.toml with topology 4: four hidden nodes for two roles, {first['trainable']:,} "
        f"trainable parameters. n = {first['n']} test questions, floors: chance {floors['chance']:.1%}, best constant "
        f"{floors['best_constant']:.1%}; parse rate at least {min(line['parse_rate'] for line in lines):.1%}; "
        f"{first['calls']:g} calls an answer. Mean over seeds, in brackets each seed."
    )
    title = Heading("Do networks trained with node dropout survive a silent node?", 1)
    return to_markdown([title, Text(about), Table(head, rows, words=frozenset({0}))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    backbone = Backbone.load("tiny", device="cpu", dtype="float32")
    file = args.out / "dropout.jsonl"
    for seed in args.seeds:
        for dropout in CHANCES:
            if not any((r["dropout"], r["seed"]) == (dropout, seed) for r in read_json_lines(file)):
                append_json_line(file, measure(args.out, dropout, seed, backbone))
    write_text(args.out / "report.md", report(read_json_lines(file)))
    print(args.out / "report.md")


if __name__ == "__main__":
    main()
