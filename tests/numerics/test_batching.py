"""Batches are an implementation detail: what a node says depends on the question, never on its company."""

import pytest
import torch

from helpers import forward, make_backbone, make_network, questions, ragged_groups
from neuromas.network.generate import generate, replay
from neuromas.network.sampling import Decoding
from neuromas.types import Trace


def same(a: Trace, b: Trace) -> bool:
    """Equal tokens everywhere; log-probabilities within rounding."""
    for x, y in zip(a.calls, b.calls, strict=True):
        torch.testing.assert_close(torch.tensor(x.logprobs), torch.tensor(y.logprobs), atol=1e-5, rtol=1e-5)
    key = lambda t: [(c.node, c.prefix_ids, c.own_ids, c.completion_ids, c.text, c.truncated) for c in t.calls]
    return (a.question_id, a.rollout, a.answer, key(a)) == (b.question_id, b.rollout, b.answer, key(b))


@pytest.mark.parametrize("adapters", [(0, 0, 1, 2), (0, 1, 2), (2,), (1, 2)])
def test_one_pass_over_many_nodes_equals_passes_node_by_node(adapters: tuple[int, ...]) -> None:
    network = make_network("2")
    groups = ragged_groups(adapters)
    rows = sum(len(g.own_ids) for g in groups)
    together = generate(network.backbone, network.adapters, groups, range(rows), 7, Decoding())
    said = [c.ids for c in together]
    logprobs, entropies = replay(network.backbone, network.adapters, groups, said, 1.0)
    (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
    whole = [p.grad for p in network.adapters.stacks()]
    network.adapters.zero_grad(set_to_none=True)

    row = token = 0
    for group in groups:
        n = len(group.own_ids)
        alone = generate(network.backbone, network.adapters, [group], range(row, row + n), 7, Decoding())
        assert [c.ids for c in alone] == said[row : row + n]
        mine, ent = replay(network.backbone, network.adapters, [group], said[row : row + n], 1.0)
        torch.testing.assert_close(mine, logprobs[token : token + len(mine)], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ent, entropies[token : token + len(mine)], atol=1e-5, rtol=1e-5)
        (mine * torch.linspace(-1, 1, len(logprobs))[token : token + len(mine)]).sum().backward()
        row, token = row + n, token + len(mine)
    for a, b in zip(whole, (p.grad for p in network.adapters.stacks()), strict=True):
        assert a is not None
        assert b is not None
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-9


def test_equal_blocks_take_the_batched_product_to_the_same_numbers() -> None:
    """Nodes with equally many tokens go through one batched multiplication; it may not differ from the loop."""
    network = make_network("2")
    (group,) = ragged_groups((0,))
    groups = [type(group)(a, group.prefix_ids, group.own_ids) for a in range(3)]
    said = [[5, 6, 7]] * 9
    together, _ = replay(network.backbone, network.adapters, groups, said, 1.0)
    alone = [replay(network.backbone, network.adapters, [g], said[:3], 1.0)[0] for g in groups]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-2, "the nodes must differ for this to mean something"


@pytest.mark.parametrize("topology", ["2", "1-1+skip", {"b": [], "a": [], "c": ["a"], "end": ["a", "b", "c"]}])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_an_answer_is_the_same_alone_in_a_batch_and_in_any_order(topology, architecture: str) -> None:
    if isinstance(topology, dict):
        topology = {"nodes": topology, "output": "end"}
    network = make_network(topology, make_backbone(architecture))
    asked = questions(5)
    batch = forward(network, asked, rollouts=3, seed=4, step=9)
    turned = forward(network, asked[::-1], rollouts=3, seed=4, step=9)
    more = forward(network, asked[:2], rollouts=5, seed=4, step=9)
    for i, question in enumerate(asked):
        alone = forward(network, [question], rollouts=3, seed=4, step=9)
        for g in range(3):
            assert same(batch[3 * i + g], alone[g])
            assert same(batch[3 * i + g], turned[3 * (4 - i) + g])
            if i < 2:
                assert same(batch[3 * i + g], more[5 * i + g])


def test_seed_step_rollout_node_and_question_each_change_what_is_drawn() -> None:
    network = make_network("2", tokens=8)
    network.backbone.output.layer.weight.zero_()  # uniform whatever the prompt: only the draws can differ
    text = lambda **how: forward(network, questions(2), **({"rollouts": 2, "seed": 0, "step": 0} | how))
    said = lambda t: [c.completion_ids for c in t.calls]
    base = text()
    assert said(base[0]) == said(text()[0])
    assert said(base[0]) != said(text(seed=1)[0])
    assert said(base[0]) != said(text(step=1)[0])
    assert said(base[0]) != said(base[1])
    assert said(base[0]) != said(base[2])
    assert base[0].calls[0].completion_ids != base[0].calls[1].completion_ids


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_batch_rows_limits_memory_and_changes_no_answer(batch_rows: int) -> None:
    network = make_network("2")
    asked = questions(6)
    expected = forward(network, asked, rollouts=2, seed=3)
    network.limits = type(network.limits)(5, 5, batch_rows)
    for a, b in zip(network.answer(asked, greedy=False, seed=3, rollouts=2), expected, strict=True):
        assert same(a, b)


def test_greedy_answers_take_the_most_likely_token_and_ignore_the_seed() -> None:
    network = make_network("2")
    one, two = (network.answer(questions(3), greedy=True, seed=s) for s in (0, 1))
    assert all(same(a, b) for a, b in zip(one, two, strict=True))


def test_a_trace_is_a_faithful_record_of_the_pass() -> None:
    network = make_network("2-1")
    (trace,) = forward(network, questions(1), rollouts=1, seed=0)
    template = network.backbone.template
    assert [c.node for c in trace.calls] == list(network.topology.nodes)
    assert trace.sequential_calls == 3
    for call in trace.calls:
        assert call.text == template.decode(call.completion_ids)
        assert len(call.completion_ids) == len(call.logprobs) == len(call.entropies) <= 5
        assert call.truncated == (call.completion_ids[-1] not in network.backbone.end_ids)
        heard = template.decode(call.own_ids)
        for up in network.topology.parents(call.node):
            assert trace.message(up) in heard
    assert trace.answer == trace.message("out")
    with pytest.raises(KeyError, match="made no call"):
        trace.message("9.9")
