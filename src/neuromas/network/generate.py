"""Running packed batches: sampling completions (no gradient) and replaying them (with gradient).

Legend: B row, M token of the stream, L token of any row's completion, rows concatenated in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from neuromas.network.adapters import AdapterBank, Route
from neuromas.network.backbone import Backbone
from neuromas.network.packed import Group, PackedPass
from neuromas.network.sampling import Decoding, draw

_CHUNK_BYTES = 64 << 20  # logits held at once while replaying


@dataclass
class Completion:
    """What one row produced; the three lists are aligned, the end-of-sequence token included."""

    ids: list[int]
    logprobs: list[float]  # nats
    entropies: list[float]  # nats
    truncated: bool  # stopped by the limit


@torch.no_grad()
def generate(
    backbone: Backbone,
    bank: AdapterBank | None,
    groups: Sequence[Group],
    keys: Sequence[int],
    max_tokens: int,
    how: Decoding,
) -> list[Completion]:
    """One completion for each row of `groups`, in order. keys: the rows' random streams."""
    batch = PackedPass(list(groups), room=max_tokens, device=backbone.device)
    router = _Routes(backbone, bank, groups)
    hidden = backbone.hidden(batch.ids_M, batch.position_M, batch, router.route(batch))
    last = hidden[batch.last_at_B]
    rows = list(range(len(batch.row_of)))
    done = [Completion([], [], [], truncated=True) for _ in rows]
    for step in range(max_tokens):
        token, logprob, entropy = draw(backbone.logits(last), [keys[r] for r in rows], step, how)
        still: list[int] = []
        for i, (r, t, lp, e) in enumerate(zip(rows, token.tolist(), logprob.tolist(), entropy.tolist(), strict=True)):
            done[r].ids.append(t)
            done[r].logprobs.append(lp)
            done[r].entropies.append(e)
            if t in backbone.end_ids:
                done[r].truncated = False
            else:
                still.append(i)
        rows = [rows[i] for i in still]
        if not rows or step == max_tokens - 1:
            break
        position = batch.advance(rows, step)
        ids = token[torch.tensor(still, device=token.device)]
        last = backbone.hidden(ids, position, batch, router.route(batch))
    return done


def replay(
    backbone: Backbone,
    bank: AdapterBank | None,
    groups: Sequence[Group],
    completions: Sequence[Sequence[int]],
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (nats) [L] of given completions, differentiable in the bank.

    groups: as they were sampled from, sorted by adapter. completions: one for each row, never empty. Every prefix is
    computed once and gradients flow into it; logits exist at completion positions only, chunk by chunk.
    """
    longer: list[Group] = []
    at = 0
    for group in groups:
        own = [o + list(completions[at + g][:-1]) for g, o in enumerate(group.own_ids)]
        longer.append(Group(group.adapter, group.prefix_ids, own))
        at += len(own)
    batch = PackedPass(longer, room=0, device=backbone.device)
    hidden = backbone.hidden(batch.ids_M, batch.position_M, batch, _Routes(backbone, bank, longer).route(batch))
    where: list[int] = []  # stream index of the token before each completion token
    has_own = [bool(own) for group in groups for own in group.own_ids]
    rows = zip(completions, has_own, _prefix_ends(longer), batch.last_at_B.tolist(), strict=True)
    for ids, own, prefix_end, last in rows:
        where.append(last - len(ids) + 1 if own else prefix_end)
        where += range(last - len(ids) + 2, last + 1)  # before the second, third … token
    target = torch.tensor([t for ids in completions for t in ids], device=backbone.device)
    picked = hidden[torch.tensor(where, device=backbone.device)]
    return _score(backbone, picked, target, temperature)


def _score(backbone: Backbone, hidden_LE: Tensor, target_L: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    def chunk(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logp = (backbone.logits(hidden) / temperature).log_softmax(-1)
        return logp.gather(-1, target[:, None])[:, 0], -(logp.exp() * logp).sum(-1)

    size = max(1, _CHUNK_BYTES // (4 * backbone.vocabulary))
    parts = [
        checkpoint(chunk, hidden_LE[i : i + size], target_L[i : i + size], use_reentrant=False)
        for i in range(0, len(target_L), size)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _prefix_ends(groups: Sequence[Group]) -> list[int]:
    """Stream index of the prefix's last token, for each row."""
    ends: list[int] = []
    at = 0
    for group in groups:
        ends += [at + len(group.prefix_ids) - 1] * len(group.own_ids)
        at += len(group.prefix_ids) + sum(map(len, group.own_ids))
    return ends


class _Routes:
    """Routes for the passes over one list of groups; the stacks are gathered and cast once."""

    def __init__(self, backbone: Backbone, bank: AdapterBank | None, groups: Sequence[Group]) -> None:
        self._slot = {a: i for i, a in enumerate(dict.fromkeys(g.adapter for g in groups))}
        self._weights = None if bank is None else bank.weights(list(self._slot), backbone.dtype)

    def route(self, batch: PackedPass) -> Route | None:
        if self._weights is None:
            return None
        counts = batch.counts
        return Route(self._weights, tuple(counts.values()), tuple(self._slot[a] for a in counts))
