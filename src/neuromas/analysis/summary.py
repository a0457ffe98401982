"""The findings of `neuromas inspect` in a few sentences: do messages matter, who is needed, did siblings specialise."""

from neuromas.analysis.findings import DecodingFindings, Findings
from neuromas.evaluate.report import difference, points


def summarise_findings(findings: Findings) -> list[str]:
    """Short paragraphs; the first of each decoding names it."""
    paragraphs: list[str] = []
    for decoding, found in findings.decodings.items():
        paragraphs.append(f"{decoding.capitalize()}. {_messages(found)} {_verdicts(found)}")
        paragraphs += [*_siblings(found), *_parts(found)]
    return paragraphs


def _messages(found: DecodingFindings) -> str:
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


def _siblings(found: DecodingFindings) -> list[str]:
    """The distinctness of each layer, with random labels and before training."""
    return [
        f"Did the nodes of layer {layer.layer} specialise? {layer.specialised(before).capitalize()}: what they write "
        f"tells the writer with {_bits(layer.bits)} of {layer.most:.2f} bits; with random labels it would be "
        f"{_bits(layer.null_95)} at most (95th percentile), and before training it was {_bits(before.bits)}."
        for layer, before in zip(found.distinctness, found.untrained.distinctness, strict=True)
    ]


def _bits(bits: float) -> str:
    return f"{max(0.0, bits):.2f}"  # The correction for bias may take it below 0.


def _parts(found: DecodingFindings) -> list[str]:
    """The part that each node reports most often, for tasks with named parts."""
    reports: list[str] = []
    for node, reported in (found.parts or {}).items():
        if reported.parts:
            name, part = max(reported.parts.items(), key=lambda item: item[1].share)
            reports.append(f"{node} reports {name} in {part.share:.0%} of its messages ({part.right:.0%} right)")
    return [f"Commonest parts: {'; '.join(reports)}."] if reports else []
