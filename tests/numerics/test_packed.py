"""Shared prefixes change nothing: every architecture gives what the unmodified model gives row by row."""

from typing import Any

import pytest
import torch

from helpers import (
    ARCHITECTURES,
    make_backbone,
    make_network,
    merged,
    plain_logits,
    plain_model,
    ragged_groups,
)
from neuromas.network.generate import generate, replay
from neuromas.network.packed import Group, PackedPass
from neuromas.network.sampling import Decoding

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def pieces(groups: list[Group], hidden: torch.Tensor) -> list[tuple[int, list[int], torch.Tensor]]:
    """(adapter, whole row, hidden states of the whole row), read off the packed stream by its documented order."""
    found, at = [], 0
    for group in groups:
        n = len(group.prefix_ids)
        prefix = hidden[at : at + n]
        at += n
        for own in group.own_ids:
            found.append((group.adapter, group.prefix_ids + own, torch.cat([prefix, hidden[at : at + len(own)]])))
            at += len(own)
    assert at == len(hidden)
    return found


@every_architecture
def test_logits_at_every_token_equal_the_plain_model_row_by_row(architecture: str) -> None:
    backbone, plain = make_backbone(architecture), plain_model(architecture)
    groups = ragged_groups((0, 0, 0, 0))
    batch = PackedPass(groups, room=0, device=backbone.device)
    with torch.no_grad():
        hidden = backbone.hidden(batch.ids_M, batch.position_M, batch, None)
        for _, ids, states in pieces(groups, hidden):
            torch.testing.assert_close(backbone.logits(states), plain_logits(plain, ids), atol=1e-5, rtol=1e-5)


@every_architecture
def test_sampled_logprobs_equal_replayed_and_plain_ones(architecture: str) -> None:
    """Covers the one-token passes: twelve of them, past the sliding window, with rows that end early."""
    backbone, plain = make_backbone(architecture), plain_model(architecture)
    network = make_network("2", backbone, targets=TARGETS)
    groups, how = ragged_groups((0, 0, 1, 2)), Decoding(temperature=0.8)
    rows = [(g.adapter, g.prefix_ids + own) for g in groups for own in g.own_ids]
    said = generate(backbone, network.adapters, groups, list(range(len(rows))), 12, how)
    with torch.no_grad():
        replayed, entropies = replay(backbone, network.adapters, groups, [c.ids for c in said], 0.8)
    per_row = replayed.split([len(c.ids) for c in said])
    per_row_entropy = entropies.split([len(c.ids) for c in said])
    assert max(len(c.ids) for c in said) == 12
    for (adapter, prompt), c, lp, ent in zip(rows, said, per_row, per_row_entropy, strict=True):
        with torch.no_grad():
            logits = plain_logits(plain, prompt + c.ids[:-1], merged(network, adapter, plain))[len(prompt) - 1 :]
        logp = (logits / 0.8).log_softmax(-1)
        expected = logp.gather(1, torch.tensor(c.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(c.logprobs), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(lp, expected, atol=1e-5, rtol=1e-5)
        expected_entropy = -(logp.exp() * logp).sum(-1)
        torch.testing.assert_close(torch.tensor(c.entropies), expected_entropy, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ent, expected_entropy, atol=1e-5, rtol=1e-5)


def test_the_sliding_window_is_what_these_models_are_tested_with() -> None:
    """The comparison above means something only where a window cuts: without it the logits differ."""
    ids = list(range(40, 70))
    narrow, wide = plain_model("gemma3"), plain_model("gemma3", sliding_window=64)
    assert (plain_logits(narrow, ids) - plain_logits(wide, ids)).abs().max() > 1e-3


def test_rows_of_a_group_do_not_see_each_other() -> None:
    backbone = make_backbone()
    one, two = [Group(0, [1, 2, 3], [[4, 5], own]) for own in ([6], [200, 201, 202, 203])]
    first = []
    for group in (one, two):
        batch = PackedPass([group], room=0, device=backbone.device)
        with torch.no_grad():
            first.append(backbone.hidden(batch.ids_M, batch.position_M, batch, None)[:5])
    torch.testing.assert_close(first[0], first[1], atol=1e-6, rtol=1e-6)


def test_a_group_without_rows_or_with_unsorted_adapters_is_a_programming_error() -> None:
    with pytest.raises(AssertionError, match="sorted by adapter"):
        PackedPass([Group(1, [1], [[]]), Group(0, [1], [[]])], room=0, device=torch.device("cpu"))
    with pytest.raises(AssertionError, match="non-empty prefix"):
        PackedPass([Group(0, [], [[1]])], room=0, device=torch.device("cpu"))


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_a_model_that_does_a_little_more_takes_the_plain_path_and_no_other_at_any_precision(precision: Any) -> None:
    def louder(module: Any, args: Any, output: Any) -> Any:
        return output[0] * 1.002, *output[1:]

    more, before = plain_model(), torch.get_float32_matmul_precision()
    more.model.layers[0].self_attn.register_forward_hook(lambda *args: louder(*args) if args[1] else None)
    torch.set_float32_matmul_precision(precision)
    try:
        assert make_backbone().proof.path == "packed"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_in_bfloat16_the_packed_pass_stays_within_rounding_of_the_plain_one() -> None:
    backbone, plain = make_backbone(), plain_model().to(torch.bfloat16)
    backbone.model.to(torch.bfloat16)
    groups = ragged_groups((0, 0, 0))
    batch = PackedPass(groups, room=0, device=backbone.device)
    with torch.no_grad():
        hidden: Any = backbone.hidden(batch.ids_M, batch.position_M, batch, None)
        for _, ids, states in pieces(groups, hidden):
            error = (backbone.logits(states) - plain_logits(plain, ids).float()).abs()
            assert error.mean() < 0.05
