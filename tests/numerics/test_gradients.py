"""Who receives a gradient, and that it is the one a plain row-by-row computation gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import (
    ARCHITECTURES,
    FirstCharacter,
    make_backbone,
    make_network,
    merged,
    plain_logits,
    plain_model,
    questions,
    ragged_groups,
    unchanged,
)
from neuromas.config import TrainConfig
from neuromas.network import turns
from neuromas.network.forward import Absent, Network
from neuromas.network.generate import generate, replay
from neuromas.network.sampling import Decoding
from neuromas.train.objectives import leave_one_out
from neuromas.train.step import train_step

ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def gradients(network: Network) -> list[Tensor]:
    """Of every stack, zeros where none has arrived; clears them."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.adapters.stacks()]
    network.adapters.zero_grad(set_to_none=True)
    return found


def assert_close(mine: list[Tensor], naive: list[Tensor], relative: float) -> None:
    for a, b in zip(mine, naive, strict=True):
        assert (a - b).norm() <= relative * b.norm() + 1e-9


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3", "gemma3-softcap"])
def test_replay_gradients_equal_those_of_a_naive_row_by_row_computation(architecture: str) -> None:
    backbone, plain = make_backbone(architecture), plain_model(architecture)
    network = make_network("2", backbone, targets=ALL_TARGETS)
    groups = ragged_groups((0, 0, 1, 2))
    rows = [(g.adapter, g.prefix_ids + own) for g in groups for own in g.own_ids]
    said = [c.ids for c in generate(backbone, network.adapters, groups, range(len(rows)), 6, Decoding())]
    weight = torch.randn(sum(map(len, said)), generator=torch.Generator().manual_seed(1))

    logprobs, entropies = replay(backbone, network.adapters, groups, said, 0.7, entropy_gradient=True)
    ((logprobs + 0.3 * entropies) * weight).sum().backward()
    mine = gradients(network)

    for (adapter, prompt), ids, w in zip(rows, said, weight.split([len(i) for i in said]), strict=True):
        logits = plain_logits(plain, prompt + ids[:-1], merged(network, adapter, plain))[len(prompt) - 1 :]
        logp = (logits / 0.7).log_softmax(-1)
        chosen = logp.gather(1, torch.tensor(ids)[:, None])[:, 0]
        ((chosen - 0.3 * (logp.exp() * logp).sum(-1)) * w).sum().backward()
    assert_close(mine, gradients(network), 1e-4)


def _some(question: str, rollout: int) -> list[str]:
    """Different nodes are absent from the rollouts of one question."""
    return ["1.1", "1.2"][: rollout % 3]


@pytest.mark.parametrize("absent", [(), _some], ids=["all speak", "some absent"])
@pytest.mark.parametrize("micro_tokens", [1, 60, 8192])
def test_a_training_step_follows_the_formula_whatever_the_micro_batches(micro_tokens: int, absent: Absent) -> None:
    """g = 1/(PG) Σ_rows -(r - mean of the others) Σ_t ∇ log π, clipped node by node."""
    network, plain = make_network("2"), plain_model()
    task, asked = FirstCharacter("".join(map(chr, range(200)))), questions(3)
    config = TrainConfig(questions=3, rollouts=4, clip=1e9, micro_tokens=micro_tokens)
    recorder = torch.optim.SGD(network.adapters.stacks(), lr=0.0)
    result = train_step(network, recorder, task, asked, config, step=1, seed=0, absent=absent)
    mine = gradients(network)
    assert len({len(trace.calls) for trace in result.traces}) == (1 if absent == () else 3)

    advantages = leave_one_out(torch.tensor([g.reward for g in result.grades]).view(3, 4)).flatten().tolist()
    assert len(set(advantages)) > 2
    for trace, advantage in zip(result.traces, advantages, strict=True):
        for call in trace.calls:
            prompt = call.prefix_ids + call.own_ids
            weights = merged(network, network.adapters.index[call.node], plain)
            logp = plain_logits(plain, prompt + call.completion_ids[:-1], weights)[len(prompt) - 1 :].log_softmax(-1)
            (-advantage / 12 * logp.gather(1, torch.tensor(call.completion_ids)[:, None]).sum()).backward()
    assert_close(mine, gradients(network), 1e-4)


def test_the_token_budget_bounds_every_pass_of_the_update_however_many_nodes_and_rollouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes: list[tuple[int, int]] = []  # tokens and rows of each pass with gradient

    def counted(backbone: Any, bank: Any, groups: Any, ids: Any, *rest: Any) -> Any:
        if torch.is_grad_enabled():
            own = sum(len(o) for g in groups for o in g.own_ids)
            passes.append((sum(len(g.prefix_ids) for g in groups) + own + sum(map(len, ids)), len(ids)))
        return replay(backbone, bank, groups, ids, *rest)

    monkeypatch.setattr(turns, "replay", counted)
    task, asked = FirstCharacter("".join(map(chr, range(200)))), questions(2)
    totals: list[int] = []
    for budget in (8192, 400, 150):
        passes.clear()
        network = make_network("2-2")
        config = TrainConfig(questions=2, rollouts=6, micro_tokens=budget)
        train_step(network, torch.optim.SGD(network.adapters.stacks(), lr=0.0), task, asked, config, step=1, seed=0)
        assert max(tokens for tokens, _ in passes) <= budget
        totals.append(sum(rows for _, rows in passes))
    assert len(passes) > 10 and len(set(totals)) == 1, "every row once"


def test_each_node_is_clipped_on_its_own() -> None:
    task, asked = FirstCharacter("".join(map(chr, range(200)))), questions(3)
    norms: list[Tensor] = []
    for clip in (1e9, None):
        network = make_network("2")
        if clip is None:
            clip = norms[0].sort().values[1].item() * 0.999  # between the smallest node's norm and the others'
        config = TrainConfig(questions=3, rollouts=4, clip=clip)
        train_step(network, torch.optim.SGD(network.adapters.stacks(), lr=0.0), task, asked, config, step=1, seed=0)
        norms.append(network.adapters.gradient_norms())
    torch.testing.assert_close(norms[1], norms[0].clamp(max=clip))
    assert (norms[1] < norms[0]).sum() == 2


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_nodes_loss_touches_only_its_own_adapter(node: int) -> None:
    network = make_network("2", targets=ALL_TARGETS)
    groups = ragged_groups((0, 1, 2))
    said = [[5, 6, 7] for g in groups for _ in g.own_ids]
    logprobs, _ = replay(network.backbone, network.adapters, groups, said, 1.0)
    belongs = torch.tensor([g.adapter for g in groups for _ in g.own_ids]).repeat_interleave(3)
    logprobs[belongs == node].sum().backward()
    for stack in network.adapters.stacks():
        assert stack.grad is not None
        for other in range(3):
            assert (stack.grad[other].abs().sum() > 0) == (other == node)


@pytest.mark.parametrize("tied", [False, True])
def test_training_changes_every_adapter_and_not_one_byte_of_the_backbone(tied: bool) -> None:
    network = make_network("2", tied=tied)
    network.backbone.adapter_shapes()
    task, config = FirstCharacter("".join(map(chr, range(200)))), TrainConfig(rollouts=4, kl=0.1, entropy=0.1)
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=1e-2)
    before = [p.detach().clone() for p in network.adapters.stacks()]
    fingerprint = network.backbone.fingerprint()
    with unchanged(network.backbone.model):
        for step in (1, 2):
            train_step(network, optimizer, task, questions(3), config, step=step, seed=0)
    assert network.backbone.fingerprint() == fingerprint
    assert all(p.grad is None and not p.requires_grad for p in network.backbone.model.parameters())
    for old, new in zip(before, network.adapters.stacks(), strict=True):
        assert ((old - new).flatten(1).abs().sum(1) > 0).all()


def test_the_fingerprint_tells_backbones_apart_and_ignores_how_they_are_wrapped() -> None:
    backbone = make_backbone()
    before = backbone.fingerprint()
    backbone.adapter_shapes(ALL_TARGETS)
    assert backbone.fingerprint() == before == make_backbone().fingerprint()
    assert make_backbone(seed=1).fingerprint() != before
    assert make_backbone("qwen3").fingerprint() != before


def test_tied_nodes_share_one_adapter_and_add_their_gradients() -> None:
    network = make_network("2", tied=True)
    assert network.adapters.names == ["shared"]
    assert network.trainable_parameters * 3 == make_network("2").trainable_parameters
    said, split = [[5, 6, 7]] * 6, ragged_groups((0, 0, 0))
    logprobs, _ = replay(network.backbone, network.adapters, split, said, 1.0)
    logprobs.sum().backward()
    whole = gradients(network)
    parts = [torch.zeros_like(g) for g in whole]
    for group in split:
        logprobs, _ = replay(network.backbone, network.adapters, [group], [[5, 6, 7]] * len(group.own_ids), 1.0)
        logprobs.sum().backward()
        parts = [a + b for a, b in zip(parts, gradients(network), strict=True)]
    assert_close(whole, parts, 1e-4)


def test_the_kl_and_entropy_terms_have_the_gradient_of_their_formulas() -> None:
    """With rewards that are all equal only these terms are left."""
    task, asked = FirstCharacter(""), questions(2)
    for kl, entropy in ((0.7, 0.0), (0.0, 0.7)):
        network, plain = make_network("1"), plain_model()
        config = TrainConfig(rollouts=2, clip=1e9, kl=kl, entropy=entropy)
        optimizer = torch.optim.SGD(network.adapters.stacks(), lr=0.0)
        result = train_step(network, optimizer, task, asked, config, step=1, seed=0)
        mine = gradients(network)
        for trace in result.traces:
            for call in trace.calls:
                prompt, ids = call.prefix_ids + call.own_ids, torch.tensor(call.completion_ids)[:, None]
                read = prompt + call.completion_ids[:-1]
                weights = merged(network, network.adapters.index[call.node], plain)
                logp = plain_logits(plain, read, weights)[len(prompt) - 1 :].log_softmax(-1)
                base = plain_logits(plain, read)[len(prompt) - 1 :].log_softmax(-1)
                d = (base - logp).gather(1, ids)
                ((kl * (d * d / 2).sum() + entropy * (logp.exp() * logp).sum()) / 4).backward()
        assert_close(mine, gradients(network), 1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_checkpointed_layers_give_the_same_gradients_whatever_runs_between_forward_and_backward(
    architecture: str,
) -> None:
    network = make_network("2", make_backbone(architecture))
    groups = ragged_groups((0, 0, 1, 2))
    said = [[5, 6, 7]] * sum(len(g.own_ids) for g in groups)

    def gradient() -> list[Tensor]:
        logprobs, _ = replay(network.backbone, network.adapters, groups, said, 1.0)
        with torch.no_grad():
            replay(network.backbone, None, groups, said, 1.0)  # the bare backbone, as the KL reference runs it
        (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
        return gradients(network)

    plain = gradient()
    saved: list[int] = []
    keep = lambda x: saved.append(x.numel()) or x
    network.backbone.checkpoint_gradients(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            replay(network.backbone, network.adapters, groups, said, 1.0)
        fewer = sum(saved)
        assert_close(gradient(), plain, 1e-5)
    finally:
        network.backbone.checkpoint_gradients(False)
    saved.clear()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        replay(network.backbone, network.adapters, groups, said, 1.0)
    assert fewer < 0.5 * sum(saved)
    assert_close(gradient(), plain, 1e-5)
