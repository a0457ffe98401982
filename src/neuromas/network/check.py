"""Proves a backbone to people: its path, its differences from plain transformers, its speed and its memory.

What a load compares in passing is compared here on longer rows, with adapters, and against a computation of another
kind: every row alone, through the plain model, with the adapters added into its weights.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.cpu import exact_products
from neuromas.network.generate import Completion, generate, replay
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding

_TEXT = "Three boats leave the harbour at noon. The first is twice as fast as the second, and the third turns back. "
_ROWS, _TOKENS = 4, 16  # rows of each of two nodes, and tokens that each writes


@dataclass(frozen=True)
class BackboneReport:
    """The outcome of a check. Differences are to the plain model, row by row, with two random adapters."""

    name: str
    model_type: str
    parameters: int
    dtype: str
    device: str
    path: str  # And the reason for it.
    adapters: list[str]  # Layers that have them.
    probe: float  # Largest relative difference of logits when it was loaded, …
    allowed: float  # … the largest one allowed, …
    rounding: float  # … and that of the plain model with embeddings that are rounded otherwise.
    sampled: float | None  # Largest difference of a sampled token's log-probability, nats. None: weights that cannot
    replayed: float | None  # … Of a replayed one. be added to.
    gradient: float | None  # Relative difference of the adapters' gradient.
    sampling: float  # Tokens a second.
    updating: float  # Tokens a second, replay and backward pass.
    memory: int  # Peak bytes: of the device where it is an accelerator, else of the process.

    def __str__(self) -> str:
        compared = "not compared, since nothing can be added to these weights"
        if self.sampled is not None:
            compared = (
                f"sampled log-probabilities off by at most {self.sampled:.1e} nats, replayed {self.replayed:.1e}, "
            )
            compared += f"gradient {self.gradient:.1e} of its norm"
        return (
            f"{self.name} ({self.model_type}, {self.parameters:,} parameters, {self.dtype} on {self.device})\n"
            f"  {self.path}\n"
            f"  adapters on {', '.join(self.adapters)}\n"
            f"  logits when loaded: off by {self.probe:.1e} of their spread (allowed {self.allowed:.1e}; rounding the "
            f"embeddings otherwise gives {self.rounding:.1e})\n"
            f"  two adapters, against plain transformers row by row: {compared}\n"
            f"  {self.sampling:,.0f} tokens a second sampled, {self.updating:,.0f} updated; peak memory "
            f"{self.memory / 1e9:.2f} GB"
        )


def check(backbone: Backbone) -> BackboneReport:
    """Sample, replay and differentiate with two random adapters, and compare; takes seconds on small models."""
    shapes = backbone.adapter_shapes()
    bank = _random_bank(backbone)
    groups = _groups(backbone)
    if backbone.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    with exact_products():
        said = generate(backbone, bank, groups, range(2 * _ROWS), _TOKENS, Decoding())
        middle = time.perf_counter()
        logprobs_L, _ = replay(backbone, bank, groups, [c.ids for c in said], 1.0)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(logprobs_L.sum(), bank.stacks())])
        end = time.perf_counter()
        differences = _differences(backbone, bank, groups, said, logprobs_L.detach(), gradient)
    tokens = sum(len(c.ids) for c in said)
    proof = backbone.proof
    return BackboneReport(
        name=backbone.name,
        model_type=backbone.model.config.model_type,
        parameters=sum(p.numel() for p in backbone.model.parameters()),
        dtype=str(backbone.dtype).removeprefix("torch."),
        device=str(backbone.device),
        path=proof.line,
        adapters=sorted({key.rpartition(".")[2] for key in shapes}),
        probe=proof.largest,
        allowed=proof.bound,
        rounding=proof.rounding,
        sampled=differences[0],
        replayed=differences[1],
        gradient=differences[2],
        sampling=tokens / (middle - start),
        updating=tokens / (end - middle),
        memory=_peak_bytes(backbone.device),
    )


def _random_bank(backbone: Backbone) -> AdapterBank:
    bank = AdapterBank(
        {"a": "a", "b": "b"}, backbone.adapter_shapes(), rank=4, alpha=4.0, seed=0, device=backbone.device
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for stack in bank.B.values():
            stack.copy_(torch.randn(stack.shape, generator=generator) * 0.3 * stack.shape[1] ** -0.5)
    return bank


def _groups(backbone: Backbone) -> list[Group]:
    """Two prompts of unequal length, the second one's rows with messages of their own."""
    ids = backbone.template.encode(_TEXT * 2)
    own = [ids[: 3 * k] for k in range(_ROWS)]
    return [Group(0, ids, [[] for _ in range(_ROWS)]), Group(1, ids[: len(ids) // 2], own)]


def _differences(
    backbone: Backbone, bank: AdapterBank, groups: list[Group], said: list[Completion], replayed_L: Tensor, mine: Tensor
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Of sampled and replayed log-probabilities, and of the gradient."""
    rows = [(g.adapter, g.prefix_ids + own) for g in groups for own in g.own_ids]
    expected: list[Tensor] = []
    try:
        for (adapter, prompt), completion in zip(rows, said, strict=True):
            expected.append(_alone(backbone, bank, adapter, prompt, completion.ids))
        theirs = torch.autograd.grad(torch.cat(expected).sum(), bank.stacks())
    except (RuntimeError, AttributeError, TypeError):  # weights that are packed in a way of their own
        return None, None, None
    expected_L = torch.cat(expected).detach()
    naive = torch.cat([g.flatten() for g in theirs])
    sampled_L = torch.tensor([x for c in said for x in c.logprobs], device=expected_L.device)
    largest = lambda got_L: (got_L - expected_L).abs().max().item()
    off = ((mine - naive).norm() / naive.norm().clamp(min=1e-12)).item()
    return largest(sampled_L), largest(replayed_L), off


def _alone(backbone: Backbone, bank: AdapterBank, adapter: int, prompt: list[int], ids: list[int]) -> Tensor:
    """Log-probabilities of a completion by the plain model, with the adapter added into its weights."""
    weights: dict[str, Tensor] = {}
    for key in bank.shapes:
        A, B = bank.pair(key)
        base: Any = backbone.model.get_submodule(key).base  # pyright: ignore[reportAttributeAccessIssue]
        added = bank.scale * B[adapter] @ A[adapter]
        whole = base.weight.float() + (added if isinstance(base, torch.nn.Linear) else added.T)
        weights[f"{key}.base.weight"] = whole.to(base.weight.dtype)
    read = torch.tensor([prompt + ids[:-1]], device=backbone.device)
    with backbone.attending(backbone.own_attention):
        out = torch.func.functional_call(
            backbone.model, weights, (), {"input_ids": read, "use_cache": False}, tie_weights=False
        )
    logp = out.logits[0, len(prompt) - 1 :].float().log_softmax(-1)
    return logp.gather(1, torch.tensor(ids, device=backbone.device)[:, None])[:, 0]


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
