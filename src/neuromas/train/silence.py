"""What a network loses when a node's message is withheld: for noticing nodes that are ignored, or do no good."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from neuromas.network.branching import Pass, withheld
from neuromas.network.forward import Network
from neuromas.tasks.base import Task
from neuromas.types import Question, Trace


def silencing(network: Network, task: Task, questions: Sequence[Question], traces: Sequence[Trace]) -> dict[str, Any]:
    """Of each hidden node (`nodes`), and of `all` together: `changed`, the share of questions whose answer becomes
    another one, and `cost`, the accuracy lost. traces: one greedy answer to each question; replayed from the node on.

    Empty for a network without hidden nodes, and where nothing was asked.
    """
    hidden = [node for node in network.topology.nodes if node != network.topology.output]
    if not hidden or not traces:
        return {}
    silences = {node: (node,) for node in hidden} | {"all": tuple(hidden)}
    greedy = replace(network.decoding, greedy=True)
    branches = withheld(network, Pass(questions, traces, 0, 0, greedy), list(silences.values()))
    before = task.grade_many(list(questions), [trace.answer for trace in traces])
    after = task.grade_many([questions[b.row] for b in branches], [b.answer for b in branches])
    figures: dict[str, dict[str, float]] = {}
    for k, name in enumerate(silences):
        pairs = list(zip(before, after[k :: len(silences)], strict=True))
        changed = sum(was.parsed != now.parsed for was, now in pairs) / len(pairs)
        figures[name] = {"cost": sum(was.reward - now.reward for was, now in pairs) / len(pairs), "changed": changed}
    return {"n": len(traces), "all": figures.pop("all"), "nodes": figures}
