"""The findings of `neuromas inspect` as tables and text, and in Markdown with drawings. Made of the record alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuromas.analysis.study import specialised
from neuromas.analysis.summary import all_blanked, in_short
from neuromas.evaluate.render import Block, Heading, Picture, Table, Text, to_markdown
from neuromas.evaluate.report import difference, interval, points
from neuromas.evaluate.table import floors_line
from neuromas.files import write_text
from neuromas.network.drawing import save
from neuromas.network.topology import Topology

HOW = (
    "Accuracy is the mean reward, with Wilson's 95 % interval; every row asks the same questions with the same random "
    "numbers. Differences, costs and Shapley values are means over questions in percentage points, with a bootstrap "
    "interval over them; p is McNemar's exact one, corrected by Holm's method over all rows of the table. One training "
    "run is looked into: nothing here tells how another would have come out."
)
KINDS = (
    "silenced: the nodes (or the edge) do not exist, and the others are told so; where a whole layer is gone, its "
    "readers read the layer before it. blanked: they speak, and empty messages arrive. shuffled: the messages of the "
    "undisturbed pass are dealt out anew among the questions, each sender's on its own. another's: messages come from "
    "one other question that has another answer; follows is the share of answers that are right for that question. "
    "swapped: two nodes use each other's adapters."
)
VERDICTS = (
    "needed: silencing it costs accuracy. replaceable: silencing it costs nothing that can be told from 0, but its "
    "Shapley value is above 0; its partners stand in for it. idle: neither can be told from 0. harmful: silencing it "
    "helps."
)
SPECIALISED = (
    "Bits: mutual information between the writer of a message and who a naive Bayes classifier, fitted to other "
    "questions, takes for its writer; a lower bound of what the words tell about the writer. Random: the same with the "
    "writers of each question dealt out anew, mean and 95th percentile. Siblings are apart (yes) when the interval's "
    "lower end is above both the 95th percentile of random labels and the upper end of the untrained network's "
    "interval. Same text: share of pairs of siblings that write the same; in brackets the untrained network's."
)


def write_report(record: dict[str, Any], folder: Path) -> Path:
    """Write `report.md` and a drawing for each decoding; returns the report's path."""
    for decoding in record["decodings"]:
        draw(record, decoding, folder / f"network_{decoding}.png")
    write_text(folder / "report.md", to_markdown(content(record, folder)))
    return folder / "report.md"


def content(record: dict[str, Any], folder: Path | None = None, *, brief: bool = False) -> list[Block]:
    """All blocks; with drawings where they lie in `folder`. brief: as much as a terminal bears."""
    blocks: list[Block] = [Heading(f"What the nodes of {record['system']} say, and what it is worth", 1)]
    floors = floors_line(record)
    blocks += [Text(_about(record)), *summary(record), Text(f"{floors[0].upper()}{floors[1:]}.")]
    blocks += [Heading("In short"), *map(Text, in_short(record))]
    for decoding, found in record["decodings"].items():
        blocks += [Heading(f"{decoding.capitalize()} decoding")]
        if folder is not None:
            about = f"Accuracy lost when a node or edge is silenced, {decoding}; wide edges and dark nodes cost most"
            blocks += [Picture(folder / f"network_{decoding}.png", about)]
        blocks += [Heading("What each node is worth", 3), values(found), Text(_coalitions(found["values"]))]
        blocks += [Heading("Did siblings specialise?", 3), *apart(found)]
        blocks += [Heading("Interventions", 3), *disturbed(found, brief)]
        blocks += [Heading("Messages", 3), written(found), *_parts(found), *_examples(found)]
    return [*blocks, Heading("How to read it"), *map(Text, (HOW, KINDS, VERDICTS, SPECIALISED))]


def _about(record: dict[str, Any]) -> str:
    return (
        f"Backbone {record['backbone']}, {record['trainable_parameters']:,} trainable parameters; {record['task']} "
        f"(version {record['task_version']}), {record['split']} split, n = {record['n']}, seed {record['seed']}, one "
        "training run."
    )


def summary(record: dict[str, Any]) -> list[Block]:
    """Undisturbed, without any message, and untrained, for each decoding."""
    rows: list[list[str]] = []
    for decoding, found in record["decodings"].items():
        plain = found["undisturbed"]
        cost = [f"{plain['parse_rate']:.1%}", f"{plain['calls']:g}", f"{plain['generated_tokens']:.1f}"]
        rows.append([f"{decoding}, as sent", *_accuracy(plain), *cost])
        silent = all_blanked(found, len(record["topology"]["nodes"]))
        rows.append([f"{decoding}, every message blanked", *_accuracy(silent), "", "", ""])
        rows.append([f"{decoding}, untrained", *_accuracy(found["untrained"]), "", "", ""])
    return [Table(["", "accuracy", "95 %", "parsed", "calls", "tokens"], rows)]


def _accuracy(row: dict[str, Any]) -> list[str]:
    return [f"{row['accuracy']:.1%}", interval(row["ci95"])]


def values(found: dict[str, Any]) -> Table:
    of = found["values"]
    rows = [
        [
            node,
            points(v["cost"]),
            difference(v["cost_ci95"]),
            points(v["shapley"]),
            difference(v["shapley_ci95"]),
            v["verdict"],
            ", ".join(v.get("partners", [])),
        ]
        for node, v in of["nodes"].items()
    ]
    head = ["node", f"cost if {of['absent']}", "95 %", "Shapley", "95 %", "verdict", "partners"]
    return Table(head, rows, words=frozenset({0, 5, 6}))


def _coalitions(of: dict[str, Any]) -> str:
    how = (
        "exact, over all coalitions" if of["orders"] is None else f"from {of['orders']} random orders for each question"
    )
    return f"Shapley values are {how}. Without any hidden node the accuracy is {of['nobody']:.1%}."


def apart(found: dict[str, Any]) -> list[Block]:
    """Distinctness layer by layer, beside the two null distributions; then what siblings write."""
    if not found["distinctness"]:
        return [Text("No layer has siblings.")]
    rows: list[list[str]] = []
    said: list[list[str]] = []
    for mine, before in zip(found["distinctness"], found["untrained"]["distinctness"], strict=True):
        layer, telling = str(mine["layer"]), zip(mine["nodes"], mine["marks"], strict=True)
        bits = [f"{_bit(mine['bits'])} of {mine['most']:.2f}", _bits(mine)]
        labels = [f"{mine['null_mean']:.2f}; {mine['null_95']:.2f}", f"{mine['p']:.3f}"]
        rows.append([layer, specialised(mine, before), *bits, *labels, _bit(before["bits"]), _bits(before)])
        marks = "; ".join(f"{node}: {' '.join(marks)}" for node, marks in telling if marks)
        said.append([layer, f"{mine['same']:.0%} ({before['same']:.0%})", marks])
    head = ["layer", "apart", "bits", "95 %", "random", "p", "untrained", "95 %"]
    return [
        Table(head, rows, words=frozenset({0, 1})),
        Text("What they write, and how often two of them the same (before training):"),
        Table(["layer", "same text", "telling tokens"], said, words=frozenset({0, 2})),
    ]


def _bits(of: dict[str, Any]) -> str:
    low, high = of["ci95"]
    return f"{_bit(low)} to {_bit(high)}"


def _bit(x: float) -> str:
    return f"{round(x, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: no minus before nought


def disturbed(found: dict[str, Any], brief: bool = False) -> list[Block]:
    """Every intervention; brief: those of nodes and layers, without intervals of the accuracies."""
    shown = [r for r in found["interventions"] if not brief or r["scope"] in ("node", "layer", "all")]
    rows = [
        [
            f"node {r['target']}" if r["scope"] == "node" else r["target"],
            r["kind"],
            *_accuracy(r)[: 1 if brief else 2],
            points(r["difference"]),
            difference(r["difference_ci95"]),
            "< 0.001" if r["p_holm"] < 0.001 else f"{r['p_holm']:.3f}",
            f"{r['follows']:.0%}" if "follows" in r else "",
        ]
        for r in shown
    ]
    head = ["which", "done", "accuracy", *([] if brief else ["95 %"]), "difference", "95 %", "p, Holm", "follows"]
    table = Table(head, rows, words=frozenset({0, 1}))
    rest = len(found["interventions"]) - len(shown)
    return [table, Text(f"{rest} more, of edges and of swapped adapters, are in the report.")] if rest else [table]


def written(found: dict[str, Any]) -> Table:
    rows = [
        [
            node,
            f"{m['length']:.1f}",
            f"{m['truncated']:.0%}",
            f"{m['empty']:.0%}",
            f"{m['dropped']:.1f}",
            f"{m['distinct']:.0%}",
            f"{m['text_entropy']:.1f}",
            f"{m['entropy']:.3f}",
        ]
        for node, m in found["messages"].items()
    ]
    head = ["node", "tokens", "cut off", "empty", "dropped tokens", "distinct texts", "bits a text", "nats a token"]
    return Table(head, rows)


def _parts(found: dict[str, Any]) -> list[Block]:
    """Which parts nodes report, for tasks with named parts."""
    if found["parts"] is None:
        return []
    names = sorted({p for of in (found, found["untrained"]) for n in of["parts"].values() for p in n["parts"]})
    rows = [
        [node, who, *(_part(said["parts"].get(name)) for name in names), f"{said['none']:.0%}"]
        for who, of in (("trained", found), ("untrained", found["untrained"]))
        for node, said in of["parts"].items()
    ]
    about = Text(
        "Share of a node's messages that report each named part of the question; in brackets how many are right."
    )
    return [
        Heading("Which part each node reports", 3),
        about,
        Table(["node", "", *names, "none"], rows, frozenset({0, 1})),
    ]


def _part(said: dict[str, Any] | None) -> str:
    return "" if said is None else f"{said['share']:.0%} ({said['right']:.0%})"


def _examples(found: dict[str, Any]) -> list[Block]:
    rows = [
        ["right" if e["reward"] == 1 else "wrong", e["question"], e["answer"], _messages(e["messages"])]
        for e in found["examples"]
    ]
    return [Heading("Examples", 3), Table(["", "question", "answer", "messages"], rows, words=frozenset(range(4)))]


def _messages(said: Sequence[dict[str, Any]], most: int = 120) -> str:
    cut = lambda text: text if len(text) <= most else text[: most - 1] + "…"
    return " · ".join(f"{m['node']}: {cut(m['text'])}" for m in said)


def draw(record: dict[str, Any], decoding: str, path: Path) -> Path:
    """The network: nodes by what silencing them costs (points), edges as wide as what silencing them costs."""
    found = record["decodings"][decoding]
    topology = Topology.from_dict(record["topology"])
    nodes = found["values"]["nodes"]
    labels = {n: points(-v["cost"]) for n, v in nodes.items()}
    labels[topology.output] = f"{found['undisturbed']['accuracy']:.1%}"
    widths = {edge: 0.6 + 6 * max(0.0, cost) for edge, cost in edge_costs(found, topology).items()}
    title = f"change of accuracy when silenced, points ({decoding})"
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(
        topology, path, labels=labels, values={n: v["cost"] for n, v in nodes.items()}, edge_widths=widths, title=title
    )


def edge_costs(found: dict[str, Any], topology: Topology) -> dict[tuple[str, str], float]:
    """What silencing each edge costs, or its only sender; what blanking it costs where it cannot be left out."""
    cost: dict[tuple[str, str], float] = {}
    for kind in ("blanked", "silenced"):
        rows = {r["target"]: -r["difference"] for r in found["interventions"] if r["kind"] == kind}
        for sender, reader in topology.edges:
            name = sender if len(topology.children(sender)) == 1 else f"{sender} → {reader}"
            if name in rows:
                cost[sender, reader] = rows[name]
    return cost
