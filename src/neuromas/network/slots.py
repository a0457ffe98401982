"""Between a stream of tokens and the rectangles that attention multiplies, head by head.

A token lies in one slot: of a prefix [U, T] or of a row's own tokens [U, G, C]. Rectangles are laid out as they are
multiplied: prefixes as [U, K, R, T], own tokens as [U, K, G, R, C], so no product has to copy them first.

Legend: U group, G row within a group, T prefix token, C own token, M token of the stream, K key/value head,
R query heads of each, H = K · R heads of the tensor in hand (R is 1 for keys and values), D head size.
"""

from typing import Any

import torch
from torch import Tensor


class Slots:
    """The layout of one pass: prefix_UT and own_UGC hold token numbers, `tokens` where a slot is empty."""

    def __init__(self, prefix_UT: Tensor, own_UGC: Tensor, tokens: int) -> None:
        self.prefix_UT, self.own_UGC, self.tokens = prefix_UT, own_UGC, tokens
        self._rows: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def spread(self, x_MHD: Tensor, K: int) -> tuple[Tensor, Tensor]:
        """Prefix tokens as [U, K, R, T, D] and own tokens as [U, K, G, R, C, D]. An empty slot holds any token's
        values, so keys of empty slots must be masked."""
        (M, H, D), (U, T), (_, G, C) = x_MHD.shape, self.prefix_UT.shape, self.own_UGC.shape
        index, inverse = self._index(H, K)
        rows = _Spread.apply(x_MHD.reshape(M * H, D), index.clamp(max=M * H - 1), inverse)
        prefix, own = rows.split([U * H * T, U * H * G * C])
        return prefix.view(U, K, H // K, T, D), own.view(U, K, G, H // K, C, D)

    def collect(self, prefix: Tensor, own: Tensor) -> Tensor:
        """The reverse of `spread`: [M, H, D]. What lies in empty slots is left behind."""
        _, K, _, R, _, D = own.shape
        H = K * R
        rows = torch.cat([prefix.reshape(-1, D), own.reshape(-1, D)])
        return _Collect.apply(rows, *self._index(H, K)).view(self.tokens, H, D)

    def _index(self, H: int, K: int) -> tuple[Tensor, Tensor]:
        """For every slot and head the row of the stream [M · H], M · H or more where it is empty; and the inverse."""
        if (H, K) not in self._rows:
            heads = torch.arange(H, device=self.own_UGC.device).view(K, H // K)
            prefix = self.prefix_UT[:, None, None] * H + heads[:, :, None]
            own = self.own_UGC[:, None, :, None] * H + heads[:, None, :, None]
            index = torch.cat([prefix.flatten(), own.flatten()])
            inverse = torch.empty((self.tokens + 1) * H, dtype=torch.long, device=index.device)
            inverse[index] = torch.arange(len(index), device=index.device)
            self._rows[H, K] = index, inverse[: self.tokens * H]
        return self._rows[H, K]


class _Spread(torch.autograd.Function):
    """rows[index]; every row of the stream lies in one slot, so its gradient is that of its slot, `inverse`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Collect(torch.autograd.Function):
    """rows[inverse]; empty slots get no gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(index)
        return rows.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (index,) = ctx.saved_tensors
        empty = index >= len(grad)
        spread = grad.index_select(0, index.masked_fill(empty, 0))
        return spread.masked_fill_(empty[:, None], 0), None, None
