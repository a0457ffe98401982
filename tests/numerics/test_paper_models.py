"""The two backbones of the paper, scaled down: the packed pass is the plain one, past the sliding window too."""

import copy
from typing import Any

import pytest
import torch

from helpers import make_network, merged, plain_logits
from neuromas.network.backbone import Backbone
from neuromas.network.generate import generate, replay
from neuromas.network.packed import Group, PackedPass
from neuromas.network.sampling import Decoding
from paper import PUBLISHED, random_model, tokenizer_of

both = pytest.mark.parametrize("name", PUBLISHED)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Gemma's window is 16 here: prefixes within it, past it, and past the length from which the fused kernel is used.
PREFIXES, OWNS = (5, 40, 300), ((0, 3), (1, 30), (7, 0, 21))


def groups_of(adapters: tuple[int, ...]) -> list[Group]:
    generator = torch.Generator().manual_seed(1)
    ids = lambda n: torch.randint(0, 256, (n,), generator=generator).tolist()
    return [Group(a, ids(p), [ids(n) for n in own]) for a, p, own in zip(adapters, PREFIXES, OWNS, strict=True)]


@both
@torch.no_grad()
def test_the_packed_pass_equals_the_plain_one_token_by_token(name: str) -> None:
    plain = random_model(name)
    backbone = Backbone(name, copy.deepcopy(plain), tokenizer_of(name))
    groups = groups_of((0, 0, 0))
    batch = PackedPass(groups, room=0, device=backbone.device)
    logits = backbone.logits(backbone.hidden(batch.ids_M, batch.position_M, batch, None))
    at = 0
    for group in groups:
        n = len(group.prefix_ids)
        start, at = at, at + n
        for own in group.own_ids:
            got = torch.cat([logits[start : start + n], logits[at : at + len(own)]])
            torch.testing.assert_close(got, plain_logits(plain, group.prefix_ids + own), atol=2e-5, rtol=2e-5)
            at += len(own)
    assert at == len(logits)


@both
@torch.no_grad()
def test_sampled_and_replayed_log_probabilities_are_the_plain_models_with_an_adapter_added_in(name: str) -> None:
    plain = random_model(name)
    network = make_network("2", Backbone(name, copy.deepcopy(plain), tokenizer_of(name)), targets=TARGETS)
    groups = groups_of((0, 1, 2))
    rows = [(g.adapter, g.prefix_ids + own) for g in groups for own in g.own_ids]
    said = generate(network.backbone, network.adapters, groups, list(range(len(rows))), 20, Decoding())
    again, _ = replay(network.backbone, network.adapters, groups, [c.ids for c in said], 1.0)
    assert max(len(c.ids) for c in said) > 16, "past the window"
    parts = again.split([len(c.ids) for c in said])
    for (adapter, prompt), c, replayed in zip(rows, said, parts, strict=True):
        logits = plain_logits(plain, prompt + c.ids[:-1], merged(network, adapter, plain))[len(prompt) - 1 :]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(c.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(c.logprobs), expected, atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(replayed, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma-3-1b-it", {"sliding_window": 4096}),
        ("gemma-3-1b-it", {"rope_local_base_freq": 1000000}),
        ("gemma-3-1b-it", {"rope_theta": 10000}),
        ("gemma-3-1b-it", {"query_pre_attn_scalar": 64}),
        ("gemma-3-1b-it", {"sliding_window_pattern": 3}),
        ("qwen3-0.6b", {"rope_theta": 10000}),
    ],
)
@torch.no_grad()
def test_what_makes_the_architecture_shows_in_its_logits(name: str, changes: dict[str, Any]) -> None:
    """The comparisons above mean something only where each of these changes what the plain model computes."""
    ids = list(range(40, 80))
    assert (plain_logits(random_model(name), ids) - plain_logits(random_model(name, **changes), ids)).abs().max() > 1e-2


@both
@torch.no_grad()
def test_norms_of_queries_and_keys_show_in_the_logits(name: str) -> None:
    plain, ids = random_model(name), list(range(40, 80))
    before = plain_logits(plain, ids)
    for key, parameter in plain.named_parameters():
        if "q_norm" in key or "k_norm" in key:
            parameter.zero_()
    assert (plain_logits(plain, ids) - before).abs().max() > 1e-2


def test_the_scaled_models_keep_the_published_proportions() -> None:
    for name, published in PUBLISHED.items():
        config = random_model(name).config
        ratio = lambda c: (
            c["num_attention_heads"] // c["num_key_value_heads"],
            c["head_dim"] * c["num_attention_heads"] / c["hidden_size"],
            c["intermediate_size"] / c["hidden_size"],
            c["tie_word_embeddings"],
        )
        assert ratio(config.to_dict()) == ratio(published)
    gemma = random_model("gemma-3-1b-it").config
    assert [kind.split("_")[0] for kind in gemma.layer_types] == ["sliding"] * 5 + ["full"]
    bases = {kind: rope["rope_theta"] for kind, rope in gemma.rope_parameters.items()}
    assert bases == {"sliding_attention": 10000, "full_attention": 1000000}
