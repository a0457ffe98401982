"""Growing topologies: operators, and finding a parent in a larger network."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growing import connect, insert, widen
from neuromas.errors import TopologyError
from neuromas.network.growth import Growth, between
from neuromas.network.topology import Topology

SPARSE = {"nodes": {"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "end": ["c", "d"]}, "question": ["a", "b", "end"]}


def parse(spec) -> Topology:
    return Topology.parse(spec)


# -- operators --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grown", "expected"),
    [
        (widen(parse("1-1"), 1), "2-1"),
        (widen(parse("2-2"), 2, 3), "2-5"),
        (widen(parse("2-2@first"), 1, 2), "4-2@first"),
        (widen(parse("1-1+skip"), 1), "2-1+skip"),
        (insert(parse("2-2"), 2, 2), "2-2-2"),
        (insert(parse("single"), 0, 3), "3"),
        (insert(parse("1@first"), 1, 2), "1-2@first"),
        (connect(parse("1-1"), [("1.1", "out")]), "1-1+skip"),
        (connect(parse("1-1@first"), [("question", "2.1"), ("question", "out")]), "1-1"),
    ],
)
def test_an_operator_on_a_layered_network_gives_the_layered_network_that_is_larger(grown: Topology, expected: str):
    assert grown == parse(expected)


@pytest.mark.parametrize("after", [0, 1])
def test_a_layer_inserted_in_the_middle_leaves_ids_as_they_are_and_reads_and_is_read_as_a_layer(after: int) -> None:
    grown = insert(parse("2-2"), after, 1)
    assert [*map(len, grown.layers[:-1])] == [[1, 2, 2], [2, 1, 2]][after]
    assert grown.layers[after] == ("3.1",)
    assert grown.without(["3.1"]) == parse("2-2")


def test_an_edge_that_a_bypass_would_not_restore_stays_beside_the_new_layer() -> None:
    grown = insert(parse(SPARSE), 1, 1)  # c reads a alone, but a bypass of the new node would let it read b too
    assert grown.parents("c") == ("a", "1.1")
    assert grown.without(["1.1"]) == parse(SPARSE)


def test_a_widened_layer_of_a_sparse_graph_is_connected_to_all_its_layer_is() -> None:
    grown = widen(parse(SPARSE), 2)
    (new,) = set(grown.nodes) - set(parse(SPARSE).nodes)
    assert (grown.parents(new), grown.children(new), grown.sees_question(new)) == (("a", "b"), ("end",), False)


@pytest.mark.parametrize(
    ("grow", "named"),
    [
        (lambda: widen(parse("2-2"), 3), "layer 3 of 2-2 .* 1 to 2"),
        (lambda: widen(parse("2-2"), 1, 0), "widened by 0"),
        (lambda: insert(parse("2-2"), 3), "after layer 3 .* from 0 to 2"),
        (lambda: insert(parse("2-2"), 0, 0), "a layer of 0"),
        (lambda: connect(parse("1-1"), [("out", "1.1")]), "nothing may follow the answer|cycle"),
        (lambda: connect(parse("1-1"), [("1.1", "9.9")]), "no node '9.9'"),
        (lambda: connect(parse("1-1"), [("9.9", "out")]), "9.9"),
        (lambda: connect(parse("1-1"), [("1.1", "2.1")]), "twice"),
    ],
)
def test_an_operator_refuses_what_cannot_be(grow, named: str) -> None:
    with pytest.raises(TopologyError, match=named):
        grow()


# -- between two topologies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parent", "target", "operators"),
    [
        ("1-1", "2-2-2", ["widen layer 1 by 1", "widen layer 2 by 1", "insert layer 3 of 2"]),
        ("NeuroMAS-3", "NeuroMAS-5", ["widen layer 1 by 1", "widen layer 2 by 1"]),
        ("4-2", "8-4/2", ["widen layer 1 by 4", "widen layer 2 by 2"]),
        ("NeuroMAS-5", "NeuroMAS-7", ["insert layer 3 of 2"]),
        ("single", "8-4-2", ["insert layer 1 of 8", "insert layer 2 of 4", "insert layer 3 of 2"]),
        ("1-1", "1-1+skip", ["connect 1.1 to out"]),
        ("1-1@first", "1-1", ["connect question to 2.1", "connect question to out"]),
        ("1-1", "1-1-1+skip", ["insert layer 3 of 1", "connect 1.1 to out"]),
        (SPARSE, insert(widen(parse(SPARSE), 1), 2).to_dict(), ["widen layer 1 by 1", "insert layer 3 of 1"]),
        ("2-2", "2-2", []),
    ],
)
def test_what_lies_between_two_topologies_is_found_and_nodes_keep_their_ids(parent, target, operators) -> None:
    growth = between(parse(parent), parse(target))
    assert growth.topology == parse(target)
    assert list(growth.operators) == operators
    assert growth.mapping == {n: n for n in parse(parent).nodes}
    assert growth.topology.without(growth.units) == parse(parent)


def test_where_places_move_the_old_nodes_keep_their_ids_and_the_mapping_says_what_was_asked_for() -> None:
    growth = between(parse("2"), parse("1-2"))
    assert growth.mapping == {"1.1": "2.1", "1.2": "2.2", "out": "out"}
    assert growth.topology.layers == (("3.1",), ("1.1", "1.2"), ("out",))
    assert growth.nodes == ("3.1",)
    assert growth.topology.without(growth.units) == parse("2")


def test_another_name_of_the_output_is_only_a_name() -> None:
    growth = between(parse("1"), parse({"nodes": {"x": [], "y": [], "end": ["x", "y"]}}))
    assert growth.mapping == {"1.1": "x", "out": "end"}
    assert growth.topology.nodes == ("1.1", "y", "out")


@pytest.mark.parametrize(
    ("parent", "target"),
    [
        ("2", "1"),
        ("2-2", "2"),
        ("2-2", "4"),
        ("1", "1@1.1"),  # the output would lose the question
        ("1-1+skip", "1-1"),
        ({"nodes": {"a": [], "b": ["a"], "end": ["b"]}}, {"nodes": {"b": [], "a": [], "end": ["a", "b"]}}),
    ],
)
def test_a_target_that_does_not_contain_the_parent_is_refused_with_what_would_help(parent, target) -> None:
    with pytest.raises(TopologyError, match="does not contain .*; keep each layer at least as wide"):
        between(parse(parent), parse(target))


def test_in_a_large_network_the_parents_place_is_found_soon_or_it_is_refused_soon() -> None:
    found = between(parse([2] * 9), parse([1] * 10 + [2] * 20))
    assert [i for i, row in enumerate(found.topology.layers, 1) if not set(row) & found.units] == [*range(11, 20), 31]
    for parent, target in (([3] * 20, [2] * 60), ([2] * 19 + [3], [2] * 60)):
        with pytest.raises(TopologyError, match="does not contain"):
            between(parse(parent), parse(target))
    with pytest.raises(TopologyError, match="does not contain"):
        between(parse({"hidden": [2] * 5, "skip": True}), parse([2] * 30))


@settings(max_examples=100)
@given(st.lists(st.integers(1, 3), max_size=3), st.sampled_from(["all", "first"]), st.booleans(), st.data())
def test_any_sequence_of_operators_is_found_again(widths: list[int], question: str, skip: bool, data) -> None:
    parent = grown = parse({"hidden": widths, "question": question, "skip": skip})
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["widen", "insert", "connect"]))
        hidden = len(grown.layers) - 1
        if kind == "widen" and hidden:
            grown = widen(grown, data.draw(st.integers(1, hidden)), data.draw(st.integers(1, 2)))
        elif kind == "connect":
            free = [
                (a, b)
                for i, row in enumerate(grown.layers)
                for later in grown.layers[i + 1 :]
                for a in row
                for b in later
                if a not in grown.parents(b)
            ]
            grown = connect(grown, [data.draw(st.sampled_from(free))]) if free else grown
        else:
            grown = insert(grown, data.draw(st.integers(0, hidden)), data.draw(st.integers(1, 2)))
    growth: Growth = between(parent, grown)
    assert growth.topology == grown
    assert growth.topology.without(growth.units) == parent
    assert set(growth.nodes) == set(grown.nodes) - set(parent.nodes)
