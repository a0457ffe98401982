"""Pictures of a topology: text for the terminal, Mermaid, SVG and PNG.

In all of them the question stands at the source and messages flow towards the output. Lines lead from the question
to the first layer; nodes behind it that read the question too are marked, or a line says that all of them do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import ConfigError
from neuromas.network.textgrid import Grid
from neuromas.network.topology import Topology

SOURCE = "question"
MARK = "?"  # on nodes behind the first layer that read the question too, where not all do
MAX_TEXT_WIDTH = 160  # columns; wider networks are listed instead of drawn


# -- text -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Net:
    """Senders of one layer with the same readers: one line, which runs down a lane of its own past further layers."""

    layer: int  # the senders'; 0 is the question's
    senders: tuple[str, ...]
    readers: dict[int, list[str]]  # by layer
    lane: int  # column for the way past further layers

    @property
    def last(self) -> int:
        return max(self.readers)


def to_text(topology: Topology, labels: Mapping[str, str] | None = None) -> str:
    """Boxes and lines, layer under layer; one row of lines for every distinct set of readers.

    Lines that only cross are drawn broken (`─│─`), lines that meet are joined (`┼ ┬ ┴`). `labels` maps node ids
    to a second line in their box.
    """
    labels = labels or {}
    width = max(len(line) for n in topology.nodes for line in (_mark(topology, n) + n, labels.get(n, ""))) + 4
    width += 1 - width % 2
    sheet = max(len(row) for row in topology.layers) * (width + 3)
    nets = _nets(topology, sheet)
    if max([sheet, *(net.lane for net in nets if net.last > net.layer + 1)]) > MAX_TEXT_WIDTH:
        return _listing(topology)
    centre = _centres(topology, sheet)
    grid = Grid()
    grid.text(centre[SOURCE] - len(SOURCE) // 2, 0, SOURCE)
    y = 1
    for depth, layer in enumerate(topology.layers, start=1):
        y = _wire(grid, nets, depth, centre, y)
        rows = 2 if any(n in labels for n in layer) else 1
        for node in layer:
            lines = [_mark(topology, node) + node, labels.get(node, "")][:rows]
            grid.box(centre[node] - width // 2, y, width, lines)
        for net in nets:
            if net.layer < depth < net.last:
                grid.vertical(net.lane, y - 1, y + rows + 2)
        y += rows + 2
    return f"{grid}\n{legend(topology)}"


def legend(topology: Topology) -> str:
    """One line: who reads the question."""
    if topology.question == topology.nodes:
        return "every node reads the question" if topology.calls > 1 else "one node, no messages"
    later = any(topology.parents(n) for n in topology.question)
    return f"{MARK} also reads the question" if later else "only the first layer reads the question"


def _mark(topology: Topology, node: str) -> str:
    partial = topology.question != topology.nodes
    return f"{MARK} " if partial and topology.sees_question(node) and topology.parents(node) else ""


def _nets(topology: Topology, sheet: int) -> list[_Net]:
    groups: dict[tuple[int, tuple[str, ...]], list[str]] = {(0, topology.layers[0]): [SOURCE]}
    for node in topology.nodes:
        if readers := topology.children(node):
            groups.setdefault((topology.position(node).layer, readers), []).append(node)
    nets: list[_Net] = []
    for (layer, readers), senders in groups.items():
        by_layer: dict[int, list[str]] = {}
        for reader in readers:
            by_layer.setdefault(topology.position(reader).layer, []).append(reader)
        long = sum(net.last > net.layer + 1 for net in nets)
        nets.append(_Net(layer, tuple(senders), by_layer, sheet + 1 + 3 * long))
    return nets


def _centres(topology: Topology, sheet: int) -> dict[str, int]:
    """Column of every node, spread evenly over the sheet; even, so that other lines can use the odd ones."""
    centres = {SOURCE: round(sheet / 4) * 2}
    for layer in topology.layers:
        centres |= {n: round(sheet * (i + 0.5) / len(layer) / 2) * 2 for i, n in enumerate(layer)}
    return centres


def _wire(grid: Grid, nets: list[_Net], depth: int, centre: Mapping[str, int], y: int) -> int:
    """Lines into layer `depth`, starting at height `y`; returns the height of its boxes."""
    buses: dict[tuple[int, ...], list[int]] = {}  # columns that a line leads to → columns that it comes from
    passing: list[int] = []
    for net in (n for n in nets if n.layer < depth <= n.last):
        starts = [centre[n] for n in net.senders] if net.layer == depth - 1 else [net.lane]
        stops = [centre[n] for n in net.readers.get(depth, [])] + ([net.lane] if net.last > depth else [])
        if starts == stops == [net.lane]:
            passing.append(net.lane)
        else:
            buses.setdefault(tuple(stops), []).extend(starts)
    bottom = y + len(buses)
    for bus, (stops, starts) in enumerate(buses.items(), start=y):
        ends = [x + (len(buses) > 1 and x in centre.values()) for x in stops]  # odd columns keep clear of the starts
        grid.horizontal(min(starts + ends), max(starts + ends), bus)
        for x in starts:
            grid.vertical(x, y - 1, bus)
        for x in ends:
            grid.vertical(x, bus, bottom)
    for x in passing:
        grid.vertical(x, y - 1, bottom)
    return bottom


def _listing(topology: Topology) -> str:
    """One line a layer, for networks too wide to draw."""
    lines = [f"{topology.name}: {topology.calls} nodes, {len(topology.edges)} edges, {legend(topology)}"]
    for depth, layer in enumerate(topology.layers, start=1):
        names = f"{layer[0]}" if len(layer) == 1 else f"{layer[0]} … {layer[-1]}"
        edges = sum(len(topology.parents(n)) for n in layer)
        lines.append(f"  layer {depth:>4}   {len(layer):>5} × {names}   ({edges} edges in)")
    return "\n".join(lines)


# -- Mermaid --------------------------------------------------------------------------------------------------


def to_mermaid(topology: Topology, labels: Mapping[str, str] | None = None) -> str:
    """A Mermaid flow chart, as Markdown renderers draw it; question edges are dotted."""
    labels = labels or {}
    key = {n: f"n{i}" for i, n in enumerate(topology.nodes)}
    lines = ["flowchart LR", f"  q([{SOURCE}])"]
    for node in topology.nodes:
        text = f"{node}<br/>{labels[node]}" if node in labels else node
        lines.append(f'  {key[node]}(["{text}"])' if node == topology.output else f'  {key[node]}["{text}"]')
    lines += [f"  q -.-> {key[n]}" for n in topology.question]
    lines += [f"  {key[a]} --> {key[b]}" for a, b in topology.edges]
    return "\n".join(lines)


# -- SVG and PNG ----------------------------------------------------------------------------------------------


def save(topology: Topology, path: str | Path, **options: Any) -> Path:
    """Writes .svg, .png, .pdf (`options`: those of `to_figure`), .mmd (Mermaid) or .txt; returns the path."""
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in {".svg", ".png", ".pdf", ".mmd", ".txt"}:
        raise ConfigError(
            f"picture {str(path)!r}: {kind or 'no ending'} is unknown; use .svg, .png, .pdf, .mmd or .txt"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in {".mmd", ".txt"}:
        path.write_text((to_mermaid if kind == ".mmd" else to_text)(topology, options.get("labels")) + "\n", "utf-8")
    else:
        from neuromas.network.figure import to_figure  # matplotlib is imported late

        to_figure(topology, **options).savefig(path, dpi=200)
    return path
