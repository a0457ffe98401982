"""The place of a smaller topology in a larger one that grew out of it.

Nodes keep their ids through growth, since prompts speak of ids: what the parent's nodes read stays the same, token for
token, as long as what is new is absent. So a topology contains its parent when `Topology.without`, given the new nodes
and edges, gives the parent back. Pure functions; the adapters are carried over by transplant.py.

    >>> between(Topology.parse("1-1"), Topology.parse("2-2-2")).operators
    ('widen layer 1 by 1', 'widen layer 2 by 1', 'insert layer 3 of 2')
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

from neuromas.errors import TopologyError
from neuromas.network.topology import QUESTION, Topology, Unit

_TRIES = 200  # ways to place the parent's layers that are looked at


@dataclass(frozen=True)
class Growth:
    """The way from one topology to a larger one."""

    topology: Topology  # the larger one; the parent's nodes have the ids that they had
    mapping: dict[str, str]  # id of each node of the parent -> its id in the topology that was asked for
    units: frozenset[Unit]  # new nodes, and new edges between old ones: without these it is the parent
    operators: tuple[str, ...]  # in words, in the order of the layers

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of the new nodes, in execution order."""
        return tuple(n for n in self.topology.nodes if n in self.units)


def between(parent: Topology, target: Topology) -> Growth:
    """The way in which `target` grows out of `parent`. Raises `TopologyError` where it does not contain it.

    Nodes of the same id are the same node where that fits. Else the parent's layers are placed among those of the
    target in order, as early as possible, its nodes at the first places of each; they keep their ids, and a new node
    whose id is taken gets a fresh one.
    """
    for mapping in _mappings(parent, target):
        topology = _renamed(target, mapping)
        units = _added(parent, topology)
        if units is not None:
            return Growth(topology, mapping, units, tuple(_operators(topology, units)))
    raise TopologyError(
        f"{target.name} does not contain {parent.name}: no choice of nodes and edges can be left out so that it "
        "remains; keep each layer at least as wide, in the same order, and every edge, or give old nodes their old ids"
    )


def _mappings(parent: Topology, target: Topology) -> Iterator[dict[str, str]]:
    if set(parent.nodes) <= set(target.nodes):
        yield {n: n for n in parent.nodes}
    for rows in islice(_placed(parent.layers[:-1], target.layers[:-1]), _TRIES):
        pairs = [pair for old, row in zip(parent.layers, rows, strict=False) for pair in zip(old, row, strict=False)]
        yield dict(pairs) | {parent.output: target.output}


def _placed(old: Sequence[tuple[str, ...]], layers: Sequence[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """For each old layer one of `layers` that is at least as wide, in order; the earliest first."""
    if not old:
        yield []
    for place, row in enumerate(layers if old else ()):
        rest = iter(layers[place + 1 :])
        if len(old[0]) <= len(row) and all(any(len(o) <= len(r) for r in rest) for o in old[1:]):
            yield from ([row, *more] for more in _placed(old[1:], layers[place + 1 :]))


def _renamed(target: Topology, mapping: Mapping[str, str]) -> Topology:
    """The target with the parent's ids for the parent's nodes, and fresh ids where a new node's is taken."""
    names = {new: old for old, new in mapping.items()}
    taken = {*mapping, *target.nodes}
    major = next(str(k) for k in count(1) if not any(i.split(".")[0] == str(k) for i in taken))
    fresh = (f"{major}.{k}" for k in count(1))
    names |= {n: next(fresh) if n in mapping else n for n in target.nodes if n not in names}
    upstream = {names[n]: [names[p] for p in target.parents(n)] for n in target.nodes}
    return Topology.build(upstream, names[target.output], [names[n] for n in target.question])


def _added(parent: Topology, topology: Topology) -> frozenset[Unit] | None:
    """The units to leave out of `topology` so that `parent` remains; None where there are none."""
    new: set[Unit] = {n for n in topology.nodes if n not in parent.nodes}
    try:
        nodes_out = topology.without(new)
        units = frozenset(new | (set(_all_edges(nodes_out)) - set(_all_edges(parent))))
        return units if topology.without(units) == parent else None
    except TopologyError:  # what would remain is no network, or an edge comes from a bypass
        return None


def _operators(topology: Topology, units: frozenset[Unit]) -> Iterator[str]:
    for layer, row in enumerate(topology.layers, start=1):
        if added := [n for n in row if n in units]:
            whole = len(added) == len(row)
            yield f"insert layer {layer} of {len(row)}" if whole else f"widen layer {layer} by {len(added)}"
    for sender, reader in _all_edges(topology):
        if (sender, reader) in units:
            yield f"connect {sender} to {reader}"


# -- helpers ------------------------------------------------------------------------------------------------


def _all_edges(topology: Topology) -> list[tuple[str, str]]:
    return [*topology.edges, *((QUESTION, n) for n in topology.question)]
