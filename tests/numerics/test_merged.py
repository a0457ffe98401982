"""Attention in two parts is attention under one softmax, and what it keeps for the backward pass grows linearly."""

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import ARCHITECTURES, make_backbone
from neuromas.network import merged, packed
from neuromas.network.packed import Group, PackedPass
from tests.numerics import test_gradients, test_packed


def written_out(q: Tensor, pk: Tensor, pv: Tensor, ok: Tensor, ov: Tensor, hidden: Tensor) -> Tensor:
    """The definition: one softmax over the prefix's keys and the row's; hidden [U, G, C, T + C] are not seen."""
    to_prefix = torch.einsum("ukgrcd,uktd->ukgrct", q, pk)
    scores = torch.cat([to_prefix, torch.einsum("ukgrcd,ukgsd->ukgrcs", q, ok)], -1)
    weight = scores.masked_fill(hidden[:, None, :, None], -torch.inf).softmax(-1)
    T = pk.shape[2]
    own = torch.einsum("ukgrcs,ukgsd->ukgrcd", weight[..., T:], ov)
    return torch.einsum("ukgrct,uktd->ukgrcd", weight[..., :T], pv) + own


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("lengths", [(9, 9), (9, 4)], ids=["equal prefixes", "unequal prefixes"])
def test_values_and_gradients_are_those_of_one_softmax(lengths: tuple[int, int], window: int | None) -> None:
    U, K, G, R, C, D, T = 2, 2, 3, 2, 7, 8, 9
    generator = torch.Generator().manual_seed(0)
    made = lambda *shape: torch.randn(*shape, generator=generator).requires_grad_()
    inputs = made(U, K, G, R, C, D), made(U, K, T, D), made(U, K, T, D), made(U, K, G, C, D), made(U, K, G, C, D)
    groups = [Group(0, [1] * n, [[1] * C] * G) for n in lengths]
    stream = PackedPass(groups, 0, torch.device("cpu"))
    hidden = stream._mask(C, C, window, torch.float32)[:, 0, :, 0] < 0
    weight = torch.randn(inputs[0].shape, generator=generator)

    def found(computed: Tensor) -> list[Tensor]:
        return [computed, *torch.autograd.grad((computed * weight).sum(), inputs)]

    masks = stream._part_masks(R, window, torch.float32)
    for mine, expected in zip(found(merged.attend(*inputs, *masks)), found(written_out(*inputs, hidden)), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(params=["kernel", "blocks"])
def long(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass counts as a long one, with the kernel and, as on other devices, in blocks of own tokens."""
    monkeypatch.setattr(packed, "SHORT", 0)
    if request.param == "blocks":
        monkeypatch.setattr(packed, "BLOCK", 4)
        monkeypatch.setattr(merged, "is_supported", lambda q, v: False)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_long_passes_equal_the_plain_model(architecture: str) -> None:
    test_packed.test_logits_at_every_token_equal_the_plain_model_row_by_row(architecture)
    test_packed.test_sampled_logprobs_equal_replayed_and_plain_ones(architecture)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("architecture", ["qwen2", "gemma3"])
def test_long_replays_have_the_gradients_of_a_naive_computation(architecture: str) -> None:
    test_gradients.test_replay_gradients_equal_those_of_a_naive_row_by_row_computation(architecture)


def kept_bytes(own_tokens: int) -> int:
    """The bytes that autograd keeps of one pass over eight rows of so many tokens behind a prefix."""
    backbone = make_backbone(max_position_embeddings=4096)
    batch = PackedPass([Group(0, [65] * 256, [[66] * own_tokens] * 8)], 0, backbone.device)
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    embedding: Any = backbone.model.get_input_embeddings()
    embedding.weight.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        hidden = backbone.hidden(batch.ids_M, batch.position_M, batch, None)
    assert hidden.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("kernel", [True, False])
def test_what_a_long_replay_keeps_grows_linearly_with_its_messages(
    kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged, "is_supported", lambda q, v: kernel)
    few, more, most = (kept_bytes(n) for n in (128, 256, 512))
    assert most - more <= 2.05 * (more - few)
