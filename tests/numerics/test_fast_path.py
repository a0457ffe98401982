"""The fast path (packed passes, shared prefixes, blocks, scoring in chunks) against one plain model call a token."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import (
    ARCHITECTURES,
    byte_tokenizer,
    make_backbone,
    make_network,
    merged,
    plain_logits,
    plain_model,
    questions,
    ragged_groups,
)
from neuromas.network import packed
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.generate import generate, replay
from neuromas.network.sampling import Decoding
from neuromas.types import Message

TOPOLOGIES = ["single", "1", "2", "3", "4", "8", "1-1", "2-2", "1-1-1+skip", "3-2+skip", "1-1@first"]


def plain_greedy(network: Network, plain: Any, node: str, prompt: list[int], limit: int) -> list[int]:
    """Token after token, the whole sequence anew each time, by the plain model with the node's adapter added in."""
    weights, said = merged(network, network.adapters.index[node], plain), list[int]()
    while len(said) < limit and not (said and said[-1] in network.backbone.end_ids):
        said.append(int(plain_logits(plain, prompt + said, weights)[-1].argmax()))
    return said


@pytest.mark.parametrize("topology", TOPOLOGIES)
@torch.no_grad()
def test_every_node_of_a_network_says_what_the_plain_model_says(topology: str) -> None:
    """Questions of unequal length in one batch; the prompt is rendered from what the plain model said before."""
    network, plain = make_network(topology, tokens=6), plain_model()
    asked = questions(3)
    traces = network.answer(asked)
    for question, trace in zip(asked, traces, strict=True):
        heard: dict[str, str] = {}
        for node in network.topology.nodes:
            at = network.topology.position(node)
            messages = [Message(u, heard[u]) for u in at.upstream]
            prompt = network.backbone.template.render(at, question, messages, reserve=6)
            expected = plain_greedy(network, plain, node, prompt.prefix_ids + prompt.own_ids, 6)
            call = next(c for c in trace.calls if c.node == node)
            assert call.completion_ids == expected
            heard[node] = call.text


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("greedy", [True, False])
def test_the_block_between_two_looks_at_what_has_ended_changes_nothing(architecture: str, greedy: bool) -> None:
    backbone = ending_often(architecture)
    network = make_network("2", backbone)
    groups = ragged_groups((0, 0, 1, 2))
    keys = range(sum(len(g.own_ids) for g in groups))
    by_block = {
        block: generate(backbone, network.adapters, groups, keys, 12, Decoding(greedy), block)
        for block in (1, 3, 8, 50)
    }
    one = by_block.pop(1)
    lengths = {len(c.ids) for c in one}
    assert len(lengths) > 1 or greedy
    assert any(not c.truncated for c in one) or greedy
    for other in by_block.values():
        for a, b in zip(one, other, strict=True):
            assert (a.ids, a.truncated) == (b.ids, b.truncated)
            torch.testing.assert_close(torch.tensor(a.logprobs), torch.tensor(b.logprobs), atol=1e-4, rtol=1e-4)


def ending_often(architecture: str) -> Backbone:
    """A backbone one in eight of whose tokens ends a row."""
    backbone = make_backbone(architecture)
    backbone.end_ids = frozenset(range(0, 260, 8))
    return backbone


class CountWaits(TorchDispatchMode):
    """Counts operations that would make the host wait for an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.waits += func.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.item,
        )
        return func(*args, **(kwargs or {}))


def test_within_a_block_the_host_waits_for_nothing() -> None:
    """More tokens in one block cost no more waits: what they need is worked out on the device."""
    backbone = make_backbone()
    backbone.end_ids = frozenset()
    network = make_network("2", backbone)
    groups = ragged_groups((0, 1, 2))

    def waits(tokens: int, block: int) -> int:
        with CountWaits() as counter:
            generate(backbone, network.adapters, groups, range(6), tokens, Decoding(), block)
        return counter.waits

    assert waits(40, 40) == waits(2, 2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_long_prefix_takes_the_fused_kernel_and_gives_the_same(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network("2", make_backbone(architecture))
    groups = ragged_groups((0, 0, 1, 2))
    said = [[5, 6, 7]] * sum(len(g.own_ids) for g in groups)
    of = lambda: score(network, groups, said)
    written_out, grads = of()
    monkeypatch.setattr(packed, "SHORT", 0)
    fused, other = of()
    torch.testing.assert_close(written_out, fused, atol=1e-5, rtol=1e-5)
    for a, b in zip(grads, other, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-7


def score(network: Network, groups: list[packed.Group], said: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
    """Log-probabilities, and the gradients of a weighted sum of them."""
    network.adapters.zero_grad(set_to_none=True)
    logprobs, _ = replay(network.backbone, network.adapters, groups, said, 1.0)
    (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
    return logprobs.detach(), [p.grad for p in network.adapters.stacks() if p.grad is not None]


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 6, 7, 8])
def test_in_bfloat16_logprobs_and_gradients_stay_within_its_rounding(nodes: int) -> None:
    """Stated tolerance: 0.1 nats a token on average, and 15 % of the gradient's norm, against float32."""
    groups = ragged_groups(tuple(range(nodes)))
    said = [[5, 6, 7]] * sum(len(g.own_ids) for g in groups)
    make: Callable[[torch.dtype], Network] = lambda dtype: make_network(
        str(nodes), Backbone("fake", plain_model().to(dtype), byte_tokenizer(), "compact"), noise=0.05
    )
    exact, grads = score(make(torch.float32), groups, said)
    rounded, other = score(make(torch.bfloat16), groups, said)
    assert (exact - rounded).abs().mean() < 0.1
    assert not torch.equal(exact, rounded)
    flat = lambda tensors: torch.cat([t.flatten() for t in tensors])
    assert (flat(grads) - flat(other)).norm() <= 0.15 * flat(grads).norm()
