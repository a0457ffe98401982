"""Growing a topology: widen a layer, insert one, connect nodes; and where a parent stands in a larger network.

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
    """How one topology became a larger one."""

    topology: Topology  # the larger one; the parent's nodes have the ids that they had
    mapping: dict[str, str]  # id of each node of the parent -> its id in the topology that was asked for
    units: frozenset[Unit]  # new nodes, and new edges between old ones: without these it is the parent
    operators: tuple[str, ...]  # in words, in the order of the layers

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of the new nodes, in execution order."""
        return tuple(n for n in self.topology.nodes if n in self.units)


# -- operators --------------------------------------------------------------------------------------------


def widen(topology: Topology, layer: int, by: int = 1) -> Topology:
    """`by` more nodes in hidden layer `layer` (from 1), connected to all to whom any node of that layer is."""
    row = _hidden_layer(topology, layer, by)
    read = [n for n in topology.nodes if any(n in topology.parents(old) for old in row)]
    upstream = _upstream(topology)
    for new in islice(_fresh(row[-1].rsplit(".", 1)[0], upstream), by):
        for reader in topology.nodes:
            upstream[reader] += [new] if any(old in topology.parents(reader) for old in row) else []
        upstream[new] = list(read)
    sees = any(topology.sees_question(old) for old in row)
    return _with(topology, upstream, sees)


def insert(topology: Topology, after: int, width: int = 1) -> Topology:
    """A new layer of `width` nodes after layer `after` (0: before the first), between it and the next.

    The new nodes read all of that layer, and the next layer reads them instead. Where their absence would not restore
    an edge that was replaced (the bypass reaches the whole layer, not a part of it), the edge stays beside them.
    """
    hidden = topology.layers[:-1]
    if not 0 <= after <= len(hidden) or width < 1:
        raise TopologyError(
            f"a layer of {width} after layer {after} cannot be inserted in {topology.name}: choose a width of 1 or "
            f"more and a place from 0 to {len(hidden)}"
        )
    before, following = hidden[after - 1] if after else (), topology.layers[after]
    major = 1 + max((int(n.split(".")[0]) for n in topology.nodes if n.split(".")[0].isdigit()), default=0)
    sees = any(map(topology.sees_question, following))
    candidates: list[Topology] = []
    for replaced in (before, ()):
        upstream = _upstream(topology)
        new = list(islice(_fresh(str(major), upstream), width))
        for reader in following:
            upstream[reader] = [p for p in upstream[reader] if p not in replaced] + new
        candidates.append(_with(topology, upstream | {n: list(before) for n in new}, sees))
        if candidates[-1].without(new) == topology:
            break
    return candidates[-1]


def connect(topology: Topology, edges: Sequence[tuple[str, str]]) -> Topology:
    """More edges (sender, reader), skip edges or others; the sender `QUESTION` shows the question to the reader."""
    upstream, sees = _upstream(topology), list(topology.question)
    for sender, reader in edges:
        if reader not in upstream:
            raise TopologyError(f"edge {sender!r} → {reader!r}: there is no node {reader!r} in {topology.name}")
        (sees if sender == QUESTION else upstream[reader]).append(reader if sender == QUESTION else sender)
    return Topology.build(upstream, topology.output, sees)


# -- the parent within the child ----------------------------------------------------------------------------


def between(parent: Topology, target: Topology) -> Growth:
    """How `target` grows out of `parent`. Raises `TopologyError` where it does not contain it.

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
    fresh = _fresh(major, taken)
    names |= {n: next(fresh) if n in mapping else n for n in target.nodes if n not in names}
    upstream = {names[n]: [names[p] for p in target.parents(n)] for n in target.nodes}
    return Topology.build(upstream, names[target.output], [names[n] for n in target.question])


def _added(parent: Topology, topology: Topology) -> frozenset[Unit] | None:
    """What must be left out of `topology` for `parent` to remain; None where nothing does it."""
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


def _upstream(topology: Topology) -> dict[str, list[str]]:
    return {n: list(topology.parents(n)) for n in topology.nodes}


def _with(topology: Topology, upstream: Mapping[str, Sequence[str]], sees: bool) -> Topology:
    """A topology of more nodes, which see the question or not; the others do as before."""
    new = [n for n in upstream if n not in topology.nodes]
    return Topology.build(upstream, topology.output, [*topology.question, *(new if sees else [])])


def _fresh(stem: str, taken: Mapping[str, object] | set[str]) -> Iterator[str]:
    """Unused ids "stem.1", "stem.2" …"""
    used = set(taken)
    return (name for k in count(1) if (name := f"{stem}.{k}") not in used)


def _hidden_layer(topology: Topology, layer: int, by: int) -> tuple[str, ...]:
    hidden = topology.layers[:-1]
    if not 1 <= layer <= len(hidden) or by < 1:
        raise TopologyError(
            f"layer {layer} of {topology.name} cannot be widened by {by}: its hidden layers are 1 to {len(hidden)}, "
            "and at least one node must be added"
        )
    return hidden[layer - 1]
