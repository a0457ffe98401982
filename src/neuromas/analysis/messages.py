"""Statistics of nodes' messages, and the parts of a question that they report, rightly or wrongly."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from neuromas.analysis.findings import MessageStatistics, PartShare, ReportedParts
from neuromas.analysis.passes import Pass
from neuromas.evaluate.stats import wilson
from neuromas.types import NodeCall, Question

_STATEMENT = re.compile(r"([a-z]?)(\d+[^\w\s=;]\d+)=(\d+)")  # `a3+5=8`, or `8*4=2` without a label.


def statistics(done: Pass) -> dict[str, MessageStatistics]:
    """By node, the output included: means over the questions."""
    calls: dict[str, list[NodeCall]] = {}
    for trace in done.traces:
        for call in trace.calls:
            calls.setdefault(call.node, []).append(call)
    return {node: _of_node(made) for node, made in calls.items()}


def _of_node(calls: Sequence[NodeCall]) -> MessageStatistics:
    n = len(calls)
    shares = np.array(list(Counter(call.text for call in calls).values())) / n
    entropies = [entropy for call in calls for entropy in call.entropies]
    return MessageStatistics(
        length=sum(call.generated_tokens for call in calls) / n,
        truncated=sum(call.truncated for call in calls) / n,
        empty=sum(not call.text.strip() for call in calls) / n,
        distinct=len(shares) / n,
        text_entropy=float(-(shares * np.log2(shares)).sum()),
        entropy=sum(entropies) / max(1, len(entropies)),
        dropped=sum(call.dropped_tokens for call in calls) / n,
    )


def parts(done: Pass) -> dict[str, ReportedParts] | None:
    """By node, the named parts of the question that its messages report; None for tasks without named parts.

    Questions of such tasks carry their parts (`metadata["statements"]`, as `compositional`'s do). A message reports a
    part where it states it by its label, or states its operation without a label.
    """
    if not all("statements" in question.metadata for question in done.questions):
        return None
    n = len(done.questions)
    by_node: dict[str, ReportedParts] = {}
    for node, texts in done.messages().items():
        rights: dict[str, list[bool]] = {}
        silent = 0
        for question in done.questions:
            reported = reports(texts[question.id], question) if question.id in texts else {}
            silent += not reported
            for part, right in reported.items():
                rights.setdefault(part, []).append(right)
        order = sorted(rights, key=lambda part: (part == "r", part))
        by_node[node] = ReportedParts(none=silent / n, parts={part: _share(rights[part], n) for part in order})
    return by_node


def reports(text: str, question: Question) -> dict[str, bool]:
    """The parts that a message states; True where the first statement about the part is right."""
    truth: dict[str, str] = question.metadata["statements"]
    reported: dict[str, bool] = {}
    for label, operation, value in _STATEMENT.findall(text):
        part = label if label in truth else _unlabelled(operation, truth)
        if part is not None:
            statement = f"{'' if part == 'r' else part}{operation}={value}"
            reported.setdefault(part, statement == truth[part])
    return reported


def _unlabelled(operation: str, truth: dict[str, str]) -> str | None:
    """The part that has this operation, the root before others; the root, whose statement has no label, if none has."""
    for part in sorted(truth, key=lambda part: part != "r"):
        if truth[part].removeprefix(part).split("=")[0] == operation:
            return part
    return "r" if "r" in truth else None


def _share(rights: Sequence[bool], n: int) -> PartShare:
    reported, right = len(rights), sum(rights)
    return PartShare(share=reported / n, right=right / reported, n=reported, ci95=wilson(right, reported))
