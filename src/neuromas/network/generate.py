"""Running batches of rows: sampling completions (no gradient) and replaying them (with gradient).

Legend: B row, M token of the stream, L token of any row's completion, rows concatenated in order.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.cpu import prepacked
from neuromas.network.packed import Group
from neuromas.network.passes import begin
from neuromas.network.sampling import Decoding, draw, uniforms

GoOn = Callable[[int, list[int]], bool]  # (row, its tokens so far) → whether it may write more
IsEnded = Callable[[list[int]], bool]  # a row's tokens so far → whether the last of them ends it


@dataclass
class Completion:
    """The completion of one row; its three lists are aligned, the end-of-sequence token included."""

    ids: list[int]
    logprobs: list[float]  # nats
    entropies: list[float]  # nats; empty where the engine does not tell them
    truncated: bool  # stopped by the limit


class Engine(Protocol):
    """A replacement for `generate`: samples completions from the same adapters, prompts and random streams."""

    def generate(
        self,
        bank: AdapterBank,
        groups: Sequence[Group],
        keys: Sequence[int],
        max_tokens: int,
        how: Decoding | Sequence[Decoding],
    ) -> list[Completion]: ...

    def close(self) -> None: ...


def generate(
    backbone: Backbone,
    bank: AdapterBank | None,
    groups: Sequence[Group],
    keys: Sequence[int],
    max_tokens: int,
    how: Decoding | Sequence[Decoding],
    block: int | None = None,
    go_on: GoOn | None = None,
    ended: IsEnded | None = None,
) -> list[Completion]:
    """One completion for each row of `groups`, in order. keys: the rows' random streams.

    how: for all rows, or one for each. go_on: asked at every look about each row that has not ended; a row it says no
    to is left as it is, `truncated`. ended: asked after every token of a row; one it says yes to is the row's last.
    block: tokens drawn between two looks at which rows have ended. A look waits for the device; a row that has ended
    is computed on until the next one. By default 1 on a CPU and 8 elsewhere; the completions are the same.
    """
    block = block or (1 if backbone.device.type == "cpu" else 8)
    with torch.no_grad(), prepacked(backbone.model, len(keys), max_tokens):
        run = begin(backbone, bank, groups, room=max_tokens)
        if not isinstance(how, Decoding) and len(set(how)) == 1:
            how = how[0]
        uniform_BT = torch.from_numpy(uniforms(keys, max_tokens)).to(backbone.device)
        last = run.first()[run.last_at_B]
        rows = list(range(len(run.last_at_B)))
        done = [Completion([], [], [], truncated=True) for _ in rows]
        drawn: list[tuple[Tensor, Tensor, Tensor]] = []  # since the last look
        for step in range(max_tokens):
            ways = how if isinstance(how, Decoding) else [how[r] for r in rows]
            drawn.append(draw(backbone.logits(last), uniform_BT[:, step], ways))
            token, look = drawn[-1][0], (step + 1) % block == 0 or step + 1 == max_tokens
            if look:
                still = _append(done, rows, drawn, backbone.end_ids, go_on, ended)
                rows, drawn = [rows[i] for i in still], []
                if not rows or step + 1 == max_tokens:
                    break
                keep = torch.tensor(still, device=backbone.device)
                token, uniform_BT = token[keep], uniform_BT[keep]
            last = run.next(token, rows if look or step == 0 else None, step)
        return done


def _append(
    done: list[Completion],
    rows: list[int],
    drawn: list[tuple[Tensor, Tensor, Tensor]],
    end_ids: frozenset[int],
    go_on: GoOn | None,
    ended: IsEnded | None,
) -> list[int]:
    """Append what was drawn (token, log-probability, entropy; [B] each), up to a row's end; returns the rows left."""
    ids, logprobs, entropies = (torch.stack(x, 1).tolist() for x in zip(*drawn, strict=True))
    still: list[int] = []
    for i, r in enumerate(rows):
        end = next((k for k, token in enumerate(ids[i]) if token in end_ids), None)
        if ended is not None:
            written = ids[i] if end is None else ids[i][:end]
            end = next((k for k in range(len(written)) if ended(done[r].ids + written[: k + 1])), end)
        n = len(drawn) if end is None else end + 1
        done[r].ids += ids[i][:n]
        done[r].logprobs += logprobs[i][:n]
        done[r].entropies += entropies[i][:n]
        if end is not None:
            done[r].truncated = False
        elif go_on is None or go_on(r, done[r].ids):
            still.append(i)
    return still


def replay(
    backbone: Backbone,
    bank: AdapterBank | None,
    groups: Sequence[Group],
    completions: Sequence[Sequence[int]],
    temperature: float,
    entropy_gradient: bool = False,
    given: Sequence[Collection[int]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (nats) [L] of sampled completions, differentiable in the bank; the
    entropies only with entropy_gradient.

    groups: as they were sampled from, sorted by adapter. completions: one for each row, never empty. given: for each
    row the places in its completion that are only read, and are no part of L; None: there are none. Every prefix is
    computed once and gradients flow into it; logits exist at completion positions only, chunk by chunk.
    """
    longer: list[Group] = []
    at = 0
    for group in groups:
        own = [o + list(completions[at + g][:-1]) for g, o in enumerate(group.own_ids)]
        longer.append(Group(group.adapter, group.prefix_ids, own))
        at += len(own)
    run = begin(backbone, bank, longer)
    hidden = run.first()
    where: list[int] = []  # stream index of the token before each sampled token
    target: list[int] = []
    has_own = [bool(own) for group in groups for own in group.own_ids]
    read = given or [()] * len(completions)
    rows = zip(completions, read, has_own, _prefix_ends(longer), run.last_at_B.tolist(), strict=True)
    for ids, skipped, own, prefix_end, last in rows:
        first = last - len(ids) + 1 if own else prefix_end
        before = [first, *range(last - len(ids) + 2, last + 1)]  # the first token, the second, third …
        kept = [place for place in range(len(ids)) if place not in skipped]
        where += [before[place] for place in kept]
        target += [ids[place] for place in kept]
    at, target_L = (torch.tensor(values, device=backbone.device) for values in (where, target))
    return backbone.token_logprobs(hidden[at], target_L, temperature, entropy_gradient)


def last_states(backbone: Backbone, bank: AdapterBank | None, groups: Sequence[Group]) -> Tensor:
    """Hidden state [B, width] of each row's last prompt token, in order; differentiable in the bank."""
    run = begin(backbone, bank, groups)
    return run.first()[run.last_at_B]


@torch.no_grad()
def mean_states(backbone: Backbone, prompts: Sequence[list[int]]) -> Tensor:
    """Mean hidden state [B, width] of each prompt under the bare backbone; no gradient."""
    run = begin(backbone, None, [Group(0, ids, [[]]) for ids in prompts])
    return torch.stack([part.mean(0) for part in run.first().split([len(ids) for ids in prompts])])


def _prefix_ends(groups: Sequence[Group]) -> list[int]:
    """Stream index of the prefix's last token, for each row."""
    ends: list[int] = []
    at = 0
    for group in groups:
        ends += [at + len(group.prefix_ids) - 1] * len(group.own_ids)
        at += len(group.prefix_ids) + sum(map(len, group.own_ids))
    return ends
