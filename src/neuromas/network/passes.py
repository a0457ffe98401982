"""A pass over groups of rows, whichever path computes it: first all prompts, then token after token.

Legend: B row, M token of the stream (every group's prefix, then its rows' own tokens), E width of the hidden state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from neuromas.network.adapters import AdapterBank, Route
from neuromas.network.cpu import product_dtype
from neuromas.network.packed import Group, PackedPass
from neuromas.network.plain import PlainPass

if TYPE_CHECKING:
    from neuromas.network.backbone import Backbone


class SharedPrefixPass:
    """The fast path: all rows in one stream without padding, each prefix read once."""

    def __init__(self, backbone: "Backbone", bank: AdapterBank | None, groups: Sequence[Group], room: int) -> None:
        self._backbone, self._batch = backbone, PackedPass(list(groups), room=room, device=backbone.device)
        self.last_at_B = self._batch.last_at_B  # the place of each row's last prompt token in the stream
        self._slot = {a: i for i, a in enumerate(dict.fromkeys(g.adapter for g in groups))}
        # gathered and cast once for all passes
        self._weights = (
            None if bank is None else bank.weights(list(self._slot), product_dtype(backbone.dtype, backbone.device))
        )
        self._route = self._routed()

    def first(self) -> Tensor:
        """Hidden states [M, E] of all prompt tokens; differentiable in the bank."""
        return self._backbone.hidden(self._batch.ids_M, self._batch.position_M, self._batch, self._route)

    def next(self, token_B: Tensor, rows: list[int] | None, step: int) -> Tensor:
        """Hidden states [B, E] of one more token of each of `rows`, the `step`-th after the first pass, from 0.

        rows: None for those of the call before.
        """
        if rows is None:
            position = self._batch.repeat()
        else:
            position = self._batch.advance(rows, step)
            self._route = self._routed()
        return self._backbone.hidden(token_B, position, self._batch, self._route)

    def _routed(self) -> Route | None:
        if self._weights is None:
            return None
        counts = self._batch.counts
        return Route(self._weights, tuple(counts.values()), tuple(self._slot[a] for a in counts))


ModelPass = SharedPrefixPass | PlainPass  # a path as `generate` and `replay` see it


def begin(backbone: "Backbone", bank: AdapterBank | None, groups: Sequence[Group], room: int = 0) -> ModelPass:
    """A pass over `groups`, sorted by adapter, with room for `room` more tokens a row. bank=None: the bare backbone."""
    longest = max(len(g.prefix_ids) + max(map(len, g.own_ids), default=0) for g in groups) + room
    if backbone.packs(longest):
        return SharedPrefixPass(backbone, bank, groups, room)
    return PlainPass(backbone, bank, groups, room)
