"""Attention over a packed stream of tokens in which many rows share a prefix.

One pass holds *groups*. A group is one (question, node): a prefix that is read once, and rows (rollouts) that
continue it. All tokens of a pass lie in one stream without padding, so embeddings, projections, MLPs and norms
run on real tokens only; just the attention sees rectangles. A row attends to its group's prefix and to its own
earlier tokens under one softmax; the prefix's keys and values are never copied per row.

The function is registered with transformers, so an architecture whose tokens meet nowhere but in the functions of
`ALL_ATTENTION_FUNCTIONS` runs unchanged; `probe.py` finds out whether it is one.

Legend: U group, G row within a group, T prefix token, S own token, M token of the stream,
H query head, K key/value head, R = H / K, D head size, C column of own queries. `slots.py` lays the rectangles out.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from neuromas.network import merged
from neuromas.network.cpu import product_dtype
from neuromas.network.slots import Slots

NAME = "neuromas_shared_prefix"
SHORT = 256  # prefix tokens up to which scores are written out
BLOCK = 128  # own tokens whose scores are written out at once in long passes, where no kernel spares them
_GROWTH = 32  # own tokens that the cache has room for; when they are full, as many again


@dataclass(frozen=True)
class Group:
    """One (question, node): the adapter to run, the shared prefix, and the rows that continue it."""

    adapter: int  # index into the adapter bank
    prefix_ids: list[int]  # never empty
    own_ids: list[list[int]]  # one list per row; may be empty


class PackedPass:
    """The stream of one first pass over `groups` (which are sorted by adapter), with room for `room` more tokens a row.

    After the first pass (prefixes and own tokens together), `advance` prepares one-token passes for some rows.
    """

    def __init__(self, groups: list[Group], room: int, device: torch.device) -> None:
        assert groups and all(g.prefix_ids for g in groups), "every group has a non-empty prefix"
        adapters = [g.adapter for g in groups]
        assert adapters == sorted(adapters), "groups are sorted by adapter, so that routing is by contiguous blocks"
        self.device, self.room = device, room
        self.U, self.G = len(groups), max(len(g.own_ids) for g in groups)
        self.prefix_len_U = torch.tensor([len(g.prefix_ids) for g in groups])
        ids: list[int] = []
        position: list[int] = []
        prefix_at: list[int] = []  # where the prefix tokens stand in the stream …
        prefix_slot: list[int] = []  # … and in the rectangle [U, T]
        own_at: list[int] = []
        own_row: list[int] = []  # u * G + g
        own_col: list[int] = []  # s
        self.T = int(self.prefix_len_U.max())
        self.row_of: list[int] = []  # rows in the caller's order: u * G + g
        self.own_len: list[int] = []  # likewise: own tokens of the first pass
        last_at: list[int] = []  # stream index of each row's last token, the prefix's if it has none of its own
        counts: dict[int, int] = {}
        for u, group in enumerate(groups):
            start, n = len(ids), len(group.prefix_ids)
            ids += group.prefix_ids
            position += range(n)
            prefix_at += range(start, start + n)
            prefix_slot += range(u * self.T, u * self.T + n)
            for g, own in enumerate(group.own_ids):
                self.own_len.append(len(own))
                self.row_of.append(u * self.G + g)
                own_at += range(len(ids), len(ids) + len(own))
                own_row += [u * self.G + g] * len(own)
                own_col += range(len(own))
                position += range(n, n + len(own))
                ids += own
                last_at.append(len(ids) - 1 if own else start + n - 1)
            counts[group.adapter] = counts.get(group.adapter, 0) + len(ids) - start
        self.counts = counts  # tokens of the stream per adapter, in order
        self.row_adapter = [g.adapter for g in groups for _ in g.own_ids]
        self.C = self.S = max(self.own_len, default=0)  # columns of queries and of own keys in the pass under way
        as_index = lambda x: torch.tensor(x, dtype=torch.long, device=device)
        self.ids_M, self.position_M = as_index(ids), as_index(position)
        self.last_at_B, self._own_row, self._own_col = as_index(last_at), as_index(own_row), as_index(own_col)
        prefix, own = torch.full((self.U * self.T,), len(ids)), torch.full((self.U * self.G, self.C), len(ids))
        prefix[prefix_slot] = torch.tensor(prefix_at)
        own[own_row, own_col] = torch.tensor(own_at, dtype=torch.long)
        self._slots = self._laid(prefix.to(device), own.to(device), len(ids))
        self.prefix_len_U = self.prefix_len_U.to(device)
        self._cache: dict[
            int, tuple[Tensor, Tensor, Tensor, Tensor]
        ] = {}  # layer -> prefix K (transposed), V, own K, V
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._own_masks: dict[tuple[Any, ...], Tensor] = {}
        self._part: dict[tuple[Any, ...], tuple[Tensor | None, Tensor | None]] = {}
        self._first = True

    def _laid(self, prefix: Tensor, own: Tensor, tokens: int) -> Slots:
        return Slots(prefix.view(self.U, -1), own.view(self.U, self.G, -1), tokens)

    def advance(self, rows: list[int], step: int) -> Tensor:
        """Prepare a pass of one token for `rows` (indices in the caller's order), the `step`-th after the first
        pass (from 0). Returns the tokens' positions [B]. Tokens stand in the stream in the order of `rows`."""
        self._first = False
        length = [self.own_len[r] + step for r in rows]
        self._own_row = torch.tensor([self.row_of[r] for r in rows], device=self.device)
        self._own_col = torch.tensor(length, device=self.device)
        self.C, self.S = 1, max(length) + 1
        own = torch.full((self.U * self.G,), len(rows), device=self.device)
        own[self._own_row] = torch.arange(len(rows), device=self.device)
        self._slots = self._laid(own[:0], own, len(rows))
        self.counts = {}
        for r in rows:
            self.counts[self.row_adapter[r]] = self.counts.get(self.row_adapter[r], 0) + 1
        self._own_masks.clear()
        return self.prefix_len_U[self._own_row // self.G] + self._own_col

    def repeat(self) -> Tensor:
        """Prepare the next pass of one token for the rows of the last one, without a word between host and device."""
        self._own_col = self._own_col + 1
        self.S += 1
        self._own_masks.clear()
        return self.prefix_len_U[self._own_row // self.G] + self._own_col

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        """q and k [1, H or K, M, D], v [1, K, M, Dv] of the current pass -> [1, M, H, Dv].

        On a CPU the first pass computes in float32 whatever the model's dtype: no slower there, and scores are not
        rounded to bfloat16. Later passes are bound by reading the cache, which is kept in the model's dtype, or that
        of its products.
        """
        dtype, K, kept = q.dtype, k.shape[1], product_dtype(q.dtype, q.device)
        q_MHD, k_MKD, v_MKD = (x[0].transpose(0, 1) for x in (q, k, v))
        wide = self._first and q.device.type == "cpu"
        as_computed = (lambda x: x.float()) if wide else (lambda x: x.to(kept))
        prefix_q, own_q = map(as_computed, self._slots.spread(q_MHD, K))
        if self._first:
            prefix_k, own_k = (as_computed(x)[..., 0, :, :] * scale for x in self._slots.spread(k_MKD, K))
            prefix_v, own_v = (as_computed(x)[..., 0, :, :] for x in self._slots.spread(v_MKD, K))
            prefix_k = prefix_k.transpose(-1, -2)
            if self.room:  # a prefix's keys lie as they will be multiplied, own ones as they are written
                keys, values = prefix_k.contiguous().to(kept), prefix_v.to(kept)
                self._cache[layer] = keys, values, self._grown(own_k).to(kept), self._grown(own_v).to(kept)
            prefix_out = self._attend_prefix(prefix_q, prefix_k, prefix_v, window)
        else:
            prefix_k, prefix_v, own_k, own_v = self._cache[layer]
            prefix_out = prefix_q.new_empty(0, v.shape[-1])
            own_k, own_v = self._grown(own_k), self._grown(own_v)
            self._cache[layer] = prefix_k, prefix_v, own_k, own_v
            u, g = self._own_row // self.G, self._own_row % self.G
            own_k[u, :, g, self._own_col] = as_computed(k_MKD) * scale
            own_v[u, :, g, self._own_col] = as_computed(v_MKD)
        shape = (*own_q.shape[:-1], v.shape[-1])
        attended = lambda: self._attend_own(own_q, prefix_k, prefix_v, own_k, own_v, window)
        own_out = attended() if self.C else own_q.new_empty(shape)
        return self._slots.collect(prefix_out, own_out)[None].to(dtype)

    def _grown(self, own: Tensor) -> Tensor:
        """The cache of own keys or values, with room for those in use and somewhat more, so that few passes grow it.

        Attention computes on all columns. That costs less than to cut the used ones out, which would copy them."""
        more = min(-(-self.S // _GROWTH) * _GROWTH, max(self.own_len) + self.room) - own.shape[3]
        return F.pad(own, (0, 0, 0, more)) if more > 0 else own

    def _attend_prefix(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """Causal attention of every prefix to itself; right padding is never seen by a real token.

        q [U, K, R, T, D], k (scaled) [U, K, D, T], v [U, K, T, Dv] -> [U, K, R, T, Dv].
        """
        U, K, R, T, _ = q.shape
        windowed = window is not None and T > window
        if T > SHORT:
            mask = self._causal(window, torch.bool) if windowed else None
            q, k = q.flatten(1, 2), k.transpose(-1, -2)
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=not windowed, scale=1.0, enable_gqa=R > 1
            )
            return out.view(U, K, R, T, -1)
        # several times as fast on a CPU as the fused kernel
        scores = (q.flatten(2, 3) @ k).view(U, K, R, T, T).add_(self._causal(window, q.dtype))
        weight = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
        return (weight.flatten(2, 3) @ v).view(U, K, R, T, -1)

    def _causal(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """The mask [T, T] of prefix tokens that see each other: boolean, or one to add."""
        key = (self.T, window, dtype)
        if key not in self._masks:
            t = torch.arange(self.T, device=self.device)
            see = (t[None] <= t[:, None]) & (t[None] > t[:, None] - (window or self.T))
            self._masks[key] = see if dtype == torch.bool else _additive(see, dtype)
        return self._masks[key]

    def _attend_own(self, q: Tensor, pk: Tensor, pv: Tensor, ok: Tensor, ov: Tensor, window: int | None) -> Tensor:
        """Own tokens to prefix and own keys under one softmax: [U, K, G, R, C, Dv].

        q [U, K, G, R, C, D], pk (scaled) [U, K, D, T], pv [U, K, T, Dv], ok (scaled) [U, K, G, S, D],
        ov [U, K, G, S, Dv].
        """
        R, C, S = q.shape[3], q.shape[4], ov.shape[3]
        long = self._first and self.T + C > SHORT
        if long and merged.is_supported(q, ov):
            return merged.attend(q, pk.transpose(-1, -2), pv, ok, ov, *self._part_masks(R, window, q.dtype))
        if not long:
            return merged.written_out(q, pk, pv, ok, ov, self._mask(C, S, window, q.dtype))

        def block(begin: int, q: Tensor, pk: Tensor, pv: Tensor, ok: Tensor, ov: Tensor) -> Tensor:
            prefix, own = self._sees(begin, begin + q.shape[-2], window)
            see = torch.cat([prefix.expand(-1, len(own), -1), own.expand(self.U, -1, -1)], -1)
            return merged.written_out(q, pk, pv, ok, ov, _additive(see[:, None, None, None], q.dtype))

        parts: list[Tensor] = []
        for begin in range(0, C, BLOCK):  # a block's scores are computed again in the backward pass
            end = min(begin + BLOCK, C)
            given = q[..., begin:end, :], pk, pv, ok[..., :end, :], ov[..., :end, :]
            parts.append(checkpoint(block, begin, *given, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(parts, -2)

    def _mask(self, C: int, S: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """The mask of own tokens over the prefix and their own keys, to be added: [U, 1, G, 1, C, T + S]."""
        key = (C, S, window, dtype)
        if key not in self._own_masks:
            col = torch.zeros(self.U * self.G * C, dtype=torch.long, device=self.device)
            slot = self._own_row * C + (self._own_col if self._first else 0)
            col = col.index_copy(0, slot, self._own_col).view(self.U, 1, self.G, 1, C, 1)
            t, s = torch.arange(self.T, device=self.device), torch.arange(S, device=self.device)
            length = self.prefix_len_U.view(-1, 1, 1, 1, 1, 1)
            see_prefix, see_own = t < length, s <= col
            if window is not None and self.T + S > window:
                see_prefix = see_prefix & (t > length + col - window)
                see_own = see_own & (s > col - window)
            see = torch.cat([see_prefix.expand(*see_own.shape[:-1], self.T), see_own], -1)
            self._own_masks[key] = _additive(see, dtype)
        return self._own_masks[key]

    def _sees(self, begin: int, end: int, window: int | None) -> tuple[Tensor, Tensor]:
        """The part of prefixes [U, 1 or C, T] and own tokens [C, end] that tokens [begin, end) see in a first pass."""
        t, own = torch.arange(self.T, device=self.device), torch.arange(end, device=self.device)
        c, length = own[begin:, None], self.prefix_len_U.view(-1, 1, 1)
        prefix, causal = t < length, own <= c
        if window is None or self.T + end <= window:
            return prefix, causal
        return prefix & (t > length + c - window), causal & (own > c - window)

    def _part_masks(self, R: int, window: int | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """The masks of `merged.attend` in the first pass, for prefix and own keys; None where none is needed."""
        key = (R, window, dtype)
        if key not in self._part:
            prefix, own = self._sees(0, self.C, window)
            windowed = prefix.shape[1] > 1
            if windowed:
                prefix = prefix[:, None, None].expand(-1, self.G, R, -1, -1).flatten(1, 3)
            seen = not windowed and bool(prefix.all())
            self._part[key] = (
                None if seen else _additive(prefix[:, None], dtype),
                _additive(own, dtype) if windowed else None,
            )
        return self._part[key]


def _additive(see: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(see.shape, dtype=dtype, device=see.device).masked_fill(~see, torch.finfo(dtype).min / 2)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: PackedPass | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every attention layer; the probe has seen what else they are given."""
    assert packed is not None, "this attention runs only inside Backbone.hidden, which passes the packed batch"
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed.attend(module.layer_idx, query, key, value, scale, sliding_window), None


AttentionInterface.register(NAME, _attention)
