"""Branches: they end as a pass with that one change would have ended, and call nobody who reads the same as before."""

from typing import Any

import pytest

from helpers import byte_tokenizer, forward, make_network, plain_model, questions
from neuromas.network.backbone import Backbone
from neuromas.network.branching import Branch, alternatives, withheld
from neuromas.network.forward import Network
from neuromas.network.generate import generate
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding, stream_key
from neuromas.network.turns import Ask, Rollout
from neuromas.types import Message, Question, Trace

TOPOLOGIES = ["2", "1-1", "2-2", "1-2+skip", "2-1@first"]
G, SAMPLED = 3, Decoding()


def passed(topology: str, **options: Any) -> tuple[Network, list[Question], list[Trace]]:
    # float64: in float32 other rows in the batch move a logit by 1e-7, and at times a draw lies that near to a border
    backbone = Backbone("fake", plain_model().double(), byte_tokenizer(), "compact")
    network = make_network(topology, backbone, **options)
    asked = questions(2)
    traces = forward(network, asked, rollouts=G, seed=4, step=9)
    return network, [q for q in asked for _ in range(G)], traces


def rolled(network: Network, rows: list[Question], traces: list[Trace], step: int, decoding: Decoding) -> list[Rollout]:
    """The rollouts of seed 4 that `traces` are the records of."""
    asks = [
        Ask(question, range(t.rollout, t.rollout + 1), 4, decoding, step)
        for question, t in zip(rows, traces, strict=True)
    ]
    return [Rollout.of(trace, ask, network.topology) for trace, ask in zip(traces, asks, strict=True)]


def said(calls: Any) -> list[tuple[str, list[int], list[int]]]:
    return sorted((c.node, c.prefix_ids + c.own_ids, c.completion_ids) for c in calls)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_withholding_a_message_ends_as_a_pass_in_which_it_was_blanked(topology: str) -> None:
    network, rows, traces = passed(topology)
    hidden = network.topology.nodes[:-1]
    silences = [(n,) for n in hidden] + [hidden]
    branches = withheld(network, rolled(network, rows, traces, 9, SAMPLED), silences)
    assert [(b.row, b.nodes) for b in branches] == [(r, s) for r in range(len(rows)) for s in silences]
    different = 0
    for k, silent in enumerate(silences):
        blanked = forward(network, rows[::G], rollouts=G, seed=4, step=9, blank=silent)
        for branch, trace, before in zip(branches[k :: len(silences)], blanked, traces, strict=True):
            assert branch.answer == trace.answer
            made = {c.node for c in branch.calls}
            assert said(branch.calls) == said(c for c in trace.calls if c.node in made)
            others = {c.node: c.text for c in before.calls if c.node not in made}
            assert all(others[c.node] == c.text for c in trace.calls if c.node in others and c.node not in silent)
            different += branch.answer != before.answer
    assert different > 3


def by_hand(network: Network, question: Question, trace: Trace, branch: Branch) -> dict[str, list[int]]:
    """The completion of every node, one row at a time, when the branching node says what it said in the branch."""
    (at,) = branch.nodes
    ids = {c.node: c.completion_ids for c in trace.calls} | {at: branch.calls[0].completion_ids}
    decode = network.backbone.template.decode
    limits = network.limits
    for node in network.topology.nodes[network.topology.nodes.index(at) + 1 :]:
        position = network.topology.position(node)
        heard = [Message(u, decode(ids[u])) for u in position.upstream]
        prompt = network.backbone.template.render(position, question, heard, reserve=limits.message_tokens)
        groups = [Group(network.adapters.index[node], prompt.prefix_ids, [prompt.own_ids])]
        key = stream_key(4, 9, question.id, trace.rollout, node)
        (reply,) = generate(network.backbone, network.adapters, groups, [key], limits.message_tokens, Decoding())
        ids[node] = reply.ids
    return ids


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_an_alternative_is_heard_downstream_and_nothing_else_changes(topology: str) -> None:
    network, rows, traces = passed(topology)
    hidden = network.topology.nodes[:-1]
    branches = alternatives(network, rolled(network, rows, traces, 9, SAMPLED), hidden, 2)
    assert len(branches) == len(rows) * len(hidden) * 2
    different = 0
    for branch in branches:
        trace = traces[branch.row]
        naive = by_hand(network, rows[branch.row], trace, branch)
        calls = {c.node: c for c in trace.calls} | {c.node: c for c in branch.calls}
        assert {n: c.completion_ids for n, c in calls.items()} == naive
        assert branch.answer == calls[network.topology.output].text
        first, own = branch.calls[0], next(c for c in trace.calls if c.node == branch.nodes[0])
        assert (first.node, first.prefix_ids, first.own_ids) == (own.node, own.prefix_ids, own.own_ids)
        different += first.completion_ids != own.completion_ids
    assert different > 0.8 * len(branches)


def test_draws_have_an_address_and_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network, rows, traces = passed("2-2")
    whole = alternatives(network, rolled(network, rows, traces, 9, SAMPLED), ["1.2", "2.1"], 2)
    alone = alternatives(network, rolled(network, rows[2:3], traces[2:3], 9, SAMPLED), ["2.1"], 2)
    same = [b for b in whole if b.row == 2 and b.nodes == ("2.1",)]
    assert [said(b.calls) for b in same] == [said(b.calls) for b in alone]
    firsts = {tuple(b.calls[0].completion_ids) for b in whole}
    assert len(firsts) > 0.9 * len(whole), "draws, rollouts, questions and nodes have streams of their own"
    sizes: list[int] = []
    sample = Network.sample
    monkeypatch.setattr(Network, "sample", lambda *a: sizes.append(len(a[2])) or sample(*a))
    object.__setattr__(network.limits, "batch_rows", 5)
    again = alternatives(network, rolled(network, rows, traces, 9, SAMPLED), ["1.2", "2.1"], 2)
    assert [said(b.calls) for b in again] == [said(b.calls) for b in whole]
    assert max(sizes) == 5


def test_nobody_is_called_again_who_reads_the_same_as_before() -> None:
    network, rows, traces = passed("2-2")
    for trace in traces:  # as if node 1.1 had said nothing
        trace.calls[0].text = ""
    assert all(not b.calls for b in withheld(network, rolled(network, rows, traces, 9, SAMPLED), [("1.1",)]))
    for branch in alternatives(network, rolled(network, rows, traces, 9, SAMPLED), ["2.1"], 1):
        unchanged = branch.calls[0].text == traces[branch.row].calls[2].text
        assert [c.node for c in branch.calls] == (["2.1"] if unchanged else ["2.1", "out"])


def test_a_message_that_comes_out_the_same_costs_nothing_downstream() -> None:
    network, rows, traces = passed("2-2")
    greedy = Decoding(greedy=True)
    traces = forward(network, rows[::G], rollouts=G, seed=4, decoding=greedy)
    for branch in alternatives(network, rolled(network, rows, traces, 0, greedy), ["1.1", "2.2"], 2):
        assert len(branch.calls) == 1
        assert branch.answer == traces[branch.row].answer
