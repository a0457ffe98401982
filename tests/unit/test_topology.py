"""Topology: what specs mean, what the structure says, what is refused and how, and what leaving nodes out does."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromas.errors import TopologyError
from neuromas.network.topology import Topology

DIAMOND = {"nodes": {"a": [], "b": ["a"], "c": ["a"], "end": ["a", "b", "c"]}, "output": "end", "question": "first"}


@st.composite
def graphs(draw: st.DrawFn) -> Topology:
    """Any valid DAG of up to 8 nodes, declared in any order."""
    n = draw(st.integers(1, 8))
    ids = [f"n{i}" for i in range(n)]
    upstream = {node: [p for p in ids[:i] if draw(st.booleans())] for i, node in enumerate(ids)}
    for i, node in enumerate(ids[:-1]):
        if not any(node in upstream[later] for later in ids[i + 1 :]):
            upstream[ids[-1]].append(node)
    question = [node for node in ids if not upstream[node] or draw(st.booleans())]
    return Topology.build({node: upstream[node] for node in draw(st.permutations(ids))}, ids[-1], question)


layered_names = st.builds(
    lambda widths, groups, suffix: (
        ("-".join(str(width * groups) for width in widths) or "single") + (f"/{groups}" if widths else "") + suffix
    ),
    st.lists(st.integers(1, 4), max_size=4),
    st.integers(1, 3),
    st.sampled_from(["", "@first", "+skip", "@first+skip"]),
)


# -- what specs mean ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("single", [["out"]]),
        ("", [["out"]]),
        ([], [["out"]]),
        ("NeuroMAS-1", [["out"]]),
        ("NeuroMAS-3", [["1.1"], ["2.1"], ["out"]]),
        ([1, 1], [["1.1"], ["2.1"], ["out"]]),
        ("neuromas-5", [["1.1", "1.2"], ["2.1", "2.2"], ["out"]]),
        ("2-2", [["1.1", "1.2"], ["2.1", "2.2"], ["out"]]),
        ({"hidden": [2, 2]}, [["1.1", "1.2"], ["2.1", "2.2"], ["out"]]),
        ("NeuroMAS-7", [["1.1", "1.2"], ["2.1", "2.2"], ["3.1", "3.2"], ["out"]]),
        ("3-1", [["1.1", "1.2", "1.3"], ["2.1"], ["out"]]),
        ("2/1", [["1.1", "1.2"], ["out"]]),
    ],
)
def test_layered_specs_give_these_layers(spec: Any, layers: list[list[str]]) -> None:
    topology = Topology.parse(spec)
    assert [list(row) for row in topology.layers] == layers
    assert topology.calls == sum(map(len, layers))


def test_only_adjacent_layers_connect_by_default() -> None:
    topology = Topology.parse("2-2")
    assert topology.parents("1.1") == ()
    assert topology.parents("2.1") == ("1.1", "1.2")
    assert topology.parents("out") == ("2.1", "2.2")
    assert topology.children("1.2") == ("2.1", "2.2")
    assert topology.children("out") == ()


@pytest.mark.parametrize("spec", ["4-2/2", {"hidden": [4, 2], "groups": 2}])
def test_nodes_of_a_group_read_that_group_alone_and_the_output_reads_all(spec: Any) -> None:
    topology = Topology.parse(spec)
    read = {node: list(topology.parents(node)) for node in topology.nodes if topology.parents(node)}
    assert read == {"2.1": ["1.1", "1.2"], "2.2": ["1.3", "1.4"], "out": ["2.1", "2.2"]}
    assert topology.name == "4-2/2"
    assert topology.question == topology.nodes


def test_groups_may_skip_layers_and_hide_the_question() -> None:
    topology = Topology.parse("2-2-2/2@first+skip")
    assert topology.parents("3.2") == ("1.2", "2.2")
    assert topology.parents("out") == topology.nodes[:-1]
    assert topology.question == ("1.1", "1.2")
    assert topology.name == "2-2-2/2@first+skip"


def test_skip_lets_every_node_read_all_layers_before() -> None:
    topology = Topology.parse("1-2+skip")
    assert topology.parents("out") == ("1.1", "2.1", "2.2")
    assert topology.parents("2.2") == ("1.1",)


@pytest.mark.parametrize(
    ("spec", "readers"),
    [
        ("1-1", ["1.1", "2.1", "out"]),
        ("1-1@all", ["1.1", "2.1", "out"]),
        ("1-1@first", ["1.1"]),
        ("1-1@1.1,out", ["1.1", "out"]),
        ("1-1@first+skip", ["1.1"]),
        ("1-1+skip@first", ["1.1"]),
        ({"hidden": [1, 1], "question": "first"}, ["1.1"]),
        ({"hidden": [1, 1], "question": ["1.1", "2.1"]}, ["1.1", "2.1"]),
    ],
)
def test_question_edges_are_part_of_the_spec(spec: Any, readers: list[str]) -> None:
    topology = Topology.parse(spec)
    assert [n for n in topology.nodes if topology.sees_question(n)] == readers


def test_files_and_mappings_describe_any_graph(tmp_path: Path) -> None:
    expected = Topology.parse(DIAMOND)
    assert expected.layers == (("a",), ("b", "c"), ("end",))
    (tmp_path / "t.json").write_text(json.dumps(DIAMOND))
    (tmp_path / "t.toml").write_text(
        'output = "end"\nquestion = "first"\n[nodes]\nc = ["a"]\na = []\nb = ["a"]\nend = ["a", "b", "c"]\n'
    )
    (tmp_path / "list.json").write_text("[2, 2]")
    assert Topology.parse(tmp_path / "t.json") == expected
    assert Topology.parse(str(tmp_path / "t.json")) == expected
    assert set(Topology.parse(tmp_path / "t.toml").edges) == set(expected.edges)
    assert Topology.parse(tmp_path / "list.json") == Topology.parse("2-2")


def test_output_is_found_where_only_one_node_has_no_reader() -> None:
    assert Topology.parse({"nodes": {"a": [], "b": ["a"]}}).output == "b"


def test_position_says_where_a_node_stands() -> None:
    at = Topology.parse("2-3@first").position("2.2")
    assert (at.id, at.layer, at.index, at.width, at.depth) == ("2.2", 2, 2, 3, 3)
    assert (at.upstream, at.downstream, at.sees_question) == (("1.1", "1.2"), ("out",), False)
    assert Topology.parse("single").position("out").is_output


@given(layered_names)
def test_names_of_layered_networks_parse_back(spec: str) -> None:
    topology = Topology.parse(spec)
    assert not topology.name.startswith("dag")
    assert Topology.parse(topology.name) == topology


@given(graphs())
def test_records_survive_json_exactly(topology: Topology) -> None:
    again = Topology.from_dict(json.loads(json.dumps(topology.to_dict())))
    assert again == topology
    assert hash(again) == hash(topology)
    assert again.name == topology.name


@given(graphs())
def test_structure_is_consistent_for_any_graph(topology: Topology) -> None:
    layer = {n: topology.position(n).layer for n in topology.nodes}
    assert [n for row in topology.layers for n in row] == list(topology.nodes)
    assert topology.layers[-1] == (topology.output,)
    for node in topology.nodes:
        parents = topology.parents(node)
        assert layer[node] == 1 + max((layer[p] for p in parents), default=0)
        assert all(node in topology.children(p) for p in parents)
        assert list(parents) == sorted(parents, key=topology.nodes.index)
        assert parents or topology.sees_question(node)
    assert sum(len(topology.children(n)) for n in topology.nodes) == len(topology.edges)


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "value", "remedy"),
    [
        ("NeuroMAS-4", "NeuroMAS-4", "NeuroMAS-5"),
        ("2-0-2", "width 0 in [2, 0, 2]", "leave the layer out"),
        ([2, -1], "-1", "leave the layer out"),
        ([True], "True", "2-2"),
        ([1.5], "1.5", "2-2"),
        ("2,2", "2,2", '"2-2"'),
        ("wide", "wide", "NeuroMAS-5"),
        ("2-2@nobody", "'nobody'", "'1.1'"),
        ("2-2@", "'@'", "@first"),
        ("2-2+jump", "+jump", "+skip"),
        ("6-4/4", "4 groups", "divides each"),
        ("4-2/0", "0 groups", "divides each"),
        ("single/2", "2 groups", "divides each"),
        ("2-2/", "2-2/", "NeuroMAS-5"),
        ("2-2/two", "2-2/two", "NeuroMAS-5"),
        ({"hidden": [2], "groups": "2"}, "'2'", "whole number"),
        ("1-1@out", "'1.1' has no input", "add '1.1' to `question`"),
        ("9999", "10000 nodes", "fewer"),
        ("5000-4000", "20004000 edges", "narrower"),
        ("9" * 5000, "9999", "2-2"),
        ("missing.json", "missing.json", "check the path"),
        ({"nodes": {}}, "without nodes", "single"),
        ({"nodes": {"x": ["c"], "a": [], "b": ["a", "c"], "c": ["b"]}}, "cycle: c → b → c", "remove one"),
        ({"nodes": {"a": ["a"]}}, "'a' reads its own", "remove 'a'"),
        ({"nodes": {"a": ["ghost"]}}, "'ghost'", "the nodes are 'a'"),
        ({"nodes": {"a": [], "b": ["a", "a"]}}, "'a' upstream twice", "once"),
        ({"nodes": [{"id": "a"}, {"id": "a"}]}, "'a' is declared twice", "another id"),
        ({"nodes": {"a": [], "b": []}}, "'a', 'b'", 'output = "a"'),
        ({"nodes": {"a": [], "b": []}, "output": "b"}, "from 'a' to the output 'b'", "read 'a'"),
        ({"nodes": {"a": [], "b": ["a"]}, "output": "a"}, "'a' is read by 'b'", "remove 'a'"),
        ({"nodes": {"a": []}, "output": "z"}, "'z'", "the nodes are 'a'"),
        ({"nodes": {"a": [], "b": ["a"]}, "question": ["b"]}, "'a' has no input", "add 'a'"),
        ({"nodes": {"a": []}, "question": "some"}, "'some'", '"first"'),
        ({"nodes": {"a b": []}}, "'a b'", "A-Z"),
        ({"nodes": {"question": []}}, "'question'", "none of the words"),
        ({"nodes": {"a": "b"}}, "'b'", "list of node ids"),
        ({"nodes": [{"name": "a"}]}, "name", '"id"'),
        ({"nodes": {"a": []}, "skip": True}, "'skip'", "nodes, output, question"),
        ({"widths": [2]}, "'widths'", "hidden"),
    ],
)
def test_refusals_name_the_value_and_the_remedy(spec: Any, value: str, remedy: str) -> None:
    with pytest.raises(TopologyError) as caught:
        Topology.parse(spec)
    assert value in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("t.json", '{"nodes": {"a": [], "a": []}}', "'a' is declared twice"),
        ("t.json", '{"nodes": ', "not valid JSON"),
        ("t.toml", "nodes = {", "not valid TOML"),
        ("t.json", '"2-2"', "command line"),
        ("t.json", "7", "holds 7"),
    ],
)
def test_files_that_make_no_sense_are_refused_by_name(tmp_path: Path, name: str, text: str, value: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TopologyError) as caught:
        Topology.parse(tmp_path / name)
    assert value in str(caught.value)


def test_unknown_node_is_refused_by_every_question_about_it() -> None:
    topology = Topology.parse("1")
    for ask in (topology.parents, topology.children, topology.sees_question, topology.position):
        with pytest.raises(TopologyError, match="'9.9'"):
            ask("9.9")


def test_deep_networks_need_no_recursion() -> None:
    topology = Topology.parse("-".join(["1"] * 5000))
    assert len(topology.layers) == 5001


# -- leaving nodes out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grown", "added", "parent"),
    [
        ("2-2-2", ["3.1", "3.2"], "2-2"),
        ("2-3", ["2.3"], "2-2"),
        ("3-2", ["1.3"], "2-2"),
        ("3-3-1", ["1.3", "2.3", "3.1"], "2-2"),
        ("2-2@first", ["2.1", "2.2"], "2@first"),
        ("1-1", ["1.1", "2.1"], "single"),
        ("2-2", [], "2-2"),
        ("1-1-1+skip", ["3.1"], "1-1+skip"),
    ],
)
def test_leaving_out_what_growth_added_gives_the_parent_back(grown: str, added: list[str], parent: str) -> None:
    effective = Topology.parse(grown).without(added)
    expected = Topology.parse(parent)
    assert effective.edges == expected.edges
    assert [effective.position(n) for n in effective.nodes] == [expected.position(n) for n in expected.nodes]


def test_an_inserted_layer_is_bypassed_and_other_ids_stay() -> None:
    grown = Topology.build({"1.1": [], "new.1": ["1.1"], "new.2": ["1.1"], "2.1": ["new.1", "new.2"], "out": ["2.1"]})
    assert grown.without(["new.1", "new.2"]) == Topology.parse("1-1")
    assert grown.without(["new.1"]).parents("2.1") == ("new.2",)


def test_a_node_whose_readers_are_all_gone_is_read_by_the_next_ones() -> None:
    grown = Topology.build({"a": [], "b": [], "x": ["a"], "out": ["b", "x"]})
    assert grown.without(["x"]).parents("out") == ("a", "b")


def test_a_node_that_lost_all_whom_it_read_reads_the_nearest_before_them() -> None:
    grown = Topology.build({"a": [], "d": ["a"], "x": ["a"], "c": ["x"], "out": ["c", "d"]})
    assert grown.without(["x"]).parents("c") == ("a",)


def test_a_gone_node_with_remaining_siblings_is_not_bypassed() -> None:
    assert Topology.parse("2-2").without(["2.1"]).edges == (("1.1", "2.2"), ("1.2", "2.2"), ("2.2", "out"))


def test_an_edge_left_out_has_no_substitute_and_one_to_the_question_can_go_too() -> None:
    skip = Topology.parse("1-1+skip")
    assert skip.without([("1.1", "out")]) == Topology.parse("1-1")
    assert skip.without([("question", "2.1"), ("question", "out")]).question == ("1.1",)
    assert skip.without(["2.1", ("1.1", "2.1")]) == Topology.parse("1")


def test_an_edge_is_left_out_before_nodes_are_bypassed() -> None:
    grown = Topology.build({"1.1": [], "2.1": ["1.1"], "3.1": ["2.1"], "out": ["1.1", "3.1"]})
    assert grown.without(["3.1", ("1.1", "out")]) == Topology.parse("1-1")


def test_leaving_out_refuses_what_cannot_run() -> None:
    with pytest.raises(TopologyError, match="output and cannot be left out"):
        Topology.parse("1").without(["out"])
    with pytest.raises(TopologyError, match="neither the question nor a node to read"):
        Topology.parse("1-1@first").without(["1.1"])
    with pytest.raises(TopologyError, match="'9.9'"):
        Topology.parse("1").without(["9.9"])
    with pytest.raises(TopologyError, match=r"no edge leads from '1.1' to 'out', which reads '2.1', 'question'"):
        Topology.parse("1-1").without([("1.1", "out")])
    with pytest.raises(TopologyError, match=r"no path leads from '1.1'"):
        Topology.parse("1-1").without([("1.1", "2.1")])


@settings(max_examples=200)
@given(graphs(), st.data())
def test_leaving_out_hidden_nodes_keeps_order_and_output(topology: Topology, data: st.DataObject) -> None:
    topology = Topology.build(dict(zip(topology.nodes, topology.upstream, strict=True)), topology.output, "all")
    hidden = [n for n in topology.nodes if n != topology.output]
    gone = data.draw(st.sets(st.sampled_from(hidden))) if hidden else set[str]()
    effective = topology.without(gone)
    assert set(effective.nodes) == set(topology.nodes) - gone
    assert effective.output == topology.output
    kept_edges = {(a, b) for a, b in topology.edges if a not in gone and b not in gone}
    assert kept_edges <= set(effective.edges)
