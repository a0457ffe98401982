"""The shape of a network as pure data: nodes, who reads whom, who reads the question. No torch, no text.

The question is a source whose edges are part of the topology. A node's layer is the length of the longest path
from the question to it, so nodes of one layer never depend on each other and run in one batch. The output node
answers; every other node must reach it. What people write ("2-2", "NeuroMAS-5", a file) is read by `specs.py`.

    >>> Topology.parse("2-1").layers
    (('1.1', '1.2'), ('2.1',), ('out',))
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neuromas.errors import TopologyError
from neuromas.markup import svg
from neuromas.network.graph import (
    check_connected,
    check_output,
    checked_graph,
    depths,
    find_output,
    listed,
    nearest,
    reversed_edges,
    unknown,
)
from neuromas.network.specs import read
from neuromas.types import Position

QUESTION = "question"  # the sender of the question's edges; no node may have this id
Unit = str | tuple[str, str]  # what a pass can do without: a node's id, or an edge (sender, reader)


@dataclass(frozen=True)
class Topology:
    """A directed acyclic graph of nodes. Any order of nodes may be passed in; it is stored in execution order.

    Construction validates and raises `TopologyError`, so an instance is always a network that can run.
    Equal by value: same nodes in the same order, same edges, same output.
    """

    nodes: tuple[str, ...]  # ids in execution order: by layer, then as declared
    upstream: tuple[tuple[str, ...], ...]  # aligned with `nodes`: whose messages each reads, in execution order
    output: str  # id of the node that answers
    question: tuple[str, ...]  # ids of the nodes that read the question, in execution order

    @classmethod
    def parse(cls, spec: "str | Sequence[int] | Mapping[str, Any] | Path | Topology") -> "Topology":
        """The topology that `spec` means; see `network/specs.py` for the forms.

        Raises `TopologyError` where it means none.
        """
        return spec if isinstance(spec, Topology) else cls.build(*read(spec))

    @classmethod
    def build(
        cls,
        upstream: Mapping[str, Sequence[str]],
        output: str | None = None,
        question: str | Sequence[str] = "all",
    ) -> "Topology":
        """A topology from `{id: ids it reads}`; `output` defaults to the only node that nobody reads.

        `question` is "all", "first" (the nodes that read no other node) or the ids of those that read it.
        """
        sees = {"all": list(upstream), "first": [n for n, up in upstream.items() if not up]}
        if isinstance(question, str) and question not in sees:
            raise TopologyError(f'question {question!r} is not a choice; use "all", "first" or a list of node ids')
        readers = sees[question] if isinstance(question, str) else question
        return cls(
            tuple(upstream),
            tuple(tuple(up) for up in upstream.values()),
            find_output(upstream) if output is None else output,
            tuple(readers),
        )

    def __post_init__(self) -> None:
        graph = checked_graph(self.nodes, self.upstream)
        depth = depths(graph)
        check_output(graph, self.output)
        readers = set(self.question)
        if strangers := readers - graph.keys():
            raise TopologyError(unknown("question", min(strangers), graph))
        check_connected(graph, self.output, readers)
        nodes = sorted(graph, key=depth.__getitem__)  # stable, so declared order decides within a layer
        place = {n: i for i, n in enumerate(nodes)}
        object.__setattr__(self, "nodes", tuple(nodes))
        object.__setattr__(self, "upstream", tuple(tuple(sorted(graph[n], key=place.__getitem__)) for n in nodes))
        object.__setattr__(self, "question", tuple(n for n in nodes if n in readers))

    # -- structure ----------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """Ids by longest-path depth from the question; the last layer holds the output alone."""
        depth = depths(self._parents)
        rows: list[list[str]] = [[] for _ in range(max(depth.values()))]
        for node in self.nodes:
            rows[depth[node] - 1].append(node)
        return tuple(tuple(row) for row in rows)

    def speakers(self, layer: int, depth: int) -> tuple[str, ...]:
        """The nodes that speak in `layer` (from 0) of a pass whose deepest topology has `depth` layers.

        The output answers in the last layer of all, so that the answers of a pass are written together.
        """
        if layer == depth - 1:
            return self.layers[-1]
        return self.layers[layer] if layer < len(self.layers) - 1 else ()

    @property
    def calls(self) -> int:
        """Language-model calls that one pass makes."""
        return len(self.nodes)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """(sender, reader) pairs between nodes, in execution order of the reader; the question's are not among them."""
        return tuple((up, node) for node in self.nodes for up in self._parents[node])

    def parents(self, node: str) -> tuple[str, ...]:
        """Ids whose messages `node` reads, in execution order, which is the reading order."""
        return self._parents[self._known(node)]

    def children(self, node: str) -> tuple[str, ...]:
        """Ids that read the message of `node`, in execution order; empty for the output."""
        return self._children[self._known(node)]

    def sees_question(self, node: str) -> bool:
        return self._known(node) in self._question

    def position(self, node: str) -> Position:
        """The position of `node`: all that its prompt may say about it."""
        return self._positions[self._known(node)]

    def without(self, units: Collection[Unit]) -> "Topology":
        """The effective topology of a pass in which some hidden nodes and edges do not exist; ids stay as they are.

        A unit is a node's id or an edge (sender, reader); the question's edges have the sender `QUESTION`. An edge that
        is left out has no substitute. A removed node is bypassed where its absence would cut the flow of messages: a
        node that has lost all whom it read reads the nearest remaining nodes upstream, and a node that has lost all its
        readers is read by the nearest remaining ones downstream. Elsewhere nothing takes its place. So leaving out what
        growth added (a layer, a place in one, an edge) gives the parent back. The question's edges are not passed on.
        """
        if not units:
            return self
        edges = {self._known_edge(u) for u in units if not isinstance(u, str)}
        gone = {self._known(u) for u in units if isinstance(u, str)}
        if self.output in gone:
            raise TopologyError(f"node {self.output!r} is the output and cannot be left out; name hidden nodes only")
        parents = {n: tuple(p for p in up if (p, n) not in edges) for n, up in self._parents.items()}
        children = reversed_edges(parents)
        readers = [n for n in self.question if n not in gone and (QUESTION, n) not in edges]
        kept = [n for n in self.nodes if n not in gone]
        upstream = {n: [p for p in parents[n] if p not in gone] for n in kept}
        orphans = [n for n in kept if parents[n] and not upstream[n]]
        if mute := [n for n in orphans if n not in readers and not nearest(n, parents, gone)]:
            raise TopologyError(
                f"leaving out {listed(sorted(gone))} leaves node {mute[0]!r} with neither the question nor a node "
                f"to read; leave out {mute[0]!r} too, or let it see the question"
            )
        unread = [n for n in kept if n != self.output and children[n] and all(c in gone for c in children[n])]
        for node in orphans:
            upstream[node] += nearest(node, parents, gone)
        for node in unread:
            for reader in nearest(node, children, gone):
                upstream[reader] += [] if node in upstream[reader] else [node]
        return Topology.build(upstream, self.output, readers)

    # -- names and records --------------------------------------------------------------------------------

    @cached_property
    def name(self) -> str:
        """Short canonical name: "2-2", "4-2/2", "2-2@first", "1-1+skip", "single"; "dag-<nodes>-<digest>" for others.

        Names of the first kinds parse back to an equal topology as long as the ids are the usual ones.
        """
        widths = [len(row) for row in self.layers[:-1]]
        forms = [(skip, groups) for groups in range(1, 1 + min(widths, default=1)) for skip in (False, True)]
        form = next((form for form in forms if self._is_layered(*form)), None)
        if form is None:
            digest = hashlib.sha256(repr((self.nodes, self.upstream, self.output, self.question)).encode())
            return f"dag-{len(self.nodes)}-{digest.hexdigest()[:6]}"
        skip, groups = form
        text = ("-".join(map(str, widths)) or "single") + (f"/{groups}" if groups > 1 else "")
        if self.question != self.nodes:
            text += "@first" if self.question == self.layers[0] else f"@{','.join(self.question)}"
        return text + "+skip" if skip else text

    def to_dict(self) -> dict[str, Any]:
        """JSON-able record; `from_dict` gives back an equal topology."""
        return {
            "nodes": [{"id": n, "upstream": list(up)} for n, up in zip(self.nodes, self.upstream, strict=True)],
            "output": self.output,
            "question": list(self.question),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Topology":
        return cls.parse(record)

    def __str__(self) -> str:
        return self.name

    def _repr_html_(self) -> str:
        from neuromas.network.figure import to_figure  # it knows topologies, so it is imported late

        return svg(to_figure(self))

    # -- derived, cached ----------------------------------------------------------------------------------

    @cached_property
    def _parents(self) -> dict[str, tuple[str, ...]]:
        return dict(zip(self.nodes, self.upstream, strict=True))

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        return {n: tuple(c) for n, c in reversed_edges(self._parents).items()}

    @cached_property
    def _question(self) -> frozenset[str]:
        return frozenset(self.question)

    @cached_property
    def _positions(self) -> dict[str, Position]:
        return {
            node: Position(
                node, layer, index, len(row), len(self.layers), self._parents[node], self._children[node],
                node in self._question,
            )
            for layer, row in enumerate(self.layers, start=1)
            for index, node in enumerate(row, start=1)
        }  # fmt: skip

    def _is_layered(self, skip: bool = False, groups: int = 1) -> bool:
        """True where every hidden node reads exactly its group's part of the layer before it, the output all groups'.

        skip: of all layers before it.
        """
        before: list[tuple[str, ...]] = [()] * groups
        for row in self.layers[:-1]:
            size, rest = divmod(len(row), groups)
            parts = [row[g * size : (g + 1) * size] for g in range(groups)]
            if rest or any(self._parents[n] != up for part, up in zip(parts, before, strict=True) for n in part):
                return False
            before = [up + part if skip else part for up, part in zip(before, parts, strict=True)]
        return set(self._parents[self.output]) == {node for part in before for node in part}

    def _known_edge(self, edge: tuple[str, str]) -> tuple[str, str]:
        sender, reader = edge
        senders = (*self.parents(reader), *([QUESTION] if self.sees_question(reader) else []))
        if sender not in senders:
            raise TopologyError(f"no edge leads from {sender!r} to {reader!r}, which reads {listed(senders)}")
        return edge

    def _known(self, node: str) -> str:
        if node not in self._parents:
            raise TopologyError(unknown("topology " + self.name, node, self._parents))
        return node
