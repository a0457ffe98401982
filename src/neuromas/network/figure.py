"""A topology as a matplotlib figure. It is imported late, since matplotlib is."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from neuromas.network.topology import Topology

INK, LINE, PAPER = "#1f2933", "#7b8794", "#ffffff"
NODE, OUTPUT, QUESTION = "#dbe9f6", "#ffe3b8", "#bfe3a8"
STEP_X, STEP_Y = 1.9, 1.0  # distances between layers and between nodes of one
WIDE, TALL = 1.0, 0.56  # a node's box
SCALE = 0.9  # inches a unit

At = tuple[float, float]


def to_figure(
    topology: Topology,
    *,
    labels: Mapping[str, str] | None = None,
    values: Mapping[str, float] | None = None,
    edge_widths: Mapping[tuple[str, str], float] | None = None,
    title: str | None = None,
) -> Figure:
    """The topology with messages flowing from left to right.

    `labels` adds a line below a node's id, `values` shades nodes from 0 to the largest, `edge_widths` (in points) draws
    single edges thinner or thicker than the default of 1.2.
    """
    labels, edge_widths = labels or {}, edge_widths or {}
    places = _places(topology)
    badges = [n for n in topology.question if topology.parents(n)]
    high = max(y for _, y in places.values()) + TALL / 2 + 0.2
    above, below = _overhang(topology, places)
    x0, x1 = -WIDE * 0.7, len(topology.layers) * STEP_X + WIDE * 0.7
    y0, y1 = -high - below - (0.35 if badges else 0.0), high + above + (0.4 if title else 0.0)
    figure = Figure(figsize=(min(x1 - x0, 30.0) * SCALE, min(y1 - y0, 30.0) * SCALE), facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(x0, x1)
    axes.set_ylim(y0, y1)
    for node in topology.layers[0]:
        _arrow(axes, (0.0, 0.0), places[node], 0.0, 1.0, dotted=True)
    for sender, reader in topology.edges:
        bend = _bend(topology, places, sender, reader)
        _arrow(axes, places[sender], places[reader], bend, edge_widths.get((sender, reader), 1.2))
    _box(axes, (0.0, 0.0), "question", "", QUESTION, rounding=0.28)
    shades = _shades(values or {})
    for node in topology.nodes:
        colour = shades.get(node, OUTPUT if node == topology.output else NODE)
        _box(axes, places[node], node, labels.get(node, ""), colour, rounding=0.1)
    for node in badges:
        _badge(axes, (places[node][0] - WIDE / 2 + 0.04, places[node][1] + TALL / 2 - 0.04))
    if badges:
        _badge(axes, (x0 + 0.25, y0 + 0.22))
        axes.text(x0 + 0.4, y0 + 0.22, "also reads the question", va="center", fontsize=8, color=INK)
    if title:
        axes.text((x0 + x1) / 2, y1 - 0.3, title, ha="center", va="center", fontsize=12, color=INK)
    return figure


def _places(topology: Topology) -> dict[str, At]:
    return {
        node: (depth * STEP_X, ((len(layer) - 1) / 2 - i) * STEP_Y)
        for depth, layer in enumerate(topology.layers, start=1)
        for i, node in enumerate(layer)
    }


def _bend(topology: Topology, places: Mapping[str, At], sender: str, reader: str) -> float:
    """Curvature of an edge: straight to the next layer, around the nodes in between for a longer way.

    Positive hangs below (edges of the lower half), negative stands above.
    """
    span = topology.position(reader).layer - topology.position(sender).layer
    upper = places[sender][1] + places[reader][1] > 0
    return 0.0 if span == 1 else (-1 if upper else 1) * (0.28 + 0.02 * min(span, 8))


def _overhang(topology: Topology, places: Mapping[str, At]) -> At:
    """Room above and below the boxes for curved edges; a curve is half as deep as its bend times its length."""
    depths = [0.0]
    for sender, reader in topology.edges:
        length = places[reader][0] - places[sender][0]
        depths.append(_bend(topology, places, sender, reader) * length / 2)
    return max(0.0, -min(depths)), max(0.0, max(depths))


def _arrow(axes: Any, start: At, end: At, bend: float, points: float, dotted: bool = False) -> None:
    side = TALL / 2 * ((bend < 0) - (bend > 0))
    reach = WIDE * 0.3 if bend else WIDE / 2
    line = FancyArrowPatch(
        (start[0] + reach, start[1] + side),
        (end[0] - reach, end[1] + side),
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>",
        mutation_scale=9 + points,
        linewidth=points,
        linestyle=(0, (3.0, 2.0)) if dotted else "-",
        color=LINE,
        shrinkA=0,
        shrinkB=0,
        zorder=1,
    )
    axes.add_patch(line)


def _badge(axes: Any, at: At) -> None:
    axes.add_patch(Circle(at, 0.085, facecolor=QUESTION, edgecolor=INK, linewidth=0.9, zorder=4))


def _box(axes: Any, at: At, text: str, label: str, colour: Any, rounding: float) -> None:
    corner = (at[0] - WIDE / 2, at[1] - TALL / 2)
    style = f"round,pad=0,rounding_size={rounding}"
    axes.add_patch(
        FancyBboxPatch(corner, WIDE, TALL, boxstyle=style, facecolor=colour, edgecolor=INK, linewidth=1.1, zorder=2)
    )
    lift = 0.1 if label else 0.0
    axes.text(at[0], at[1] + lift, text, ha="center", va="center", fontsize=11, color=INK, zorder=3)
    if label:
        axes.text(at[0], at[1] - 0.13, label, ha="center", va="center", fontsize=8, color=INK, zorder=3)


def _shades(values: Mapping[str, float]) -> dict[str, Any]:
    """Light to dark from 0, or the smallest value where that is below 0, to the largest; light where all are 0."""
    low, high = min([0.0, *values.values()]), max([0.0, *values.values()])
    scale = mpl.colormaps["YlGnBu"]
    return {n: scale(0.05 + 0.55 * ((v - low) / (high - low) if high > low else 0.0)) for n, v in values.items()}
