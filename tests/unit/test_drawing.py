"""Drawings: what the terminal shows exactly, and that every node and edge gets into each kind of picture."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.errors import ConfigError
from neuromas.network.drawing import save, to_mermaid, to_text
from neuromas.network.figure import to_figure
from neuromas.network.topology import Topology

TWO_TWO = """
     question
   ┌─────┴─────┐
┌──┴──┐     ┌──┴──┐
│ 1.1 │     │ 1.2 │
└──┬──┘     └──┬──┘
   ├───────────┤
┌──┴──┐     ┌──┴──┐
│ 2.1 │     │ 2.2 │
└──┬──┘     └──┬──┘
   └─────┬─────┘
      ┌──┴──┐
      │ out │
      └─────┘
every node reads the question
"""

SKIP = """
question
    │
 ┌──┴──┐
 │ 1.1 │
 └──┬──┘
    ├──────┐
 ┌──┴──┐   │
 │ 2.1 │   │
 └──┬──┘   │
    ├──────┘
 ┌──┴──┐
 │ out │
 └─────┘
only the first layer reads the question
"""

SPARSE = """
     question
   ┌─────┴─────┐
┌──┴──┐     ┌──┴──┐
│  a  │     │  b  │
└──┬──┘     └──┬──┘
   └┬──────────│┐
    │          └┤
┌───┴─┐     ┌───┴─┐
│  c  │     │ ? d │
└──┬──┘     └──┬──┘
   └─────┬─────┘
      ┌──┴──┐
      │ end │
      └─────┘
? also reads the question
"""


def sparse() -> Topology:
    nodes = {"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "end": ["c", "d"]}
    return Topology.parse({"nodes": nodes, "question": ["a", "b", "d"]})


@pytest.mark.parametrize(
    ("topology", "picture"),
    [(Topology.parse("2-2"), TWO_TWO), (Topology.parse("1-1+skip@first"), SKIP), (sparse(), SPARSE)],
    ids=["dense", "skip", "sparse"],
)
def test_text_looks_exactly_like_this(topology: Topology, picture: str) -> None:
    assert to_text(topology) == picture.strip("\n")


@given(st.lists(st.integers(1, 4), max_size=5), st.booleans())
def test_text_shows_every_node_once_and_nothing_ragged(widths: list[int], skip: bool) -> None:
    topology = Topology.parse({"hidden": widths, "skip": skip})
    text = to_text(topology)
    assert all(text.count(f" {n} ") == 1 for n in topology.nodes)
    assert text.count("┌") >= topology.calls
    assert max(map(len, text.splitlines())) <= 170


def test_labels_stand_below_the_ids() -> None:
    lines = to_text(Topology.parse("1"), {"1.1": "+0.32"}).splitlines()
    assert [i for i, line in enumerate(lines) if "+0.32" in line] == [
        i + 1 for i, line in enumerate(lines) if "1.1" in line
    ]


def test_wide_networks_are_listed_not_drawn() -> None:
    text = to_text(Topology.parse("200-3"))
    assert "200 × 1.1 … 1.200" in text
    assert len(text.splitlines()) == 4


def test_mermaid_has_every_node_and_edge() -> None:
    topology = sparse()
    text = to_mermaid(topology, {"a": "+0.3"})
    assert text.count(" --> ") == len(topology.edges)
    assert text.count(" -.-> ") == len(topology.question)
    assert '["a<br/>+0.3"]' in text


def test_svg_has_every_node_label_and_title(tmp_path: Path) -> None:
    import matplotlib as mpl

    topology = sparse()
    with mpl.rc_context({"svg.fonttype": "none"}):
        save(topology, tmp_path / "net.svg", labels={"c": "+0.5"}, title="sparse")
    text = (tmp_path / "net.svg").read_text()
    assert all(f">{n}</text>" in text for n in (*topology.nodes, "question", "+0.5", "sparse"))


def test_edge_widths_and_values_change_the_figure() -> None:
    topology = Topology.parse("2-1")
    figure = to_figure(topology, values={"1.1": 0.0, "1.2": 1.0}, edge_widths={("1.1", "2.1"): 5.0})
    widths = [patch.get_linewidth() for patch in figure.axes[0].patches]
    assert 5.0 in widths


@pytest.mark.parametrize("name", ["net.png", "net.pdf", "net.mmd", "net.txt"])
def test_every_format_is_written(tmp_path: Path, name: str) -> None:
    assert save(Topology.parse("2-2"), tmp_path / name).stat().st_size > 50


def test_unknown_format_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.svg, \.png"):
        save(Topology.parse("1"), tmp_path / "net.bmp")
