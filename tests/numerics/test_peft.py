"""Nodes and PEFT adapters are the same thing on disk and in arithmetic."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from helpers import make_backbone, make_network, plain_logits, plain_model
from neuromas.errors import CheckpointError
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.run import checkpoint
from neuromas.run.progress import Progress
from neuromas.train.optimizer import NodeAdamW

ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
IDS = [72, 105, 33, 10, 200, 7, 7, 91, 14]


def node_logprobs(network, node: str) -> torch.Tensor:
    """Log-probabilities of IDS[1:] after IDS[:1] as the node sees them."""
    group = Group(network.adapters.index[node], IDS[:1], [[]])
    with torch.no_grad():
        return replay(network.backbone, network.adapters, [group], [IDS[1:]], 1.0)[0]


def logprobs(logits: torch.Tensor) -> torch.Tensor:
    return logits[:-1].log_softmax(-1).gather(1, torch.tensor(IDS[1:])[:, None])[:, 0]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3"])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_TARGETS], ids=["two", "all"])
def test_a_saved_node_loaded_by_peft_gives_the_same_logits(architecture: str, targets: tuple[str, ...], tmp_path: Path):
    network = make_network("2", make_backbone(architecture), targets=targets, alpha=5.0)
    optimizer = NodeAdamW(network.adapters)
    folder = checkpoint.save(tmp_path, network, optimizer, Progress(step=1))
    for node in network.topology.nodes:
        peft = PeftModel.from_pretrained(plain_model(architecture), folder / "nodes" / node).eval()
        with torch.no_grad():
            expected = logprobs(plain_logits(peft, IDS))
        bare = logprobs(plain_logits(plain_model(architecture), IDS))
        assert (expected - bare).abs().max() > 1e-2, "the adapter must matter for the comparison to mean something"
        torch.testing.assert_close(node_logprobs(network, node), expected, atol=1e-5, rtol=1e-5)


def peft_adapter(folder: Path, **options) -> tuple[dict, dict, torch.Tensor]:
    """A random adapter saved by PEFT: its tensors, its config, and log-probabilities of IDS under it."""
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    model = get_peft_model(plain_model(), config).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    with torch.no_grad():
        said = logprobs(plain_logits(model, IDS))
    return (
        load_file(folder / "adapter_model.safetensors"),
        json.loads((folder / "adapter_config.json").read_text()),
        said,
    )


def test_an_adapter_made_by_peft_works_as_a_node_and_leaves_the_other_nodes_alone(tmp_path: Path) -> None:
    network = make_network("2", targets=("q_proj", "v_proj"))
    state, config, expected = peft_adapter(tmp_path)
    before = {node: node_logprobs(network, node) for node in network.topology.nodes}
    network.adapters.import_peft("1.2", state, config)
    torch.testing.assert_close(node_logprobs(network, "1.2"), expected, atol=1e-5, rtol=1e-5)
    for node in ("1.1", "out"):
        assert torch.equal(node_logprobs(network, node), before[node])


def test_import_after_export_gives_back_the_same_bytes(tmp_path: Path) -> None:
    state, config, _ = peft_adapter(tmp_path)
    network = make_network("2", targets=("q_proj", "v_proj"))
    network.adapters.import_peft("out", state, config)
    again, again_config = network.adapters.export_peft("out", "x")
    assert again.keys() == state.keys()
    assert all(torch.equal(again[k], state[k]) for k in state)
    assert (again_config["r"], again_config["lora_alpha"]) == (config["r"], config["lora_alpha"])
    assert sorted(again_config["target_modules"]) == sorted(config["target_modules"])


def test_an_untrained_node_is_the_bare_backbone() -> None:
    network = make_network("2", noise=0.0)
    bare = logprobs(plain_logits(plain_model(), IDS))
    for node in network.topology.nodes:
        torch.testing.assert_close(node_logprobs(network, node), bare, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("field, value", [("r", 4), ("lora_alpha", 7), ("use_dora", True), ("use_rslora", True)])
def test_an_adapter_of_another_kind_is_refused_by_the_name_of_the_node(field: str, value, tmp_path: Path) -> None:
    network = make_network("2", targets=("q_proj", "v_proj"))
    state, config, _ = peft_adapter(tmp_path)
    before = network.adapters.export_peft("1.1", "x")[0]
    before = {k: v.clone() for k, v in before.items()}
    with pytest.raises(CheckpointError, match="1.1"):
        network.adapters.import_peft("1.1", state, config | {field: value})
    assert all(torch.equal(v, before[k]) for k, v in network.adapters.export_peft("1.1", "x")[0].items())


def test_an_adapter_for_other_modules_or_of_other_shape_is_refused(tmp_path: Path) -> None:
    state, config, _ = peft_adapter(tmp_path)
    with pytest.raises(CheckpointError, match="other modules"):
        make_network("2", targets=("q_proj",)).adapters.import_peft("1.1", state, config)
    key = next(k for k in state if "lora_A" in k)
    with pytest.raises(CheckpointError, match="lora_A"):
        make_network("2", targets=("q_proj", "v_proj")).adapters.import_peft(
            "1.1", state | {key: state[key][:, :-1].contiguous()}, config
        )


def test_an_adapters_first_weights_do_not_depend_on_the_other_nodes() -> None:
    small, large = make_network("1", noise=0.0, seed=5), make_network("2-2", noise=0.0, seed=5)
    other = make_network("1", noise=0.0, seed=6)
    for node in ("1.1", "out"):
        mine, theirs = (n.adapters.export_peft(node, "x")[0] for n in (small, large))
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    mine, theirs = (n.adapters.export_peft("out", "x")[0] for n in (small, other))
    assert not all(torch.equal(mine[k], theirs[k]) for k in mine)
