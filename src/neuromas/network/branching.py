"""Going back to a node of a finished pass, letting it say something else, and replaying what follows from that.

A branch leaves a trace at one node: there another message is drawn from the same prompt, or messages are withheld.
Downstream every node keeps its own random stream, so a prompt that has not changed would be answered as before: a node
is called again only where a message that it reads has changed, and a branch whose message comes out like the
trace's costs nothing more. That a branch and its trace share all other random draws (common random numbers) takes the
luck of other nodes out of their difference and leaves it unbiased; docs/estimators.md says why.

All branches of all traces run in one batch a layer.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from neuromas.network.environment import Inquiry
from neuromas.network.forward import Network
from neuromas.network.prompt import Prompt
from neuromas.network.turns import Rollout, Turn, depth_of
from neuromas.types import Message, NodeCall


@dataclass
class Branch:
    """The course of one rollout when one thing is said differently."""

    row: int  # index of the rollout that it leaves
    nodes: tuple[str, ...]  # where: the node that spoke again, or those whose messages were withheld
    draw: int | None  # which alternative it is, from 1; None where messages were withheld
    calls: list[NodeCall] = field(default_factory=list[NodeCall])  # made for it, in order; an alternative comes first
    said: dict[str, str] = field(default_factory=dict[str, str])  # messages that differ from the rollout's, by sender
    answer: str = ""  # text that `Task.grade` reads

    def hear(self, node: str, text: str, rollout: Rollout) -> None:
        """Take in what `node` says here, where it differs from what it said in the rollout."""
        if text != rollout.calls[node].text:
            self.said[node] = text


def alternatives(network: Network, rollouts: Sequence[Rollout], nodes: Sequence[str], draws: int) -> list[Branch]:
    """`draws` more messages of each node in each rollout, in its context: rollout-major, then by node, then by draw.

    A node that was absent in a rollout says nothing there: such a branch has no calls and its rollout's answer.
    """
    rows, numbers = range(len(rollouts)), range(1, draws + 1)
    return _replay(network, rollouts, [Branch(row, (node,), k) for row in rows for node in nodes for k in numbers])


def withheld(network: Network, rollouts: Sequence[Rollout], silences: Sequence[Collection[str]]) -> list[Branch]:
    """Each rollout with the messages of each set of nodes delivered empty: rollout-major, then by set."""
    return _replay(network, rollouts, [Branch(row, tuple(s), None) for row in range(len(rollouts)) for s in silences])


def _replay(network: Network, rollouts: Sequence[Rollout], branches: list[Branch]) -> list[Branch]:
    """Take the branches to their end, layer by layer, in batches of at most `batch_rows` rows."""
    depth = depth_of([rollout.topology for rollout in rollouts])
    for layer in range(depth):
        pending: list[tuple[Branch, Turn]] = []
        for branch in branches:
            rollout = rollouts[branch.row]
            for node in rollout.topology.speakers(layer, depth):
                if branch.draw is None and node in branch.nodes:
                    branch.hear(node, "", rollout)
                elif (turn := _turn(network, rollout, branch, node)) is not None:
                    pending.append((branch, turn))
        calls = network.speak([turn for _, turn in pending], network.limits.batch_rows)
        for (branch, _), call in zip(pending, calls, strict=True):
            branch.calls.append(call)
            branch.hear(call.node, call.text, rollouts[branch.row])
    output = network.topology.output
    for branch in branches:
        rollout = rollouts[branch.row]
        reply = branch.said.get(output, rollout.calls[output].text)
        branch.answer = rollout.ask.question.answer_prefix + reply
    return branches


def _turn(network: Network, rollout: Rollout, branch: Branch, node: str) -> Turn | None:
    """The turn of `node` in a branch: to speak anew, or to read what has changed; None where nothing has."""
    if node in branch.nodes:
        call = rollout.calls[node]
        return Turn(
            speaker=node,
            adapter=network.adapters.index[node],
            prompt=Prompt(call.prefix_ids, call.own_ids, call.dropped_tokens),
            limit=network.limits.of(node == network.topology.output),
            decoding=rollout.ask.decoding,
            stream=rollout.stream(node, "alternative", branch.draw),
            stop=network.limits.stop,
            inquiry=Inquiry.of(network.environment, rollout.ask.question),
        )
    senders = rollout.topology.parents(node)
    if not any(sender in branch.said for sender in senders):
        return None
    messages = [Message(sender, branch.said.get(sender, rollout.calls[sender].text)) for sender in senders]
    return network.turn(rollout, node, messages)
