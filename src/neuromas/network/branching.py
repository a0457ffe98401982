"""Going back to a node of a finished pass, letting it say something else, and replaying what follows from that.

A branch leaves a trace at one node: there another message is drawn from the same prompt, or messages are withheld.
Downstream every node keeps its own random stream, so a prompt that has not changed would be answered as before: a node
is called again only where a message that it reads has changed, and a branch whose message comes out like the
trace's costs nothing more. That a branch and its trace share all other random draws (common random numbers) takes the
luck of other nodes out of their difference and leaves it unbiased; docs/estimators.md says why.

All branches of all traces run in one batch a layer.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from neuromas.network.forward import Network, node_call
from neuromas.network.packed import Group
from neuromas.network.prompt import Prompt
from neuromas.network.sampling import Decoding, stream_key
from neuromas.network.topology import Topology
from neuromas.types import Message, NodeCall, Question, Trace


@dataclass
class Branch:
    """What came of one trace when one thing was said differently."""

    row: int  # index of the trace that it leaves
    nodes: tuple[str, ...]  # where: the node that spoke again, or those whose messages were withheld
    draw: int | None  # which alternative it is, from 1; None where messages were withheld
    calls: list[NodeCall] = field(default_factory=list[NodeCall])  # made for it, in order; an alternative comes first
    said: dict[str, str] = field(default_factory=dict[str, str])  # messages that differ from the trace's
    answer: str = ""  # text that `Task.grade` reads


@dataclass(frozen=True)
class Pass:
    """A pass that was made, and how: what branches leave from. Everything random is drawn again as it was there."""

    questions: Sequence[Question]  # one for each trace
    traces: Sequence[Trace]
    seed: int
    step: int
    decoding: Decoding
    shapes: Sequence[Topology] | None = None  # of each trace, where nodes or edges were absent; None: the network's


def alternatives(network: Network, made: Pass, nodes: Sequence[str], draws: int) -> list[Branch]:
    """`draws` more messages of each node in each trace, in its own context: trace-major, then by node, then by draw.

    A node that was absent in a trace says nothing there: such a branch has no calls and its trace's answer.
    """
    rows = range(len(made.traces))
    return _replay(network, made, [Branch(r, (n,), k) for r in rows for n in nodes for k in range(1, draws + 1)])


def withheld(network: Network, made: Pass, silences: Sequence[Collection[str]]) -> list[Branch]:
    """Each trace with the messages of each set of nodes delivered empty: trace-major, then by set."""
    return _replay(network, made, [Branch(r, tuple(s), None) for r in range(len(made.traces)) for s in silences])


@dataclass
class _Turn:
    """One call to be made: its branch, its prompt and its random stream."""

    branch: Branch
    node: str
    prompt: Prompt
    key: int


def _replay(network: Network, made: Pass, branches: list[Branch]) -> list[Branch]:
    before = [{call.node: call for call in trace.calls} for trace in made.traces]
    shapes = made.shapes or [network.topology] * len(before)
    deepest = max((len(shape.layers) for shape in shapes), default=0)
    for layer in range(deepest):
        turns: list[_Turn] = []
        for branch in branches:
            calls = before[branch.row]
            for node in _speakers(shapes[branch.row], layer, deepest):
                if branch.draw is None and node in branch.nodes:
                    _hear(branch, node, "", calls)
                elif (turn := _turn(network, made, shapes[branch.row], branch, node, calls)) is not None:
                    turns.append(turn)
        for turn, call in _speak(network, turns, made.decoding):
            turn.branch.calls.append(call)
            _hear(turn.branch, turn.node, call.text, before[turn.branch.row])
    output = network.topology.output
    for branch in branches:
        reply = branch.said.get(output, before[branch.row][output].text)
        branch.answer = made.questions[branch.row].answer_prefix + reply
    return branches


def _speakers(shape: Topology, layer: int, deepest: int) -> Sequence[str]:
    """Whose turn it is in a layer (from 0); the output answers in the last layer of the deepest topology."""
    if layer == deepest - 1:
        return shape.layers[-1]
    return shape.layers[layer] if layer < len(shape.layers) - 1 else ()


def _hear(branch: Branch, node: str, text: str, calls: dict[str, NodeCall]) -> None:
    if text != calls[node].text:
        branch.said[node] = text


def _turn(
    network: Network, made: Pass, shape: Topology, branch: Branch, node: str, calls: dict[str, NodeCall]
) -> _Turn | None:
    """What `node` has to do in a branch: draw anew, read what has changed, or nothing."""
    question = made.questions[branch.row]
    address = (made.seed, made.step, question.id, made.traces[branch.row].rollout, node)
    if node in branch.nodes:
        same = Prompt(calls[node].prefix_ids, calls[node].own_ids, calls[node].dropped_tokens)
        return _Turn(branch, node, same, stream_key(*address, "alternative", branch.draw))
    at = shape.position(node)
    if not any(u in branch.said for u in at.upstream):
        return None
    messages = [Message(u, branch.said.get(u, calls[u].text)) for u in at.upstream]
    prompt = network.backbone.template.render(at, question, messages, reserve=_limit(network, node))
    return _Turn(branch, node, prompt, stream_key(*address))


def _limit(network: Network, node: str) -> int:
    limits = network.limits
    return limits.answer_tokens if node == network.topology.output else limits.message_tokens


def _speak(network: Network, turns: list[_Turn], how: Decoding) -> Iterator[tuple[_Turn, NodeCall]]:
    """The calls of one layer, in batches of at most `batch_rows` rows in which equal prefixes are read once."""
    index, size = network.adapters.index, network.limits.batch_rows
    turns = sorted(turns, key=lambda turn: (index[turn.node], turn.prompt.prefix_ids))
    for start in range(0, len(turns), size):
        part = turns[start : start + size]
        groups: list[Group] = []
        for turn in part:
            adapter, prefix = index[turn.node], turn.prompt.prefix_ids
            if not groups or (groups[-1].adapter, groups[-1].prefix_ids) != (adapter, prefix):
                groups.append(Group(adapter, prefix, []))
            groups[-1].own_ids.append(turn.prompt.own_ids)
        limit = _limit(network, part[0].node)
        replies = network.sample(groups, [turn.key for turn in part], limit, how)
        for turn, reply in zip(part, replies, strict=True):
            yield turn, node_call(network.backbone.template, turn.node, turn.prompt, reply)
