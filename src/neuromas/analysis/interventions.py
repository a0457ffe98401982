"""What can be done to the messages of a pass, to see what they are worth.

An intervention touches a set of edges: those out of a node, out of a layer, one edge alone, or all. `silenced`: the
senders (or the edge) do not exist, and the rest stands as if they never had. `blanked`: the senders speak, and empty
messages are delivered. `shuffled`: messages are dealt out anew among the questions, each sender's on its own.
`another's`: messages come from one other question, the same for all senders, whose answer is another one. What is
dealt out was said in the undisturbed pass. `swapped`: two nodes speak with each other's adapters.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from neuromas.errors import TopologyError
from neuromas.network.adapters import AdapterBank
from neuromas.network.forward import Deliver, Network
from neuromas.network.topology import Topology, Unit
from neuromas.types import Question

Kind = Literal["silenced", "blanked", "shuffled", "another's", "swapped"]
Scope = Literal["node", "layer", "edge", "all", "pair"]
KINDS: tuple[Kind, ...] = get_args(Kind)[:4]
MOST_PAIRS = 28  # of nodes whose adapters are swapped, whatever their layers; in larger networks siblings only

Said = Mapping[str, Mapping[str, str]]  # sender → question id → its message


@dataclass(frozen=True)
class Target:
    """Messages that something is done to."""

    scope: Scope
    label: str  # for people
    units: tuple[Unit, ...]  # the nodes, or the edge
    edges: frozenset[tuple[str, str]]  # (sender, reader)


@dataclass(frozen=True)
class Intervention:
    kind: Kind
    target: Target


def targets(topology: Topology) -> list[Target]:
    """Hidden nodes, layers, edges and all messages; of those that touch the same edges only the first."""
    found: dict[frozenset[tuple[str, str]], Target] = {}

    def add(scope: Scope, label: str, *units: Unit) -> None:
        edges = frozenset(e for e in topology.edges if e in units or e[0] in units)
        found.setdefault(edges, Target(scope, label, units, edges))

    hidden = [n for n in topology.nodes if n != topology.output]
    for node in hidden:
        add("node", node, node)
    for depth, layer in enumerate(topology.layers[:-1], start=1):
        add("layer", f"layer {depth}", *layer)
    add("all", "all messages", *hidden)
    for edge in topology.edges:
        add("edge", f"{edge[0]} → {edge[1]}", edge)
    return list(found.values())


def plan(network: Network) -> list[Intervention]:
    """Everything that is done to a network, silencing left out where the rest could not stand without."""
    shape = network.topology
    done = [Intervention(kind, t) for t in targets(shape) for kind in KINDS if kind != "silenced" or _can(shape, t)]
    return done + [Intervention("swapped", t) for t in swaps(network)]


def swaps(network: Network) -> Iterator[Target]:
    """Pairs of nodes with adapters of their own: all, in large networks siblings only."""
    pairs = list(combinations(network.topology.nodes, 2))
    if len(pairs) > MOST_PAIRS:
        pairs = [pair for layer in network.topology.layers for pair in combinations(layer, 2)]
    index = network.adapters.index
    for a, b in pairs:
        if index[a] != index[b]:
            yield Target("pair", f"{a} ↔ {b}", (a, b), frozenset())


def _can(topology: Topology, target: Target) -> bool:
    try:
        topology.without(target.units)
    except TopologyError:
        return False
    return True


# -- how messages are delivered -------------------------------------------------------------------------------


def blanking(edges: frozenset[tuple[str, str]]) -> Deliver:
    """Empty messages along `edges`."""
    return lambda _question, _rollout, sender, reader, text: "" if (sender, reader) in edges else text


def replacing(edges: frozenset[tuple[str, str]], said: Said, source: Mapping[str, Mapping[str, str]]) -> Deliver:
    """Along `edges` what the sender said to another question. source: sender → question id → that question's id."""

    def deliver(question: str, _rollout: int, sender: str, reader: str, text: str) -> str:
        return said[sender][source[sender][question]] if (sender, reader) in edges else text

    return deliver


def dealt_out(questions: Sequence[Question], senders: Sequence[str], seed: int) -> dict[str, dict[str, str]]:
    """For each sender on its own a permutation of the questions that leaves none in its place: id → another id."""
    ids = [q.id for q in questions]
    out: dict[str, dict[str, str]] = {}
    for n, sender in enumerate(senders):
        order = np.random.default_rng([seed, 1, n]).permutation(len(ids))  # a circle through all of them
        out[sender] = {ids[a]: ids[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
    return out


def donors(questions: Sequence[Question], seed: int) -> dict[str, Question]:
    """For each question another one, drawn at random among those with another answer: id → question.

    Raises ValueError where all answers are the same.
    """
    rng = np.random.default_rng([seed, 2])
    out: dict[str, Question] = {}
    for question in questions:
        others = [q for q in questions if q.answer != question.answer]
        if not others:
            raise ValueError(f"every question has the answer {question.answer!r}")
        out[question.id] = others[int(rng.integers(len(others)))]
    return out


# -- other networks of the same parts --------------------------------------------------------------------------


def swapped(network: Network, a: str, b: str) -> Network:
    """The same network, but nodes a and b speak with each other's adapters."""
    index = network.adapters.index
    bank = copy.copy(network.adapters)  # shares every tensor
    bank.index = index | {a: index[b], b: index[a]}
    return _with(network, bank)


def untrained(network: Network) -> Network:
    """The same network as it was before training: every node speaks as the bare backbone."""
    bank = copy.deepcopy(network.adapters).requires_grad_(False)
    for stack in bank.B.values():
        stack.zero_()
    return _with(network, bank)


def _with(network: Network, bank: AdapterBank) -> Network:
    return Network(network.topology, network.backbone, bank, network.limits, network.decoding, network.name)
