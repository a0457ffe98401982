"""Attention over a packed stream of tokens in which many rows share a prefix.

One pass holds *groups*. A group is one (question, node): a prefix that is read once, and rows (rollouts) that
continue it. All tokens of a pass lie in one stream without padding, so embeddings, projections, MLPs and norms
run on real tokens only; just the attention sees rectangles. A row attends to its group's prefix and to its own
earlier tokens under one softmax; the prefix's keys and values are never copied per row.

The function is registered with transformers, so any architecture whose attention goes through
`ALL_ATTENTION_FUNCTIONS` runs unchanged.

Legend: U group, G row within a group, T prefix token, S own token, M token of the stream,
H query head, K key/value head, R = H / K, D head size.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

NAME = "neuromas_shared_prefix"
_SHORT = 256  # prefix tokens up to which scores are written out
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
        self.last_at_B = as_index(last_at)
        self._prefix_at, self._prefix_slot = as_index(prefix_at), as_index(prefix_slot)
        self._own_at, self._own_row, self._own_col = as_index(own_at), as_index(own_row), as_index(own_col)
        self.prefix_len_U = self.prefix_len_U.to(device)
        self._cache: dict[
            int, tuple[Tensor, Tensor, Tensor, Tensor]
        ] = {}  # layer -> prefix K, V, own K, V; K transposed
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._own_masks: dict[tuple[Any, ...], Tensor] = {}
        self._first, self._whole = True, False  # whole: the stream of this pass is its rectangle, one token a row

    def advance(self, rows: list[int], step: int) -> Tensor:
        """Prepare a pass of one token for `rows` (indices in the caller's order), the `step`-th after the first
        pass (from 0). Returns the tokens' positions [B]. Tokens stand in the stream in the order of `rows`."""
        self._first = False
        self._whole = [self.row_of[r] for r in rows] == list(range(self.U * self.G))
        length = [self.own_len[r] + step for r in rows]
        self._own_row = torch.tensor([self.row_of[r] for r in rows], device=self.device)
        self._own_col = torch.tensor(length, device=self.device)
        self.C, self.S = 1, max(length) + 1
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
        """q [1, H, M, D], k and v [1, K, M, D] of the current pass -> [1, M, H, D].

        On a CPU in float32 whatever the model's dtype: no slower there, and scores are not rounded to bfloat16.
        """
        dtype = q.dtype
        q_MHD, k_MKD, v_MKD = (x[0].transpose(0, 1) for x in (q, k, v))
        if q.device.type == "cpu":
            q_MHD, k_MKD, v_MKD = q_MHD.float(), k_MKD.float(), v_MKD.float()
        if self._first:
            prefix_k, prefix_v = self._rectangle(k_MKD), self._rectangle(v_MKD)
            prefix_out = self._attend_prefix(self._rectangle(q_MHD), prefix_k, prefix_v, scale, window)
            out_MHD = torch.zeros_like(q_MHD).index_copy(0, self._prefix_at, prefix_out)
            own_k, own_v = self._own_rectangle(k_MKD), self._own_rectangle(v_MKD)
            prefix_k, own_k = prefix_k.transpose(-1, -2), own_k.transpose(-1, -2)
            if self.room:  # keys lie as they will be multiplied
                self._cache[layer] = prefix_k.contiguous(), prefix_v, own_k.contiguous(), own_v
            if not len(self._own_at):
                return out_MHD[None].to(dtype)
            own_out = self._attend_own(q_MHD[self._own_at], prefix_k, prefix_v, own_k, own_v, scale, window)
            out_MHD = out_MHD.index_copy(0, self._own_at, own_out)
        else:
            prefix_k, prefix_v, own_k, own_v = self._cache[layer]
            u, g = self._own_row // self.G, self._own_row % self.G
            more = self._columns() - own_v.shape[3]
            if more > 0:
                own_k, own_v = F.pad(own_k, (0, more)), F.pad(own_v, (0, 0, 0, more))
                self._cache[layer] = prefix_k, prefix_v, own_k, own_v
            own_k[u, g, :, :, self._own_col], own_v[u, g, :, self._own_col] = k_MKD, v_MKD
            out_MHD = self._attend_own(q_MHD, prefix_k, prefix_v, own_k, own_v, scale, window)
        return out_MHD[None].to(dtype)

    # -- rectangles ---------------------------------------------------------------------------------------

    def _rectangle(self, x_M: Tensor) -> Tensor:
        """Prefix tokens as [U, heads, T, D], zeros where a prefix is shorter."""
        flat = x_M.new_zeros(self.U * self.T, *x_M.shape[1:])
        flat = flat.index_copy(0, self._prefix_slot, x_M[self._prefix_at])
        return flat.view(self.U, self.T, *x_M.shape[1:]).transpose(1, 2).contiguous()

    def _columns(self) -> int:
        """Columns of own keys: those in use or, while sampling, somewhat more, so that few passes have to make room.

        Attention computes on all of them. That costs less than to cut the used ones out, which would copy them."""
        return self.S if not self.room else min(-(-self.S // _GROWTH) * _GROWTH, max(self.own_len) + self.room)

    def _own_rectangle(self, x_M: Tensor) -> Tensor:
        """Own tokens as [U, G, heads, columns, D], zeros where there is none."""
        out = x_M.new_zeros(self.U * self.G, x_M.shape[1], self._columns(), x_M.shape[2])
        out[self._own_row, :, self._own_col] = x_M[self._own_at]
        return out.unflatten(0, (self.U, self.G))

    # -- attention ----------------------------------------------------------------------------------------

    def _attend_prefix(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        """Causal attention of every prefix to itself; right padding is never seen by a real token."""
        U, H, T, D = q.shape
        K, windowed = k.shape[1], window is not None and T > window
        if T > _SHORT:
            mask = self._causal(window, torch.bool) if windowed else None
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=not windowed, scale=scale, enable_gqa=H != K
            )
        else:  # several times as fast on a CPU as the fused kernel
            q = (q * scale).view(U, K, H // K * T, D)
            scores = (q @ k.transpose(-1, -2)).view(U, H, T, T) + self._causal(window, q.dtype)
            weight = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
            out = (weight.view(U, K, H // K * T, T) @ v).view(U, H, T, D)
        return out.transpose(1, 2).flatten(0, 1)[self._prefix_slot]

    def _causal(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Which prefix tokens see which [T, T]: a boolean mask, or one to add."""
        key = (self.T, window, dtype)
        if key not in self._masks:
            t = torch.arange(self.T, device=self.device)
            see = (t[None] <= t[:, None]) & (t[None] > t[:, None] - (window or self.T))
            self._masks[key] = see if dtype == torch.bool else _additive(see, dtype)
        return self._masks[key]

    def _attend_own(
        self, q_MHD: Tensor, pk: Tensor, pv: Tensor, ok: Tensor, ov: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """Own tokens to prefix and own keys under one softmax. Returns [number of own tokens, H, D].

        pk [U, K, D, T], pv [U, K, T, D], ok [U, G, K, D, S], ov [U, G, K, S, D].
        """
        U, G, C, S, (H, D), K = self.U, self.G, self.C, ov.shape[3], q_MHD.shape[1:], pk.shape[1]
        R = H // K
        # rectangle of queries [U, G, C]: in the first pass C covers the own tokens, afterwards it is 1
        slot = self._own_row * C + (self._own_col if self._first else 0)
        q = q_MHD * scale
        if not self._whole:
            q = q.new_zeros(U * G * C, H, D).index_copy(0, slot, q)
        q = q.view(U, G, C, K, R, D).permute(0, 1, 3, 4, 2, 5)  # [U, G, K, R, C, D]
        by_prefix = lambda x: x.transpose(1, 2).flatten(2, 4)  # [U, K, G * R * C, ·]: rows that share their keys
        by_row = lambda x: x.flatten(3, 4)  # [U, G, K, R * C, ·]
        to_prefix = (by_prefix(q) @ pk).view(U, K, G, R, C, self.T).transpose(1, 2)
        to_own = (by_row(q) @ ok).view(U, G, K, R, C, S)
        scores = torch.cat([to_prefix, to_own], -1) + self._mask(C, S, slot, window, q.dtype)
        weight = scores.softmax(-1, dtype=torch.float32)
        on_prefix, on_own = weight.to(q.dtype).split([self.T, S], -1)
        out = (by_prefix(on_prefix) @ pv).view(U, K, G, R, C, D).transpose(1, 2)
        out = out + (by_row(on_own) @ ov).view(U, G, K, R, C, D)
        out = out.permute(0, 1, 4, 2, 3, 5).reshape(U * G * C, H, D)
        return out if self._whole else out[slot]

    def _mask(self, C: int, S: int, slot: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
        """What own tokens see of the prefix and of their own keys, to be added: [U, G, 1, 1, C, T + S]."""
        key = (C, S, window, dtype)
        if key not in self._own_masks:
            col = torch.zeros(self.U * self.G * C, dtype=torch.long, device=self.device)
            col = col.index_copy(0, slot, self._own_col).view(self.U, self.G, 1, 1, C, 1)
            t, s = torch.arange(self.T, device=self.device), torch.arange(S, device=self.device)
            length = self.prefix_len_U.view(-1, 1, 1, 1, 1, 1)
            see_prefix, see_own = t < length, s <= col
            if window is not None and self.T + S > window:
                see_prefix = see_prefix & (t > length + col - window)
                see_own = see_own & (s > col - window)
            see = torch.cat([see_prefix.expand(*see_own.shape[:-1], self.T), see_own], -1)
            self._own_masks[key] = _additive(see, dtype)
        return self._own_masks[key]


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
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every attention layer."""
    assert packed is not None, "this attention runs only inside Backbone.hidden, which passes the packed batch"
    assert softcap is None, "refused when the backbone was loaded"
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed.attend(module.layer_idx, query, key, value, scale, sliding_window), None


AttentionInterface.register(NAME, _attention)
