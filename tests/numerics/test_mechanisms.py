"""Twenty ways in which models differ, one small random model for each: exact, on the path that is expected."""

import copy
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from exactness import compare, groups_of
from helpers import byte_tokenizer, make_network
from mechanisms import BOTH, COMMON, MECHANISMS, MOE, VISION, model_of, random_model
from neuromas.network.backbone import Backbone


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_is_exact_on_the_path_that_it_allows(mechanism: str) -> None:
    """Rows of two nodes, shorter and longer than windows, with and without own tokens; adapters that matter."""
    path, kind, changes = MECHANISMS[mechanism]
    plain = model_of(kind, changes)
    network = make_network("1", Backbone(kind, copy.deepcopy(plain), byte_tokenizer(), "compact"))
    assert network.backbone.proof.path == path, network.backbone.proof.line
    found = compare(network, plain, groups_of((19, 5), ((3, 0), (1, 22))), tokens=4)
    assert found.within(nats=2e-4, gradient=5e-4), found


def test_a_wrapper_around_several_media_is_run_as_the_text_model_that_it_holds() -> None:
    text = AutoConfig.for_model("gemma3_text", **COMMON, sliding_window=8, layer_types=BOTH).to_dict()
    vision = VISION | {"image_size": 28, "patch_size": 14}
    plain = random_model(AutoConfig.for_model("gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4))
    network = make_network("1", Backbone("gemma3", copy.deepcopy(plain), byte_tokenizer(), "compact"))
    assert network.backbone.context_window == 256 and network.backbone.proof.path == "packed"
    assert not any("vision" in key for key in network.adapters.shapes)
    found = compare(network, plain, groups_of((19, 5), ((3, 0), (1, 22))), tokens=4)
    assert found.within(nats=2e-4, gradient=5e-4), found


@pytest.mark.parametrize(
    ("kind", "changes", "targets", "path"),
    [
        ("opt", MECHANISMS["learned positions"][2], ("q_proj", "fc1", "fc2"), "packed"),  # sees tokens as [M, in]
        (
            "qwen2_moe",
            {**MOE, "shared_expert_intermediate_size": 16},
            ("q_proj", "up_proj", "shared_expert_gate"),
            "packed",
        ),
        ("bloom", MECHANISMS["ALiBi"][2], ("query_key_value", "dense_h_to_4h"), "plain"),
    ],
)
def test_adapters_outside_of_attention_are_exact_too(
    kind: str, changes: dict[str, Any], targets: tuple[str, ...], path: str
) -> None:
    plain = model_of(kind, changes)
    network = make_network("1", Backbone(kind, copy.deepcopy(plain), byte_tokenizer(), "compact"), targets=targets)
    assert network.backbone.proof.path == path, network.backbone.proof.line
    found = compare(network, plain, groups_of((19, 5), ((3, 0), (1, 22))), tokens=4)
    assert found.within(nats=2e-4, gradient=5e-4), found


@pytest.mark.parametrize("mechanism", ["learned positions", "state space", "softcap"])
def test_checkpointed_gradients_are_the_same_and_switch_no_dropout_on(mechanism: str) -> None:
    _, kind, changes = MECHANISMS[mechanism]
    plain = model_of(kind, changes | ({"dropout": 0.5} if kind == "opt" else {}))
    network = make_network("1", Backbone(kind, copy.deepcopy(plain), byte_tokenizer(), "compact"))
    network.backbone.checkpoint_gradients(True)
    found = compare(network, plain, groups_of((19, 5), ((3, 0), (1, 22))), tokens=4)
    assert found.within(nats=2e-4, gradient=5e-4), found


@pytest.mark.parametrize("mechanism", ["convolution", "linear attention", "state space", "softcap", "places"])
def test_in_16_bits_too_the_structure_decides(mechanism: str) -> None:
    """Weights so small that rounding to bfloat16 hides what packed passes would leave out."""
    _, kind, changes = MECHANISMS[mechanism]
    model = model_of(kind, changes | {"initializer_range": 0.02}).to(torch.bfloat16)
    proof = Backbone(kind, model, byte_tokenizer(), "compact").proof
    assert proof.path == "plain" and proof.largest <= proof.bound, proof
