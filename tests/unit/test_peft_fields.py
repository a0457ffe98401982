"""PEFT's settings of a LoRA: those that change nothing are taken, those that a node cannot compute are named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import make_network
from neuromas.errors import CheckpointError
from neuromas.network import peft
from neuromas.train.init import fill

TARGETS = ("q_proj", "v_proj")
CHANGES_NOTHING: list[dict[str, Any]] = [
    {"target_modules": "all-linear"}, {"target_modules": ".*(q|v)_proj"}, {"init_lora_weights": "eva"},
    {"init_lora_weights": "gaussian"}, {"init_lora_weights": "orthogonal"}, {"init_lora_weights": False},
    {"lora_dropout": 0.5}, {"revision": "main"}, {"exclude_modules": ["lm_head"]}, {"layers_to_transform": [0, 1]},
    {"peft_version": "9.9"}, {"inference_mode": False}, {"eva_config": {"rho": 2.0}}, {"qalora_group_size": 32},
    {"lora_alpha": 4.0}, {"target_parameters": ["experts.gate_up_proj"]}, {"use_rslora": False},
    {"alpha_pattern": {}}, {"use_dora": None}, {"some_field_of_tomorrow": None}, {"another_one": []},
]  # fmt: skip
REFUSED: list[dict[str, Any]] = [
    {"alpha_pattern": dict.fromkeys(TARGETS, 0.001)}, {"rank_pattern": {"q_proj": 1}}, {"use_dora": True},
    {"alora_invocation_tokens": [1, 2]}, {"use_qalora": True}, {"use_bdlora": {"nblocks": 2}}, {"bias": "all"},
    {"bias": "lora_only"}, {"lora_bias": True}, {"fan_in_fan_out": True}, {"modules_to_save": ["lm_head"]},
    {"layer_replication": [[0, 2]]}, {"trainable_token_indices": [1]}, {"megatron_config": {"a": 1}},
    {"arrow_config": {"arrow_top_k": 1}}, {"kasa_config": {"a": 1}}, {"velora_config": {"a": 1}},
    *({"init_lora_weights": way} for way in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga")),
    {"some_field_of_tomorrow": True}, {"another_one": {"a": 1}}, {"a_third": 0.5},
]  # fmt: skip
WRONG = [{"peft_type": "IA3"}, {"r": 0}, {"r": "2"}, {"r": None}, {"lora_alpha": float("nan")}, {"lora_alpha": None}]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A plain LoRA as PEFT writes it: rank 2, alpha 4."""
    config = pytest.importorskip("peft").LoraConfig(r=2, lora_alpha=4, target_modules=list(TARGETS))
    config.save_pretrained(tmp_path)
    state, _ = make_network("single", rank=2, targets=TARGETS).adapters.export_peft("out", "x")
    save_file(state, tmp_path / "adapter_model.safetensors")
    return tmp_path


def changed(folder: Path, change: dict[str, Any]) -> dict[str, Any]:
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text()) | change
    file.write_text(json.dumps(config))
    return config


def ways(folder: Path, config: dict[str, Any]) -> list[Any]:
    """`init_from`, and what a checkpoint's nodes go through."""
    bank = make_network("single", rank=2, alpha=4.0, targets=TARGETS, noise=0).adapters
    state = load_file(folder / "adapter_model.safetensors")
    return [lambda: fill(bank, "out", folder), lambda: bank.import_peft("out", state, config)]


@pytest.mark.parametrize("change", [{}, *CHANGES_NOTHING], ids=str)
def test_fields_that_change_nothing_are_taken(written: Path, change: dict[str, Any]) -> None:
    for way in ways(written, changed(written, change)):
        way()


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_fields_that_a_node_cannot_compute_are_refused_by_name(written: Path, change: dict[str, Any]) -> None:
    (field,) = change
    for way in ways(written, changed(written, change)):
        with pytest.raises(CheckpointError, match=f"the adapter .* has {field} = .*, which a node cannot compute"):
            way()


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_what_is_no_lora_at_all_is_refused(written: Path, change: dict[str, Any]) -> None:
    for way in ways(written, changed(written, change)):
        with pytest.raises(CheckpointError, match=r"only a LoRA|both must be numbers"):
            way()


def test_the_defaults_of_the_installed_peft_are_plain_in_every_field() -> None:
    config = json.loads(json.dumps(pytest.importorskip("peft").LoraConfig().to_dict(), default=list))
    assert peft.scale(config | {"peft_type": "LORA"}, "it") == 1


def test_an_adapter_that_is_not_finite_never_enters(written: Path) -> None:
    state = load_file(written / "adapter_model.safetensors")
    next(iter(state.values()))[0, 0] = torch.inf
    save_file(state, written / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        fill(make_network("single", rank=2, targets=TARGETS).adapters, "out", written)
