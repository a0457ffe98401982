"""The findings of `neuromas inspect` in short, as tables, and in Markdown with drawings; made of the record alone."""

from collections.abc import Sequence
from pathlib import Path

from neuromas.analysis.findings import DecodingFindings, Distinctness, Findings, NodeValues, PartShare
from neuromas.evaluate.render import Block, Heading, Picture, Table, Text, to_markdown
from neuromas.evaluate.report import cut, difference, interval, points
from neuromas.files import write_text
from neuromas.network.drawing import save
from neuromas.network.topology import Topology
from neuromas.results import Interval, MessageRecord, floors_line

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


def write_report(findings: Findings, folder: Path) -> Path:
    """Write `report.md` and a drawing for each decoding; returns the report's path."""
    for decoding in findings.decodings:
        draw(findings, decoding, folder / f"network_{decoding}.png")
    write_text(folder / "report.md", to_markdown(content(findings, folder)))
    return folder / "report.md"


def content(findings: Findings, folder: Path | None = None, *, brief: bool = False) -> list[Block]:
    """All blocks of the report, with the drawings that lie in `folder`. brief: only what fits a terminal."""
    floors = floors_line(findings)
    blocks: list[Block] = [Heading(f"What the nodes of {findings.system} say, and what it is worth", 1)]
    blocks += [Text(_about(findings)), _accuracies(findings), Text(f"{floors[0].upper()}{floors[1:]}.")]
    blocks += [Heading("In short"), *map(Text, summarise_findings(findings))]
    for decoding, found in findings.decodings.items():
        blocks += [Heading(f"{decoding.capitalize()} decoding")]
        if folder is not None:
            about = f"Accuracy lost when a node or edge is silenced, {decoding}; wide edges and dark nodes cost most"
            blocks += [Picture(folder / f"network_{decoding}.png", about)]
        blocks += [Heading("What each node is worth", 3), *_values(found.values)]
        blocks += [Heading("Did siblings specialise?", 3), *_distinctness(found)]
        blocks += [Heading("Interventions", 3), *_interventions(found, brief)]
        blocks += [Heading("Messages", 3), _statistics(found), *_parts(found), *_examples(found)]
    return [*blocks, Heading("How to read it"), *map(Text, (HOW, KINDS, VERDICTS, SPECIALISED))]


def _about(findings: Findings) -> str:
    return (
        f"Backbone {findings.backbone}, {findings.trainable_parameters:,} trainable parameters; {findings.task} "
        f"(version {findings.task_version}), {findings.split} split, n = {findings.n}, seed {findings.seed}, one "
        "training run."
    )


def _accuracies(findings: Findings) -> Table:
    """The network undisturbed, without any message, and untrained, for each decoding."""
    rows: list[list[str]] = []
    for decoding, found in findings.decodings.items():
        plain, silent, before = found.undisturbed, found.all_blanked(), found.untrained
        cost = [f"{plain.parse_rate:.1%}", f"{plain.calls:g}", f"{plain.generated_tokens:.1f}"]
        rows.append([f"{decoding}, as sent", *_accuracy(plain.accuracy, plain.ci95), *cost])
        rows.append([f"{decoding}, every message blanked", *_accuracy(silent.accuracy, silent.ci95), "", "", ""])
        rows.append([f"{decoding}, untrained", *_accuracy(before.accuracy, before.ci95), "", "", ""])
    return Table(["", "accuracy", "95 %", "parsed", "calls", "tokens"], rows)


def _accuracy(accuracy: float, ci95: Interval) -> list[str]:
    return [f"{accuracy:.1%}", interval(ci95)]


def _values(values: NodeValues) -> list[Block]:
    """The worth of each hidden node, and how the Shapley values were found."""
    rows: list[list[str]] = []
    for node, value in values.nodes.items():
        cost = [points(value.cost), difference(value.cost_ci95)]
        shapley = [points(value.shapley), difference(value.shapley_ci95)]
        rows.append([node, *cost, *shapley, value.verdict, ", ".join(value.partners or [])])
    head = ["node", f"cost if {values.absent}", "95 %", "Shapley", "95 %", "verdict", "partners"]
    how = "exact, over all coalitions"
    if values.orders is not None:
        how = f"from {values.orders} random orders for each question"
    text = f"Shapley values are {how}. Without any hidden node the accuracy is {values.nobody:.1%}."
    return [Table(head, rows, words=frozenset({0, 5, 6})), Text(text)]


def _distinctness(found: DecodingFindings) -> list[Block]:
    """Distinctness layer by layer, with the two null distributions; then what siblings write."""
    if not found.distinctness:
        return [Text("No layer has siblings.")]
    rows: list[list[str]] = []
    texts: list[list[str]] = []
    for layer, before in zip(found.distinctness, found.untrained.distinctness, strict=True):
        number, bits = str(layer.layer), [f"{_bits(layer.bits)} of {layer.most:.2f}", _interval_of_bits(layer)]
        random = [f"{layer.null_mean:.2f}; {layer.null_95:.2f}", f"{layer.p:.3f}"]
        untrained = [_bits(before.bits), _interval_of_bits(before)]
        rows.append([number, layer.specialised(before), *bits, *random, *untrained])
        marked = zip(layer.nodes, layer.marks, strict=True)
        tokens = "; ".join(f"{node}: {' '.join(marks)}" for node, marks in marked if marks)
        texts.append([number, f"{layer.same:.0%} ({before.same:.0%})", tokens])
    head = ["layer", "apart", "bits", "95 %", "random", "p", "untrained", "95 %"]
    return [
        Table(head, rows, words=frozenset({0, 1})),
        Text("What they write, and how often two of them the same (before training):"),
        Table(["layer", "same text", "telling tokens"], texts, words=frozenset({0, 2})),
    ]


def _interval_of_bits(layer: Distinctness) -> str:
    return " to ".join(map(_bits, layer.ci95))


def _bits(bits: float) -> str:
    return f"{round(bits, 2) + 0.0:.2f}".replace("-", "−")  # Adding 0.0 turns −0.0 into 0.0.


def _interventions(found: DecodingFindings, brief: bool) -> list[Block]:
    """Every intervention; brief: those on nodes and layers, without intervals of the accuracies."""
    shown = [row for row in found.interventions if not brief or row.scope in ("node", "layer", "all")]
    rows: list[list[str]] = []
    for row in shown:
        target = f"node {row.target}" if row.scope == "node" else row.target
        accuracy = _accuracy(row.accuracy, row.ci95)[: 1 if brief else 2]
        change = [points(row.difference), difference(row.difference_ci95)]
        p = "< 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
        rows.append([target, row.kind, *accuracy, *change, p, "" if row.follows is None else f"{row.follows:.0%}"])
    head = ["which", "done", "accuracy", *([] if brief else ["95 %"]), "difference", "95 %", "p, Holm", "follows"]
    blocks: list[Block] = [Table(head, rows, words=frozenset({0, 1}))]
    rest = len(found.interventions) - len(shown)
    if rest:
        blocks.append(Text(f"{rest} more, of edges and of swapped adapters, are in the report."))
    return blocks


def _statistics(found: DecodingFindings) -> Table:
    rows: list[list[str]] = []
    for node, of in found.messages.items():
        lengths = [f"{of.length:.1f}", f"{of.truncated:.0%}", f"{of.empty:.0%}", f"{of.dropped:.1f}"]
        rows.append([node, *lengths, f"{of.distinct:.0%}", f"{of.text_entropy:.1f}", f"{of.entropy:.3f}"])
    head = ["node", "tokens", "cut off", "empty", "dropped tokens", "distinct texts", "bits a text", "nats a token"]
    return Table(head, rows)


def _parts(found: DecodingFindings) -> list[Block]:
    """The parts that nodes report, for tasks with named parts."""
    if found.parts is None or found.untrained.parts is None:
        return []
    tables = {"trained": found.parts, "untrained": found.untrained.parts}
    names = sorted({name for table in tables.values() for node in table.values() for name in node.parts})
    rows = [
        [node, state, *(_part(reported.parts.get(name)) for name in names), f"{reported.none:.0%}"]
        for state, table in tables.items()
        for node, reported in table.items()
    ]
    about = "Share of a node's messages that report each named part of the question; in brackets how many are right."
    table = Table(["node", "", *names, "none"], rows, frozenset({0, 1}))
    return [Heading("Which part each node reports", 3), Text(about), table]


def _part(part: PartShare | None) -> str:
    return "" if part is None else f"{part.share:.0%} ({part.right:.0%})"


def _examples(found: DecodingFindings) -> list[Block]:
    rows = [
        ["right" if example.reward == 1 else "wrong", example.question, example.answer, _messages(example.messages)]
        for example in found.examples
    ]
    return [Heading("Examples", 3), Table(["", "question", "answer", "messages"], rows, words=frozenset(range(4)))]


def _messages(messages: Sequence[MessageRecord]) -> str:
    return " · ".join(f"{message.node}: {cut(message.text, 120)}" for message in messages)


def draw(findings: Findings, decoding: str, path: Path) -> Path:
    """Draw the network: nodes are as dark, and edges as wide, as silencing them costs accuracy. Returns the path."""
    found = findings.decodings[decoding]
    topology = Topology.from_dict(findings.topology)
    costs = {node: value.cost for node, value in found.values.nodes.items()}
    labels = {node: points(-cost) for node, cost in costs.items()}
    labels[topology.output] = f"{found.undisturbed.accuracy:.1%}"
    widths = {edge: 0.6 + 6 * max(0.0, cost) for edge, cost in edge_costs(found, topology).items()}
    title = f"change of accuracy when silenced, points ({decoding})"
    return save(topology, path, labels=labels, values=costs, edge_widths=widths, title=title)


def edge_costs(found: DecodingFindings, topology: Topology) -> dict[tuple[str, str], float]:
    """The cost of silencing each edge, or its only sender; the cost of blanking it where it cannot be left out."""
    costs: dict[tuple[str, str], float] = {}
    for kind in ("blanked", "silenced"):
        by_target = {row.target: -row.difference for row in found.interventions if row.kind == kind}
        for sender, reader in topology.edges:
            target = sender if len(topology.children(sender)) == 1 else f"{sender} → {reader}"
            if target in by_target:
                costs[sender, reader] = by_target[target]
    return costs


# -- in short: do messages matter, who is needed, did siblings specialise --


def summarise_findings(findings: Findings) -> list[str]:
    """Short paragraphs; the first of each decoding names it."""
    paragraphs: list[str] = []
    for decoding, found in findings.decodings.items():
        paragraphs.append(f"{decoding.capitalize()}. {_worth_of_messages(found)} {_verdicts(found)}")
        paragraphs += [*_specialisation(found), *_commonest_parts(found)]
    return paragraphs


def _worth_of_messages(found: DecodingFindings) -> str:
    """The cost of blanking all messages and, where there are several layers, those of each layer."""
    blanked = found.all_blanked()
    low, high = blanked.difference_ci95
    if high < 0:
        claim = "The answer rests on messages"
    elif low > 0:
        claim = "Messages mislead"
    else:
        claim = "Messages make no difference that can be told from none"
    change = f"{points(blanked.difference)} ({difference(blanked.difference_ci95)})"
    text = f"{claim}: with all of them blanked accuracy changes by {change}."
    layers = [row for row in found.interventions if row.kind == "blanked" and row.scope == "layer"]
    if len(layers) > 1:
        alone = [f"{row.target} {points(row.difference)} ({difference(row.difference_ci95)})" for row in layers]
        text += f" One layer blanked: {'; '.join(alone)}."
    return text


def _verdicts(found: DecodingFindings) -> str:
    """The nodes by their verdicts."""
    sentences: list[str] = []
    for verdict in ("needed", "replaceable", "idle", "harmful"):
        nodes = [
            f"{node} (by {', '.join(value.partners)})" if value.partners else node
            for node, value in found.values.nodes.items()
            if value.verdict == verdict
        ]
        if nodes:
            sentences.append(f"{verdict.capitalize()}: {', '.join(nodes)}.")
    return " ".join(sentences)


def _specialisation(found: DecodingFindings) -> list[str]:
    """The distinctness of each layer, with random labels and before training."""
    return [
        f"Did the nodes of layer {layer.layer} specialise? {layer.specialised(before).capitalize()}: what they write "
        f"tells the writer with {_positive(layer.bits)} of {layer.most:.2f} bits; with random labels it would be "
        f"{_positive(layer.null_95)} at most (95th percentile), and before training it was {_positive(before.bits)}."
        for layer, before in zip(found.distinctness, found.untrained.distinctness, strict=True)
    ]


def _positive(bits: float) -> str:
    return f"{max(0.0, bits):.2f}"  # The correction for bias may take it below 0.


def _commonest_parts(found: DecodingFindings) -> list[str]:
    """The part that each node reports most often, for tasks with named parts."""
    reports: list[str] = []
    for node, reported in (found.parts or {}).items():
        if reported.parts:
            name, part = max(reported.parts.items(), key=lambda item: item[1].share)
            reports.append(f"{node} reports {name} in {part.share:.0%} of its messages ({part.right:.0%} right)")
    return [f"Commonest parts: {'; '.join(reports)}."] if reports else []
