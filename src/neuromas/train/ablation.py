"""Measures the loss when a node's message is withheld, to notice nodes that are ignored or do no good."""

from collections.abc import Sequence
from dataclasses import replace

from neuromas.network.branching import withheld
from neuromas.network.forward import Network
from neuromas.network.turns import Rollout, asks_of
from neuromas.results import MessageCost, Silenced
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.types import Grade, Question, Trace
from neuromas.workers import ALONE, Workers


def silencing(
    network: Network, task: Task, questions: Sequence[Question], traces: Sequence[Trace], workers: Workers = ALONE
) -> Silenced:
    """The cost of withholding the message of each hidden node, and of all together.

    traces: one greedy answer to each question; replayed from the node on, by each of `workers` for its share. Nothing
    is measured for a network without hidden nodes, and where nothing was asked.
    """
    hidden = [node for node in network.topology.nodes if node != network.topology.output]
    if not hidden or not traces:
        return Silenced()
    silences = {node: (node,) for node in hidden} | {"all": tuple(hidden)}
    greedy = replace(network.decoding, greedy=True)

    def replayed() -> list[list[tuple[Grade, Grade]]]:
        """Of each silence, each question's grade before and after."""
        asked, made = list(workers.share(questions)), list(workers.share(traces))
        asks = asks_of(asked, 1, seed=0, decoding=greedy)
        rollouts = [Rollout.of(trace, ask, network.topology) for trace, ask in zip(made, asks, strict=True)]
        branches = withheld(network, rollouts, list(silences.values()))
        before = graded(task, asked, [trace.answer for trace in made], abstain=True)
        after = graded(task, [asked[b.row] for b in branches], [b.answer for b in branches], abstain=True)
        return [list(zip(before, after[k :: len(silences)], strict=True)) for k in range(len(silences))]

    shares = workers.each(replayed)
    costs: dict[str, MessageCost] = {}
    for k, name in enumerate(silences):
        found = [pair for share in shares for pair in share[k]]
        pairs = [(was, was if was.abstained or now.abstained else now) for was, now in found]
        changed = sum(was.parsed != now.parsed for was, now in pairs) / len(pairs)
        costs[name] = MessageCost(sum(was.reward - now.reward for was, now in pairs) / len(pairs), changed)
    return Silenced(n=len(traces), all=costs.pop("all"), nodes=costs)
