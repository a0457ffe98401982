"""The findings of `neuromas inspect` in a few sentences: do messages matter, who is needed, did siblings specialise."""

from typing import Any

from neuromas.analysis.study import specialised
from neuromas.evaluate.report import difference, points

Found = dict[str, Any]  # of one decoding


def in_short(record: dict[str, Any]) -> list[str]:
    """Short paragraphs; the first of each decoding names it."""
    nodes, told = len(record["topology"]["nodes"]), list[str]()
    for decoding, found in record["decodings"].items():
        told.append(f"{decoding.capitalize()}. {messages(found, nodes)} {verdicts(found)}")
        told += [*siblings(found), *parts(found)]
    return told


def all_blanked(found: Found, nodes: int) -> dict[str, Any]:
    """The row of every message blanked; where a layer or a node is all there is, it goes by that name."""
    rows = [r for r in found["interventions"] if r["kind"] == "blanked" and r["scope"] != "edge"]
    return next(r for r in rows if len(r["units"]) == nodes - 1)


def messages(found: Found, nodes: int) -> str:
    """What blanking costs: all messages, and where there are several layers each of them."""
    blank = all_blanked(found, nodes)
    low, high = blank["difference_ci95"]
    what = "Messages mislead" if low > 0 else "Messages make no difference that can be told from none"
    what = "The answer rests on messages" if high < 0 else what
    change = f"{points(blank['difference'])} ({difference([low, high])})"
    said = f"{what}: with all of them blanked accuracy changes by {change}."
    layers = [r for r in found["interventions"] if r["kind"] == "blanked" and r["scope"] == "layer"]
    if len(layers) > 1:
        alone = "; ".join(
            f"{r['target']} {points(r['difference'])} ({difference(r['difference_ci95'])})" for r in layers
        )
        said += f" One layer blanked: {alone}."
    return said


def verdicts(found: Found) -> str:
    """Nodes by what they are, in the order needed, replaceable, idle, harmful."""
    of: dict[str, list[str]] = {kind: [] for kind in ("needed", "replaceable", "idle", "harmful")}
    for node, value in found["values"]["nodes"].items():
        partners = f" (by {', '.join(value['partners'])})" if value.get("partners") else ""
        of[value["verdict"]].append(node + partners)
    return " ".join(f"{kind.capitalize()}: {', '.join(nodes)}." for kind, nodes in of.items() if nodes)


def siblings(found: Found) -> list[str]:
    """Whether each layer's nodes came to differ, with both null distributions."""
    return [
        f"Did the nodes of layer {mine['layer']} specialise? {specialised(mine, before).capitalize()}: what they write "
        f"tells the writer with {bits(mine['bits'])} of {mine['most']:.2f} bits; with random labels it would be "
        f"{bits(mine['null_95'])} at most (95th percentile), and before training it was {bits(before['bits'])}."
        for mine, before in zip(found["distinctness"], found["untrained"]["distinctness"], strict=True)
    ]


def bits(x: float) -> str:
    return f"{max(0.0, x):.2f}"  # the correction for bias may take it below 0


def parts(found: Found) -> list[str]:
    """The part that each node reports most often, for tasks with named parts."""
    told: list[str] = []
    for node, said in (found["parts"] or {}).items():
        if said["parts"]:
            name, part = max(said["parts"].items(), key=lambda item: item[1]["share"])
            told.append(f"{node} reports {name} in {part['share']:.0%} of its messages ({part['right']:.0%} right)")
    return [f"Commonest parts: {'; '.join(told)}."] if told else []
