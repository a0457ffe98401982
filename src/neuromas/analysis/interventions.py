"""Interventions on the messages of a pass, which show what these are worth.

An intervention touches a set of edges: those out of a node, out of a layer, one edge alone, or all. `silenced`: the
senders (or the edge) do not exist, as if they never had. `blanked`: the senders speak, and empty messages are
delivered. `shuffled`: messages of the undisturbed pass are dealt out anew among the questions, for each sender on its
own. `another's`: messages of the undisturbed pass come from one other question with another answer, the same for all
senders. `swapped`: two nodes speak with each other's adapters.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from neuromas.analysis.findings import InterventionKind, TargetScope
from neuromas.errors import TopologyError
from neuromas.evaluate.stats import stream
from neuromas.network.adapters import AdapterBank
from neuromas.network.forward import Network
from neuromas.network.topology import Topology, Unit
from neuromas.network.turns import Deliver
from neuromas.types import Question

KINDS: tuple[InterventionKind, ...] = ("silenced", "blanked", "shuffled", "another's")  # Those on messages.
MOST_PAIRS = 28  # Up to so many pairs of nodes all swap adapters; in larger networks only siblings do.

MessageTexts = Mapping[str, Mapping[str, str]]  # By sender, then by question id.


@dataclass(frozen=True)
class Target:
    """The messages that an intervention touches."""

    scope: TargetScope
    label: str  # The nodes or the edge, in words.
    units: tuple[Unit, ...]  # The nodes, or the edge.
    edges: frozenset[tuple[str, str]]  # The edges that the messages travel along, as (sender, reader).


@dataclass(frozen=True)
class Intervention:
    """One thing that is done to a network."""

    kind: InterventionKind
    target: Target


def targets(topology: Topology) -> list[Target]:
    """Hidden nodes, layers, edges and all messages; of those that touch the same edges only the first."""
    by_edges: dict[frozenset[tuple[str, str]], Target] = {}

    def add(scope: TargetScope, label: str, *units: Unit) -> None:
        edges = frozenset(edge for edge in topology.edges if edge in units or edge[0] in units)
        by_edges.setdefault(edges, Target(scope, label, units, edges))

    hidden = [node for node in topology.nodes if node != topology.output]
    for node in hidden:
        add("node", node, node)
    for depth, layer in enumerate(topology.layers[:-1], start=1):
        add("layer", f"layer {depth}", *layer)
    add("all", "all messages", *hidden)
    for edge in topology.edges:
        add("edge", f"{edge[0]} → {edge[1]}", edge)
    return list(by_edges.values())


def plan(network: Network) -> list[Intervention]:
    """All interventions on a network, without silencing that would leave a topology that cannot exist."""
    topology = network.topology
    planned = [Intervention(kind, target) for target in targets(topology) for kind in KINDS]
    possible = [one for one in planned if one.kind != "silenced" or _can_silence(topology, one.target)]
    return possible + [Intervention("swapped", target) for target in swaps(network)]


def swaps(network: Network) -> Iterator[Target]:
    """Pairs of nodes with different adapters: all, in large networks only siblings."""
    pairs = list(combinations(network.topology.nodes, 2))
    if len(pairs) > MOST_PAIRS:
        pairs = [pair for layer in network.topology.layers for pair in combinations(layer, 2)]
    index = network.adapters.index
    for a, b in pairs:
        if index[a] != index[b]:
            yield Target("pair", f"{a} ↔ {b}", (a, b), frozenset())


def _can_silence(topology: Topology, target: Target) -> bool:
    try:
        topology.without(target.units)
    except TopologyError:
        return False
    return True


# -- delivery of messages -------------------------------------------------------------------------------------


def blanking(edges: frozenset[tuple[str, str]]) -> Deliver:
    """Delivers empty messages along `edges`."""
    return lambda _question, _rollout, sender, reader, text: "" if (sender, reader) in edges else text


def replacing(edges: frozenset[tuple[str, str]], texts: MessageTexts, sources: MessageTexts) -> Deliver:
    """Delivers along `edges` the sender's message to another question.

    texts: the messages. sources: by sender and question id, the id of the other question.
    """

    def deliver(question: str, _rollout: int, sender: str, reader: str, text: str) -> str:
        return texts[sender][sources[sender][question]] if (sender, reader) in edges else text

    return deliver


def dealt_out(questions: Sequence[Question], senders: Sequence[str], seed: int) -> dict[str, dict[str, str]]:
    """For each sender on its own, a permutation of the questions' ids that leaves none in its place."""
    ids = [question.id for question in questions]
    sources: dict[str, dict[str, str]] = {}
    for n, sender in enumerate(senders):
        circle = stream(seed, 1, n).permutation(len(ids))
        sources[sender] = {ids[a]: ids[b] for a, b in zip(circle, np.roll(circle, 1), strict=True)}
    return sources


def donors(questions: Sequence[Question], seed: int) -> dict[str, Question]:
    """For the id of each question another question, drawn at random among those with another answer.

    Raises ValueError where all answers are the same.
    """
    rng = stream(seed, 2)
    drawn: dict[str, Question] = {}
    for question in questions:
        others = [other for other in questions if other.answer != question.answer]
        if not others:
            raise ValueError(f"every question has the answer {question.answer!r}")
        drawn[question.id] = others[int(rng.integers(len(others)))]
    return drawn


# -- other networks of the same parts --------------------------------------------------------------------------


def swapped(network: Network, a: str, b: str) -> Network:
    """The same network, except that nodes a and b speak with each other's adapters."""
    index = network.adapters.index
    bank = copy.copy(network.adapters)  # The copy shares every tensor.
    bank.index = index | {a: index[b], b: index[a]}
    return _with(network, bank)


def untrained(network: Network) -> Network:
    """The same network before training, in which every node speaks as the bare backbone."""
    bank = copy.deepcopy(network.adapters).requires_grad_(False)
    for stack in bank.B.values():
        stack.zero_()
    return _with(network, bank)


def _with(network: Network, bank: AdapterBank) -> Network:
    other = copy.copy(network)
    other.adapters = bank
    return other
