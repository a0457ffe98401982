"""Attention of own tokens to a shared prefix and to themselves: written out, or in memory that grows linearly.

For the latter the two parts are computed one after the other, each by a kernel that never holds its scores, and are
merged by the logarithms of their sums of exponentials, as in ring attention (arXiv 2310.01889). Backwards every part is
given the merged output and the merged logarithm, from which the kernel recomputes the weights of the one softmax.

Legend: U group, G row within a group, T prefix token, C own token, K key/value head, R query heads of each, D head
size. Tensors are laid out as in `slots.py`.
"""

from typing import Any

import torch
from torch import Tensor

_forward: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def is_supported(q: Tensor, v: Tensor) -> bool:
    """The kernel runs on CPUs, for values as wide as queries."""
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1]


def attend(
    q: Tensor, pk: Tensor, pv: Tensor, ok: Tensor, ov: Tensor, prefix_mask: Tensor | None, own_mask: Tensor | None
) -> Tensor:
    """Own tokens to the prefix's keys and, causally, to their row's: [U, K, G, R, C, D], differentiable but for masks.

    q [U, K, G, R, C, D]; pk and pv [U, K, T, D]; ok and ov [U, K, G, C, D]; keys are scaled. prefix_mask, to be added:
    [U, 1, 1 or G · R · C, T], or None where every token sees the whole prefix. own_mask [C, C], likewise; None: causal.
    """
    q, pk, pv, ok, ov = (x.contiguous() for x in (q, pk, pv, ok, ov))  # the kernel takes the last dimension as dense
    return _Merged.apply(q, pk, pv, ok, ov, prefix_mask, own_mask)


def written_out(q: Tensor, pk: Tensor, pv: Tensor, ok: Tensor, ov: Tensor, mask: Tensor) -> Tensor:
    """As `attend`, with all scores written out, for short passes and other devices: [U, K, G, R, C, Dv].

    pk [U, K, D, T] lies as it is multiplied; ok [U, K, G, S, D]; values may be of another width Dv. mask, to be added:
    [U, 1, G or 1, 1, C, T + S].
    """
    (U, K, G, R, C, _), T, (S, D) = q.shape, pk.shape[-1], ov.shape[3:]
    by_prefix, by_row = q.flatten(2, 4), q.flatten(3, 4)  # rows that share their keys
    to_own = (by_row @ ok.transpose(-1, -2)).view(U, K, G, R, C, S)
    scores = torch.cat([(by_prefix @ pk).view(U, K, G, R, C, T), to_own], -1)
    weight = scores.add_(mask).softmax(-1, dtype=torch.float32).to(q.dtype)
    on_prefix, on_own = weight.split([T, S], -1)
    out = on_prefix.flatten(2, 4) @ pv
    flat = lambda x: x.reshape(U * K * G, -1, x.shape[-1])
    whole = torch.baddbmm(flat(out.view(U, K, G, R * C, D)), flat(on_own.flatten(3, 4)), flat(ov))
    return whole.view(U, K, G, R, C, D)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        q: Tensor,
        pk: Tensor,
        pv: Tensor,
        ok: Tensor,
        ov: Tensor,
        prefix_mask: Tensor | None,
        own_mask: Tensor | None,
    ) -> Tensor:
        to_prefix, lse_prefix = _forward(_to_prefix(q), pk, pv, attn_mask=prefix_mask, scale=1.0)
        keys = _to_own(q), _shared(ok, q), _shared(ov, q)
        to_own, lse_own = _forward(*keys, is_causal=own_mask is None, attn_mask=own_mask, scale=1.0)
        lse_prefix, lse_own = lse_prefix.reshape(q.shape[:-1]), lse_own.reshape(q.shape[:-1])
        share = torch.sigmoid(lse_own - lse_prefix)[..., None].to(q.dtype)
        out = torch.lerp(to_prefix.reshape(q.shape), to_own.reshape(q.shape), share).contiguous()
        lse = torch.logaddexp(lse_prefix, lse_own).contiguous()
        ctx.save_for_backward(q, pk, pv, ok, ov, prefix_mask, own_mask, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, pk, pv, ok, ov, prefix_mask, own_mask, out, lse = ctx.saved_tensors
        grad = grad.contiguous()
        of_prefix = _to_prefix(out), _to_prefix(lse)
        dq, dpk, dpv = _backward(
            _to_prefix(grad), _to_prefix(q), pk, pv, *of_prefix, 0.0, False, attn_mask=prefix_mask, scale=1.0
        )
        keys = _to_own(q), _shared(ok, q), _shared(ov, q)
        dq_own, dok, dov = _backward(
            _to_own(grad), *keys, _to_own(out), _to_own(lse), 0.0, own_mask is None, attn_mask=own_mask, scale=1.0
        )
        dq = dq.reshape(q.shape) + dq_own.reshape(q.shape)
        return dq, dpk, dpv, dok.sum(1).view(ok.shape), dov.sum(1).view(ov.shape), None, None


def _to_prefix(x: Tensor) -> Tensor:
    """All queries of a key head beside each other: [U, K, G · R · C, …]."""
    return x.flatten(2, 4)


def _to_own(x: Tensor) -> Tensor:
    """The query heads of each row and key head: [U · K · G, R, C, …]."""
    return x.flatten(0, 2)


def _shared(keys: Tensor, q: Tensor) -> Tensor:
    """A row's keys or values for each of its query heads, without a copy: [U · K · G, R, C, D]."""
    return keys.flatten(0, 2)[:, None].expand(-1, q.shape[3], -1, -1)
