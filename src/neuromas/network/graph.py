"""Checks and walks on a graph `{id: ids it reads}`. Each error names the value, the reason and the remedy."""

import re
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from neuromas.errors import TopologyError

MAX_NODES = 10_000
MAX_EDGES = 1_000_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = {"question", "all", "first", "single"}  # words with a meaning of their own in specs and drawings


def checked_graph(nodes: Sequence[str], upstream: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """`{id: parents}` after all that can be said of a node and its own edges."""
    check_size(len(nodes), sum(map(len, upstream)))
    graph: dict[str, tuple[str, ...]] = {}
    for node, parents in zip(nodes, upstream, strict=True):
        if not _ID.fullmatch(node) or node in _RESERVED:
            raise TopologyError(
                f"node id {node[:80]!r} cannot be used; take 1 to 64 of the characters A-Z a-z 0-9 . _ - "
                f"and none of the words {', '.join(sorted(_RESERVED))}"
            )
        if node in graph:
            raise TopologyError(f"node id {node!r} is declared twice; give one of the two another id")
        if node in parents:
            raise TopologyError(f"node {node!r} reads its own message; remove {node!r} from its upstream list")
        if len(set(parents)) < len(parents):
            twice = next(p for p in parents if list(parents).count(p) > 1)
            raise TopologyError(f"node {node!r} lists {twice!r} upstream twice; name it once")
        graph[node] = tuple(parents)
    for node, parents in graph.items():
        if strangers := [p for p in parents if p not in graph]:
            raise TopologyError(unknown(f"upstream of node {node!r}", strangers[0], graph))
    return graph


def check_size(nodes: int, edges: int) -> None:
    """Refuses graphs that no machine would run."""
    if nodes < 1:
        raise TopologyError('a topology without nodes has no output; use "single" for one node that answers alone')
    if nodes >= MAX_NODES:
        raise TopologyError(f"{nodes} nodes are too many (limit {MAX_NODES - 1}); use fewer or narrower layers")
    if edges > MAX_EDGES:
        raise TopologyError(f"{edges} edges are too many (limit {MAX_EDGES}); use narrower layers or a sparse graph")


def find_output(upstream: Mapping[str, Sequence[str]]) -> str:
    graph = checked_graph(tuple(upstream), tuple(upstream.values()))
    depths(graph)  # a cycle is the better explanation for the lack of an end
    ends = [n for n, readers in reversed_edges(graph).items() if not readers]
    if len(ends) == 1:
        return ends[0]
    raise TopologyError(
        f"no output is named, and {len(ends)} nodes are read by nobody: {listed(ends)}; "
        f'say which one answers, as in output = "{ends[0]}", and let it read the others'
    )


def check_output(graph: Mapping[str, Sequence[str]], output: str) -> None:
    if output not in graph:
        raise TopologyError(unknown("output", output, graph))
    if readers := [n for n, parents in graph.items() if output in parents]:
        raise TopologyError(
            f"the output node {output!r} is read by {listed(readers)}, but nothing may follow the answer; "
            f"remove {output!r} from their upstream lists or name another output"
        )


def check_connected(graph: Mapping[str, Sequence[str]], output: str, readers: Collection[str]) -> None:
    """Every node has an input and reaches the output."""
    if mute := [n for n, parents in graph.items() if not parents and n not in readers]:
        raise TopologyError(
            f"node {mute[0]!r} has no input: it reads neither the question nor another node; "
            f"add {mute[0]!r} to `question`, give it upstream nodes, or remove it"
        )
    reached, todo = {output}, [output]
    while todo:
        fresh = [p for p in graph[todo.pop()] if p not in reached]
        reached.update(fresh)
        todo += fresh
    if lost := [n for n in graph if n not in reached]:
        raise TopologyError(
            f"unreachable: no path leads from {listed(lost)} to the output {output!r}; "
            f"let a node on the way to {output!r} read {lost[0]!r}, or remove it"
        )


def depths(graph: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """1-based longest-path depth of every node; raises a TopologyError that names the nodes of a cycle."""
    depth: dict[str, int] = {}
    try:
        for node in TopologicalSorter(graph).static_order():
            depth[node] = 1 + max((depth[parent] for parent in graph[node]), default=0)
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise TopologyError(f"cycle: {circle}; messages flow one way, so remove one of these edges") from None
    return depth


# -- helpers --------------------------------------------------------------------------------------------


def reversed_edges(graph: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {n: [] for n in graph}
    for node, parents in graph.items():
        for parent in parents:
            children[parent].append(node)
    return children


def nearest(start: str, step: Mapping[str, Sequence[str]], gone: Collection[str]) -> list[str]:
    """The remaining nodes met when walking from `start` along `step`; a step past `gone` nodes is taken only
    from where it meets nothing else, so a gone node with remaining siblings is not bypassed."""
    found: dict[str, None] = {}
    seen, todo = {start}, [start]
    while todo:
        around = step[todo.pop()]
        kept = [n for n in around if n not in gone]
        found.update(dict.fromkeys(kept))
        fresh = [] if kept else [n for n in around if n not in seen]
        seen.update(fresh)
        todo += fresh
    return list(found)


def unknown(where: str, node: str, known: Collection[str]) -> str:
    return f"{where} names {str(node)[:80]!r}, which is no node; the nodes are {listed(known)}"


def listed(ids: Collection[str]) -> str:
    shown = ", ".join(repr(i) for i in list(ids)[:8])
    return shown if len(ids) <= 8 else f"{shown} and {len(ids) - 8} more"
