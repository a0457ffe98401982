"""Measures whether networks trained with node dropout survive a silent node: on `tiny`, 4 hidden nodes for 2 roles.

usage: python -m studies.dropout.study OUT [--seeds 0 1 ...]

A study that is started again goes on where it stopped.

Trains topology 4 with recipes/tiny_compositional_2.toml for each probability of dropout and seed, and measures the last
state on the test split: undisturbed, and with each hidden node silenced (it does not exist, and the others are told
so), the same answers for every row. A line of OUT/dropout.jsonl for each run, then OUT/report.md.
"""

import shutil
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.evaluate.render import Heading, Table, Text, to_markdown
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines, write_text
from neuromas.network.backbone import Backbone
from studies.shared import arguments, is_done, percents, start, train_network

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny_compositional_2.toml"
CHANCES = (0.0, 0.1, 0.3)
N = 512


def measure(out: Path, dropout: float, seed: int, backbone: Backbone) -> dict[str, Any]:
    """Train one network and measure it undisturbed and with each hidden node silenced; a line of dropout.jsonl."""
    config = RunConfig.load(RECIPE, topology="4", seed=seed, **{"train.node_dropout": dropout})
    folder = out / f"run_{dropout:g}_s{seed}"
    network, task = train_network(config, folder, backbone)
    line: dict[str, Any] = {"dropout": dropout, "seed": seed, "n": N, "trainable": network.trainable_parameters}
    for decoding in ("greedy", "sampled"):
        without = lambda *absent, greedy=decoding == "greedy": evaluate(
            network, task, "test", N, greedy=greedy, seed=1, absent=absent
        ).result.to_dict()
        whole, hidden = without(), network.topology.nodes[:-1]
        line[decoding] = {"whole": whole["accuracy"]} | {node: without(node)["accuracy"] for node in hidden}
        line |= {key: whole[key] for key in ("floors", "parse_rate", "calls", "generated_tokens")}
    shutil.rmtree(folder)
    return line


def report(lines: list[dict[str, Any]]) -> str:
    """The report as Markdown."""
    rows: list[list[str]] = []
    for decoding in ("greedy", "sampled"):
        for dropout in CHANCES:
            runs = [line[decoding] for line in sorted(lines, key=lambda r: r["seed"]) if line["dropout"] == dropout]
            if runs:
                silenced = [[accuracy for node, accuracy in run.items() if node != "whole"] for run in runs]
                row = [decoding, f"{dropout:g}", str(len(runs)), percents([run["whole"] for run in runs])]
                rows.append([*row, percents([sum(s) / len(s) for s in silenced]), percents(list(map(min, silenced)))])
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
    parser = arguments(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    backbone = start(args.out)
    file = args.out / "dropout.jsonl"
    for seed in args.seeds:
        for dropout in CHANCES:
            if not is_done(file, {"dropout": dropout, "seed": seed}):
                append_json_line(file, measure(args.out, dropout, seed, backbone))
    write_text(args.out / "report.md", report(read_json_lines(file)))
    print(args.out / "report.md")


if __name__ == "__main__":
    main()
