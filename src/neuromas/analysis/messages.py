"""What nodes write: statistics of their messages, and which parts of a question they report and how truly."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from neuromas.analysis.passes import Pass
from neuromas.evaluate.stats import wilson
from neuromas.types import NodeCall, Question

_STATEMENT = re.compile(r"([a-z]?)(\d+[^\w\s=;]\d+)=(\d+)")  # `a3+5=8`, or `8*4=2` without a label


def statistics(done: Pass) -> dict[str, dict[str, float]]:
    """For each node, the output included: means over questions; keys as in docs/metrics.md."""
    calls: dict[str, list[NodeCall]] = {}
    for trace in done.traces:
        for call in trace.calls:
            calls.setdefault(call.node, []).append(call)
    return {node: _of_node(made) for node, made in calls.items()}


def _of_node(calls: Sequence[NodeCall]) -> dict[str, float]:
    n = len(calls)
    shares = np.array(list(Counter(call.text for call in calls).values())) / n
    entropies = [e for call in calls for e in call.entropies]
    return {
        "length": sum(len(call.completion_ids) for call in calls) / n,
        "truncated": sum(call.truncated for call in calls) / n,
        "empty": sum(not call.text.strip() for call in calls) / n,
        "distinct": len(shares) / n,
        "text_entropy": float(-(shares * np.log2(shares)).sum()),
        "entropy": sum(entropies) / max(1, len(entropies)),
        "dropped": sum(call.dropped_tokens for call in calls) / n,
    }


def parts(done: Pass) -> dict[str, dict[str, Any]] | None:
    """Which named part of its question each node reports, and how often what it says of it is right.

    For tasks whose questions carry their parts (`metadata["statements"]`, as `compositional`'s do); None for others. A
    message reports a part where it states it by its label, or its operation without one. node → {"none": share of
    messages that report no part, "parts": {part: {"share", "right", "n", "ci95"}}}; `right` and its Wilson interval are
    of the n messages that report the part.
    """
    if not all("statements" in q.metadata for q in done.questions):
        return None
    found: dict[str, dict[str, Any]] = {}
    for node, texts in done.said().items():
        told: dict[str, list[bool]] = {}
        silent = 0
        for question in done.questions:
            reported = reports(texts[question.id], question) if question.id in texts else {}
            silent += not reported
            for part, right in reported.items():
                told.setdefault(part, []).append(right)
        n = len(done.questions)
        found[node] = {"none": silent / n, "parts": {p: _share(told[p], n) for p in sorted(told, key=_order)}}
    return found


def reports(text: str, question: Question) -> dict[str, bool]:
    """The parts that a message states, each with whether the first statement about it is right."""
    truth: dict[str, str] = question.metadata["statements"]
    out: dict[str, bool] = {}
    for label, operation, value in _STATEMENT.findall(text):
        part = label if label in truth else _unlabelled(operation, truth)
        if part is not None:
            said = f"{'' if part == 'r' else part}{operation}={value}"
            out.setdefault(part, said == truth[part])
    return out


def _unlabelled(operation: str, truth: dict[str, str]) -> str | None:
    """The part whose operation this is; the root, whose statement never has a label, first, and for any other."""
    for part in sorted(truth, key=lambda part: part != "r"):
        if truth[part].removeprefix(part).split("=")[0] == operation:
            return part
    return "r" if "r" in truth else None


def _share(rights: Sequence[bool], n: int) -> dict[str, Any]:
    told = len(rights)
    return {"share": told / n, "right": sum(rights) / told, "n": told, "ci95": list(wilson(sum(rights), told))}


def _order(part: str) -> tuple[bool, str]:
    return part == "r", part
