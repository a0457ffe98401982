"""The library against the plain model, row by row, each row alone and without a cache."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from helpers import merged, plain_logits
from neuromas.network.forward import Network
from neuromas.network.generate import generate, replay
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding


@dataclass(frozen=True)
class Differences:
    sampled: float  # largest, nats
    replayed: float  # likewise
    gradient: float  # relative norm
    greedy: int  # tokens that the plain model would not have chosen

    def within(self, nats: float, gradient: float) -> bool:
        return max(self.sampled, self.replayed) <= nats and self.gradient <= gradient and not self.greedy


def groups_of(prefixes: tuple[int, ...], owns: tuple[tuple[int, ...], ...]) -> list[Group]:
    """A group for each node, with random ids: lengths of the prefixes, and of what each row has of its own."""
    generator = torch.Generator().manual_seed(1)
    ids = lambda n: torch.randint(0, 256, (n,), generator=generator).tolist()
    return [Group(a, ids(p), [ids(n) for n in own]) for a, (p, own) in enumerate(zip(prefixes, owns, strict=True))]


def compare(network: Network, plain: Any, groups: list[Group], tokens: int = 6) -> Differences:
    """Sample, replay, differentiate; then the same by `plain`: the network's backbone untouched, in float32."""
    backbone, bank = network.backbone, network.adapters
    rows = [(g.adapter, g.prefix_ids + own) for g in groups for own in g.own_ids]
    best = generate(backbone, bank, groups, range(len(rows)), tokens, Decoding(greedy=True))
    said = generate(backbone, bank, groups, range(len(rows)), tokens, Decoding())
    logprobs, _ = replay(backbone, bank, groups, [c.ids for c in said], 1.0)
    sizes = [len(c.ids) for c in said]
    weight = torch.randn(len(logprobs), generator=torch.Generator().manual_seed(1))
    (logprobs * weight).sum().backward()
    mine = _gradient(network)
    sampled = replayed = 0.0
    greedy = 0
    for (adapter, prompt), c, b, again, w in zip(
        rows, said, best, logprobs.split(sizes), weight.split(sizes), strict=True
    ):
        expected = _logp(plain, merged(network, adapter, plain), prompt, c.ids).gather(1, _column(c.ids))[:, 0]
        (expected * w).sum().backward()
        sampled = max(sampled, (torch.tensor(c.logprobs) - expected).abs().max().item())
        replayed = max(replayed, (again - expected).abs().max().item())
        with torch.no_grad():
            logp = _logp(plain, merged(network, adapter, plain), prompt, b.ids)
        greedy += int((logp.amax(-1) - logp.gather(1, _column(b.ids))[:, 0] > 1e-3).sum())
    naive = _gradient(network)
    return Differences(sampled, replayed, ((mine - naive).norm() / naive.norm().clamp(min=1e-12)).item(), greedy)


def _logp(plain: Any, weights: dict[str, Tensor], prompt: list[int], ids: list[int]) -> Tensor:
    """Log-probabilities [tokens, V] before each of `ids`, by the row up to there where its length matters."""
    told = str(getattr(plain.config, "rope_parameters", ""))
    if "longrope" in told or "dynamic" in told:
        logits = torch.stack([plain_logits(plain, prompt + ids[:k], weights)[-1] for k in range(len(ids))])
    else:
        logits = plain_logits(plain, prompt + ids[:-1], weights)[len(prompt) - 1 :]
    return logits.float().log_softmax(-1)


def _column(ids: list[int]) -> Tensor:
    return torch.tensor(ids)[:, None]


def _gradient(network: Network) -> Tensor:
    """Of all stacks, zeros where none has arrived; clears them."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.adapters.stacks()]
    network.adapters.zero_grad(set_to_none=True)
    return torch.cat([g.flatten() for g in found])
