"""A grown network is its parent as long as what is new is absent; and it learns as it should afterwards."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from growing import connect, insert, widen
from helpers import FirstCharacter, binary_backbone, make_backbone, make_network, questions
from neuromas.config import StageConfig, TrainConfig
from neuromas.errors import CheckpointError
from neuromas.network.forward import Network
from neuromas.network.growth import Growth, between
from neuromas.network.topology import Topology
from neuromas.results import StepMetrics
from neuromas.run.stages import Stage, absent
from neuromas.train.optimizer import NodeAdamW
from neuromas.train.step import train_step
from neuromas.train.transplant import Init, sibling, transplant

HALF = "".join(map(chr, range(64)))
PARENT = Topology.parse("2-1")
GROWN = {
    "widen": widen(PARENT, 1),
    "insert first": insert(PARENT, 0, 2),
    "insert between": insert(PARENT, 1, 2),
    "insert last": insert(PARENT, 2, 2),
    "connect": connect(PARENT, [("1.2", "out")]),
    "all of it": connect(insert(widen(widen(PARENT, 2, 2), 1), 2, 2), [("1.1", "out")]),
    "by name": Topology.parse("3-3-2"),
}


def grown(parent: Network, target: Any, init: Init = "fade") -> tuple[Network, Growth]:
    growth = between(parent.topology, Topology.parse(target))
    return transplant(parent, growth, init, seed=3), growth


def adapter(network: Network, node: str) -> list[Tensor]:
    return [stack[network.adapters.index[node]].detach().clone() for stack in network.adapters.stacks()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def closed(growth: Growth) -> Any:
    """What training takes for absent while alpha is 0."""
    stage = Stage(1, StageConfig(init="fade", anneal=10), growth.topology, growth)
    missing = absent(stage, 0, dropout=0.0, seed=0, step=1)
    assert callable(missing)
    return missing


# -- fade at 0 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["compact", "plain"])
@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("operator", GROWN)
def test_at_alpha_0_every_trace_of_a_grown_network_equals_its_parents(operator: str, greedy: bool, style: Any) -> None:
    parent = make_network(PARENT, make_backbone(style=style))
    child, growth = grown(parent, GROWN[operator])
    exact = lambda t: t.to_dict() | {"seconds": 0}
    ask: dict[str, Any] = {"greedy": greedy, "rollouts": 3, "seed": 5}
    mine = child.answer(questions(4), absent=closed(growth), **ask)
    assert list(map(exact, mine)) == list(map(exact, parent.answer(questions(4), **ask)))
    assert list(map(exact, mine)) != list(map(exact, child.answer(questions(4), **ask))), "alpha 1 says the same"


@pytest.mark.parametrize("style", ["compact", "plain"])
@pytest.mark.parametrize("greedy", [True, False])
def test_a_network_that_grew_twice_still_holds_both_that_it_was(greedy: bool, style: Any) -> None:
    """1-1 → 2-2 → 2-2-2."""
    first = make_network("1-1", make_backbone(style=style))
    second, once = grown(first, "2-2")
    third, twice = grown(second, "2-2-2", "noise")
    exact = lambda t: t.to_dict() | {"seconds": 0}
    said = lambda n, **how: [exact(t) for t in n.answer(questions(4), greedy=greedy, rollouts=2, seed=5, **how)]
    assert said(third, absent=closed(twice)) == said(second)
    assert said(third, absent=twice.units | once.units) == said(first)
    assert said(third) != said(second) != said(first)


@pytest.mark.parametrize("operator", GROWN)
def test_at_alpha_0_a_step_trains_old_nodes_as_in_the_parent_and_new_ones_not_at_all(operator: str) -> None:
    parent = make_network(PARENT)
    child, growth = grown(parent, GROWN[operator])
    new = {node: adapter(child, node) for node in growth.nodes}
    config = TrainConfig(questions=3, rollouts=4)
    metrics: list[StepMetrics] = []
    for network, how in ((parent, {}), (child, {"absent": closed(growth)})):
        optimizer = NodeAdamW(network.adapters, lr=1e-2, weight_decay=0.0)
        done = train_step(network, optimizer, FirstCharacter(HALF), questions(3), config, step=1, seed=0, **how)
        metrics.append(replace(done.metrics, seconds={}))
    per_node, of_child = (m.nodes for m in metrics)
    assert replace(metrics[0], nodes={}) == replace(metrics[1], nodes={})
    assert per_node.keys() == of_child.keys() == set(PARENT.nodes)
    for node in PARENT.nodes:
        # Sums over stacks of other sizes round differently.
        assert of_child[node].to_dict() == pytest.approx(per_node[node].to_dict())
        assert per_node[node].gradient_norm > 0
        for a, b in zip(adapter(child, node), adapter(parent, node), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert all(same(before, adapter(child, node)) for node, before in new.items())


# -- how new nodes begin ------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["fade", "zero", "copy", "noise"])
def test_old_nodes_keep_their_adapters_and_new_ones_begin_as_asked(init: Init) -> None:
    parent = make_network("2-1")
    child, growth = grown(parent, "3-3-2", init)
    assert growth.nodes == ("1.3", "2.2", "2.3", "3.1", "3.2")
    for node in parent.topology.nodes:
        assert same(adapter(parent, node), adapter(child, node))
    fresh = Network.create("3-3-2", parent.backbone, rank=3, seed=3)
    half = len(child.adapters.stacks()) // 2  # the As, then the Bs
    for node in growth.nodes:
        mine = adapter(child, node)
        if init == "copy":
            assert same(mine, adapter(parent, sibling(growth, node)))
            continue
        assert same(mine[:half], adapter(fresh, node)[:half]), "A is random, by seed and name"
        for B, stack in zip(mine[half:], parent.adapters.B.values(), strict=True):
            if init == "noise":
                assert B.square().mean().sqrt().item() == pytest.approx(stack.square().mean().sqrt().item(), rel=0.5)
            else:
                assert not B.any()
    others = [adapter(child, node)[-1] for node in growth.nodes]
    assert init != "noise" or all(not torch.equal(a, b) for i, a in enumerate(others) for b in others[:i])


def test_new_nodes_copy_the_old_ones_of_their_layer_in_turn_else_of_the_nearest_and_the_output_last() -> None:
    to = lambda parent, target: between(Topology.parse(parent), Topology.parse(target))
    copied = lambda growth: [sibling(growth, n) for n in growth.nodes]
    assert copied(to("2-1", "3-3-2")) == ["1.1", "2.1", "2.1", "2.1", "2.1"]
    assert copied(to("4-2", "8-5")) == ["1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.1"]
    assert copied(to("4-2", "8-4/2")) == ["1.1", "1.2", "1.3", "1.4", "2.1", "2.2"], "a group copies the first"
    assert copied(to("2", "2-3")) == ["1.1", "1.2", "1.1"]
    assert copied(to("2", "1-2")) == ["1.1"]
    assert copied(to("1", "1-2")) == ["1.1", "1.1"]
    assert copied(to("1-2", "1-1-2")) == ["1.1"], "of two layers as near the earlier"
    assert copied(to("1", "1-1-1")) == ["1.1", "1.1"]
    assert copied(to("single", "2")) == ["out", "out"]


def test_tied_nodes_share_their_adapter_with_the_new_ones() -> None:
    parent = make_network("1", tied=True)
    child, _ = grown(parent, "2-1")
    assert child.trainable_parameters == parent.trainable_parameters
    assert set(child.adapters.nodes) == {"1.1", "1.2", "2.1", "out"}
    assert same(adapter(child, "2.1"), adapter(parent, "out"))


# -- the optimiser ------------------------------------------------------------------------------------------


def give_gradients(network: Network, seed: int) -> None:
    """The same gradient for a node of the same name, whatever else the network has."""
    for i, stack in enumerate(network.adapters.stacks()):
        rows = [torch.Generator().manual_seed(1000 * seed + 10 * i + hash_of(n)) for n in network.adapters.names]
        stack.grad = torch.stack([torch.randn(stack.shape[1:], generator=g) for g in rows])


def hash_of(name: str) -> int:
    return sum(map(ord, name)) * 100_000


def test_the_optimiser_moves_every_node_as_torchs_own_would_for_that_node_alone() -> None:
    network, plain = make_network("2"), make_network("2")
    mine = NodeAdamW(network.adapters, lr=1e-2, betas=(0.8, 0.9), weight_decay=0.1)
    torchs = torch.optim.AdamW(plain.adapters.stacks(), lr=1e-2, betas=(0.8, 0.9), weight_decay=0.1)
    for step in range(3):
        for one, optimizer in ((network, mine), (plain, torchs)):
            give_gradients(one, step)
            optimizer.step()
            optimizer.zero_grad()
            assert all(s.grad is None for s in one.adapters.stacks())
    for a, b in zip(network.adapters.stacks(), plain.adapters.stacks(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_kept_nodes_go_on_as_if_nothing_had_grown_and_new_ones_as_in_a_new_optimiser() -> None:
    parent = make_network("2")
    before = NodeAdamW(parent.adapters, lr=1e-2, betas=(0.9, 0.999))
    for step in range(4):
        give_gradients(parent, step)
        before.step()
    child, growth = grown(parent, "3-1", "noise")
    fresh = transplant(parent, growth, "noise", seed=3)
    after, first = NodeAdamW(child.adapters, lr=1e-2, betas=(0.9, 0.999)), NodeAdamW(fresh.adapters, lr=1e-2)
    first.param_groups[0]["betas"] = (0.9, 0.999)
    after.fill(before.tensors())
    for network, optimizer in ((parent, before), (child, after), (fresh, first)):
        give_gradients(network, 9)
        optimizer.set_rates(1e-2, {})
        optimizer.step()
    for node in parent.topology.nodes:
        assert same(adapter(parent, node), adapter(child, node))
        assert not same(adapter(fresh, node), adapter(child, node))
    for node in growth.nodes:
        for a, b in zip(adapter(fresh, node), adapter(child, node), strict=True):
            torch.testing.assert_close(a, b)


def test_a_rate_of_0_leaves_a_node_as_it_is_to_the_bit_and_others_have_their_own() -> None:
    network = make_network("2")
    optimizer = NodeAdamW(network.adapters, weight_decay=0.1)
    start = {node: adapter(network, node) for node in network.topology.nodes}
    optimizer.set_rates(1e-2, {"1.1": 0.0, "1.2": 0.5})
    give_gradients(network, 0)
    optimizer.step()
    moved = {
        n: sum((a - b).abs().mean().item() for a, b in zip(start[n], adapter(network, n), strict=True)) for n in start
    }
    assert same(start["1.1"], adapter(network, "1.1"))
    assert moved["1.2"] == pytest.approx(moved["out"] / 2, rel=0.1)


@pytest.mark.parametrize("key", ["1.1|0|momentum", "1.1|99|exp_avg", "1.1|exp_avg", "1.1"])
def test_a_state_that_names_what_is_not_there_is_refused(key: str) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        NodeAdamW(make_network("1").adapters).fill({key: torch.zeros(())})


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        NodeAdamW(make_network("1").adapters).fill({"1.1|0|exp_avg": torch.zeros(2, 2)})


# -- size ---------------------------------------------------------------------------------------------------


def test_a_network_of_15_nodes_trains_and_a_node_costs_its_adapter_gradient_and_moments_and_no_more() -> None:
    parent = make_network("4-2", binary_backbone())
    child, growth = grown(parent, "8-4-2", "noise")
    assert len(child.topology.nodes) == 15
    start = {node: adapter(child, node) for node in child.topology.nodes}
    optimizer = NodeAdamW(child.adapters, lr=1e-2)
    done = train_step(
        child, optimizer, FirstCharacter("1"), questions(4), TrainConfig(questions=4, rollouts=8), step=1, seed=0
    )
    assert all(len(trace.calls) == 15 for trace in done.traces)
    assert all(not same(start[node], adapter(child, node)) for node in child.topology.nodes)
    held = {p.data_ptr(): p.numel() for p in child.adapters.stacks()}
    held |= {p.grad.data_ptr(): p.grad.numel() for p in child.adapters.stacks() if p.grad is not None}
    sizes = sum(held.values())
    apart = {(t.untyped_storage().data_ptr(), t.numel()) for part in optimizer.named.values() for t in part}
    assert {pointer for pointer, _ in apart} <= set(held), "the optimiser's parameters are the bank's own memory"
    moments = sum(v.numel() for state in optimizer.state.values() for k, v in state.items() if k != "step")
    assert sizes + moments == 4 * child.trainable_parameters
    assert child.trainable_parameters == 15 * parent.adapters.parameters_per_adapter
    assert growth.topology.name == "8-4-2"
