"""The plain path: the model's own forward pass, attention and cache, for models that packed passes do not fit.

Rows run side by side only where they are equally long and share an adapter, so nothing is padded and no number depends
on a neighbour. Where the probe has shown that the model's cache may be continued, a prefix is read once and its state
copied for the rows; else prompts are read whole; and a model whose cache cannot be trusted reads everything anew for
every token. A replay is whole sequences through the model, with gradients to the adapters.

Legend: B row, M token of the stream, E width of the hidden state, T token of equally long sequences.
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuromas.network.adapters import AdapterBank, Route
from neuromas.network.cpu import product_dtype
from neuromas.network.packed import Group

if TYPE_CHECKING:
    from neuromas.network.backbone import Backbone

State = Mapping[str, Any]  # what a model hands from one pass to the next: its cache under the model's own names
_STATES = ("past_key_values", "cache_params", "state", "mems")


@dataclass
class _Abreast:
    """Rows of one adapter that are equally long."""

    adapter: int
    rows: list[int]
    ids_BT: Tensor  # all tokens so far
    state: State | None = None  # None: everything is read anew for every token


@dataclass
class _Sequence:
    number: int
    group: int
    adapter: int
    prefix: list[int]
    own: list[int] = field(repr=False)

    @property
    def ids(self) -> list[int]:
        return self.prefix + self.own


class PlainPass:
    """A pass over groups of rows by the model's own means; its methods are those of `passes.SharedPrefixPass`."""

    def __init__(self, backbone: "Backbone", bank: AdapterBank | None, groups: Sequence[Group], room: int) -> None:
        self._backbone, self._room, self._groups = backbone, room, groups
        self._slot = {a: i for i, a in enumerate(dict.fromkeys(g.adapter for g in groups))}
        self._weights = (
            None if bank is None else bank.weights(list(self._slot), product_dtype(backbone.dtype, backbone.device))
        )
        self._rows: list[_Sequence] = []
        last: list[int] = []
        at = 0
        for u, group in enumerate(groups):
            at += len(group.prefix_ids)
            prefix_end = at - 1
            for own in group.own_ids:
                self._rows.append(_Sequence(len(self._rows), u, group.adapter, group.prefix_ids, own))
                at += len(own)
                last.append(at - 1 if own else prefix_end)
        self.last_at_B = torch.tensor(last, dtype=torch.long, device=backbone.device)
        self._batches: list[_Abreast] = []
        self._live: list[int] = []

    def first(self) -> Tensor:
        prefixes: dict[int, Tensor] = {}
        owns: dict[int, Tensor] = {}
        for members in self._alike():
            states_BTE = self._read(members, prefixes)
            for row, states_TE in zip(members, states_BTE, strict=True):
                n = len(row.prefix)
                if not row.own or row.group not in prefixes:  # what a row without own tokens goes on from is its own
                    prefixes[row.group] = states_TE[:n]
                owns[row.number] = states_TE[n:]
        pieces: list[Tensor] = []
        for u, _ in enumerate(self._groups):
            pieces += [prefixes[u], *(owns[row.number] for row in self._rows if row.group == u)]
        return torch.cat(pieces)

    def next(self, token_B: Tensor, rows: list[int] | None, step: int) -> Tensor:
        self._live = self._live if rows is None else rows
        place = {row: i for i, row in enumerate(self._live)}
        found: dict[int, Tensor] = {}
        for batch in self._batches:
            keep = [i for i, row in enumerate(batch.rows) if row in place]
            if not keep:
                continue
            if len(keep) < len(batch.rows):
                self._shrink(batch, keep)
            token = token_B[[place.get(row, 0) for row in batch.rows]][:, None]  # any, for those that have ended
            batch.ids_BT = torch.cat([batch.ids_BT, token], 1)
            if batch.state is None:
                states, _ = self._run(batch.ids_BT, batch.adapter, None)
            else:
                states, batch.state = self._run(token, batch.adapter, batch.state)
            found |= dict(zip(batch.rows, states[:, -1], strict=True))
        return torch.stack([found[row] for row in self._live])

    # -- rows that run side by side -----------------------------------------------------------------------

    def _alike(self) -> list[list[_Sequence]]:
        """The rows, those together that are equally long under one adapter; of one group where prefixes are shared."""
        alike: dict[tuple[int, ...], list[_Sequence]] = {}
        for row in self._rows:
            one = row.group if self._shares(row) else -1 if self._backbone.proof.abreast else -2 - row.number
            alike.setdefault((row.adapter, len(row.prefix) + len(row.own), one), []).append(row)
        return list(alike.values())

    def _shares(self, row: _Sequence) -> bool:
        return self._room > 0 and self._backbone.proof.shares and self._steady(row, len(row.prefix))

    def _caches(self, row: _Sequence) -> bool:
        return self._backbone.proof.caches and self._steady(row, len(row.ids))

    def _steady(self, row: _Sequence, start: int) -> bool:
        """True where the states of the first `start` tokens hold for all that may follow."""
        return self._backbone.rope.steady(start, len(row.ids) + self._room)

    def _read(self, members: list[_Sequence], prefixes: dict[int, Tensor]) -> Tensor:
        """Hidden states [B, T, E] of equally long rows; keeps what sampling goes on from."""
        first = members[0]
        device, adapter = self._backbone.device, first.adapter
        ids_BT = torch.tensor([row.ids for row in members], device=device)
        if self._room == 0:
            return self._whole(ids_BT, adapter)
        batch = _Abreast(adapter, [row.number for row in members], ids_BT)
        self._batches.append(batch)
        if not self._caches(first):
            return self._whole(ids_BT, adapter)
        if not self._shares(first):
            states, batch.state = self._run(ids_BT, adapter, {})
            return states
        n = len(first.prefix)
        if first.group not in prefixes:
            states, self._prefix_state = self._run(ids_BT[:1, :n], adapter, {})
            prefixes[first.group] = states[0]
        batch.state = repeated(self._prefix_state, len(members))
        shared = prefixes[first.group].expand(len(members), -1, -1)
        if not first.own:
            return shared
        states, batch.state = self._run(ids_BT[:, n:], adapter, batch.state)
        return torch.cat([shared, states], 1)

    def _shrink(self, batch: _Abreast, keep: list[int]) -> None:
        """Leave out the rows that have ended, where the cache allows it; else they are computed on."""
        if batch.state is not None and not self._backbone.proof.shares:
            return
        index = torch.tensor(keep, device=self._backbone.device)
        batch.rows, batch.ids_BT = [batch.rows[i] for i in keep], batch.ids_BT[index]
        if batch.state is not None:
            for cache in batch.state.values():
                cache.reorder_cache(index)

    # -- the model ----------------------------------------------------------------------------------------

    def _whole(self, ids_BT: Tensor, adapter: int) -> Tensor:
        """Hidden states of whole sequences, each token's by the rotary frequencies of a pass that ends with it."""
        parts: list[Tensor] = []
        done = 0
        for end in self._backbone.rope.ends(ids_BT.shape[1]):
            parts.append(self._run(ids_BT[:, :end], adapter, None)[0][:, done:])
            done = end
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _run(self, ids_BT: Tensor, adapter: int, state: State | None) -> tuple[Tensor, State | None]:
        route = None
        if self._weights is not None:
            route = Route(self._weights, (ids_BT.numel(),), (self._slot[adapter],))
        return self._backbone.plain_states(ids_BT, state, route)


def head_inputs(model: Any, head: nn.Module, ids_BT: Tensor, state: State | None) -> tuple[Tensor, State | None]:
    """The output layer's input at each token [B, T, E], and the state to go on from. state=None: keep none."""
    given: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given.append(args[0])
        return (args[0][:, -1:], *args[1:])  # logits of the other tokens are of no use here

    handle = head.register_forward_pre_hook(keep)
    try:
        out = model(input_ids=ids_BT, use_cache=state is not None, **(state or {}))
    finally:
        handle.remove()
    return given[0], None if state is None else _state_of(model, out)


def repeated(state: State | None, rows: int) -> State:
    """The state after a prefix, once for each of `rows` that continue it."""
    copied = copy.deepcopy(dict(state or {}))
    for cache in copied.values():
        cache.reorder_cache(torch.zeros(rows, dtype=torch.long))
    return copied


def _state_of(model: Any, out: Any) -> State:
    """The part of a model's output that the next pass is given, under the names by which its forward pass takes it."""
    taken = inspect.signature(model.forward).parameters
    found = {name: out[name] for name in _STATES if out.get(name) is not None}
    return {name if name in taken or "cache" not in taken else "cache": value for name, value in found.items()}
