"""A pass in which nodes or edges do not exist: who speaks, what the others read, and that nothing else changes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from helpers import forward, make_backbone, make_network, questions
from neuromas.errors import TopologyError
from neuromas.network import forward as forward_pass
from neuromas.network.forward import Limits, Network
from neuromas.network.topology import Topology, Unit
from neuromas.types import Trace

GROWN: list[tuple[Any, list[Unit], str]] = [  # a topology, what is left out, what is left
    ("2", ["1.2"], "1"),
    ("2-2-2", ["1.2", "2.2", "3.1", "3.2"], "1-1"),
    ("1-1-1", ["3.1"], "1-1"),
    ("1-1+skip", [("1.1", "out")], "1-1"),
    ("2-2", ["1.1", "1.2", "2.1", "2.2"], "single"),
]
SHAPES: list[list[Unit]] = [[], ["1.2"], ["2.1", "2.2"], ["1.1", "1.2", "2.1", "2.2"]]  # ways to leave parts of 2-2 out


def taken_from(network: Network, topology: Topology) -> Network:
    """A network whose nodes have the adapters that nodes of the same ids have in `network`."""
    other = make_network(topology, network.backbone)
    rows = [network.adapters.index[node] for node in topology.nodes]
    with torch.no_grad():
        for mine, theirs in zip(other.adapters.stacks(), network.adapters.stacks(), strict=True):
            mine.copy_(theirs[rows])
    return other


def comparable(trace: Trace) -> dict[str, Any]:
    return trace.to_dict() | {"seconds": 0.0}


def one_of_four(question: str, rollout: int) -> list[Unit]:
    return SHAPES[(int(question[1:]) + rollout) % 4]


@pytest.mark.parametrize("style", ["compact", "plain"])
@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize(("whole", "absent", "rest"), GROWN)
def test_what_is_left_answers_exactly_as_a_network_without_the_absent_parts(whole, absent, rest, greedy, style) -> None:
    network = make_network(whole, make_backbone(style=style))
    smaller = taken_from(network, Topology.parse(rest))
    mine, other = (
        n.answer(questions(3), greedy=greedy, rollouts=3, seed=5, **how)
        for n, how in ((network, {"absent": absent}), (smaller, {}))
    )
    assert [comparable(t) for t in mine] == [comparable(t) for t in other]
    assert [t.answer for t in mine] != [
        t.answer for t in network.answer(questions(3), greedy=greedy, rollouts=3, seed=5)
    ]


@pytest.mark.parametrize("style", ["compact", "plain"])
def test_rows_of_one_batch_may_lack_different_parts_and_do_not_disturb_each_other(style) -> None:
    network = make_network("2-2", make_backbone(style=style))
    network.limits = Limits(message_tokens=3, answer_tokens=6)
    mixed = forward(network, questions(4), rollouts=4, seed=1, absent=one_of_four)
    alone = [forward(network, questions(4), rollouts=4, seed=1, absent=units) for units in SHAPES]
    for row, trace in enumerate(mixed):
        expected = alone[(row // 4 + row % 4) % 4][row]
        said = lambda t: [(c.node, c.prefix_ids, c.own_ids, c.completion_ids, c.text) for c in t.calls]
        assert said(trace) == said(expected)
        logprobs = lambda t: [x for c in t.calls for x in c.logprobs]
        assert logprobs(trace) == pytest.approx(logprobs(expected), abs=1e-5)
        assert (trace.answer, trace.sequential_calls, trace.sequential_tokens) == (
            expected.answer, expected.sequential_calls, expected.sequential_tokens,
        )  # fmt: skip
    assert {len(t.calls) for t in mixed} == {1, 3, 4, 5}


def test_a_batch_takes_one_pass_a_layer_of_its_deepest_row_and_reads_equal_prefixes_once(monkeypatch) -> None:
    passes: list[list[Any]] = []
    real: Callable[..., Any] = forward_pass.generate
    monkeypatch.setattr(
        forward_pass,
        "generate",
        lambda b, a, groups, *rest, **how: passes.append(groups) or real(b, a, groups, *rest, **how),
    )
    network = make_network("2-2")
    forward(network, questions(4), rollouts=4, seed=1, absent=one_of_four)
    assert len(passes) == 3
    assert [sum(len(g.own_ids) for g in groups) for groups in passes] == [20, 16, 16]
    for groups in passes:
        seen = [(g.adapter, tuple(g.prefix_ids)) for g in groups]
        assert len(seen) == len(set(seen))


def test_what_a_network_does_not_have_or_cannot_lack_is_refused() -> None:
    network = make_network("1-1")
    for absent in (["out"], ["9.9"], [("1.1", "out")]):
        with pytest.raises(TopologyError):
            forward(network, questions(1), rollouts=1, seed=0, absent=absent)
