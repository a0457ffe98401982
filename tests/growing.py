"""Operators by which the tests grow a topology: widen a layer, insert one, connect nodes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice

from neuromas.errors import TopologyError
from neuromas.network.topology import QUESTION, Topology


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
