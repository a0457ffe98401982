"""Looks at a model's structure, as far as packed passes must know it: without attention, so in any dtype alike.

Packed passes own the attention of a model and nothing else. They fit where every layer attends once in a pass, is told
all there is to know in keywords that `packed.py` reads, and where tokens meet in attention alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "neuromas_structure"
# Keywords that change nothing in a pass without padding, without dropout and without a cache.
_HARMLESS = {"dropout", "position_ids", "use_cache", "cache_position", "output_attentions", "output_hidden_states"}
_HARMLESS |= {"is_causal", "return_dict", "output_router_logits", "position_embeddings", "deterministic"}
_MANY = 4096  # places at which a mask is looked at

Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (row, head, query, key) -> whether it is seen


@dataclass
class Sight:
    """All that the attention layers were given in one pass."""

    layers: list[int] = field(default_factory=list[int])
    masks: dict[int, tuple[Tensor, Mask]] = field(default_factory=dict[int, tuple[Tensor, Mask]])  # by address
    seen: set[tuple[int, int | None]] = field(default_factory=set[tuple[int, int | None]])  # (mask's address, window)
    faults: list[str] = field(default_factory=list[str])
    first: tuple[Tensor, Tensor] | None = None  # queries and keys [1, H, M, D] of the first layer


_under_way: list[Sight] = []


@torch.no_grad()
def fault_of(model: Any, decoder: Any, ids: list[int], layers: int, context: int) -> str | None:
    """The reason why packed passes do not fit the model, or None. layers: of its config. context: its longest row.

    `model` must have been given the attention `NAME`. Raises whatever the model raises.
    """
    ids_1T = torch.tensor([ids], device=model.device)
    other = ids_1T.clone()
    other[0, 1] = ids_1T[0, -1] if ids_1T[0, -1] != ids_1T[0, 1] else ids_1T[0, 0]
    if decoder is model:
        return "its decoder cannot be told from its output layer"
    place = torch.arange(len(ids), device=model.device)[None]
    states, sight = _look(decoder, ids_1T, place)
    again, _ = _look(decoder, other, place)
    backwards, reverse = _look(decoder, ids_1T.flip(1), place.flip(1))
    if states is None or again is None or backwards is None:
        return "its decoder gives no last hidden state"
    if sight.faults:
        return sight.faults[0]
    if len(set(sight.layers)) < len(sight.layers):
        return "some of its layers attend more than once in a pass"
    if sorted(sight.layers) != list(range(layers)):
        return f"{len(sight.layers)} of its {layers} layers attend through transformers' registered functions"
    for mask, window in sight.seen:
        if mask in sight.masks and not _agree(sight.masks[mask][1], window, context, ids_1T.device):
            return "its masks hide other tokens than the windows that its attention is told of"
    off = lambda a, b: ((a - b).float().norm() / b.float().norm()).item()
    allowed = 2e-6 if states.dtype == torch.float32 else torch.finfo(states.dtype).eps / 2
    others = [0, *range(2, len(ids))]
    if (elsewhere := off(again[:, others], states[:, others])) > allowed:
        return f"its tokens meet outside of attention too ({elsewhere:.1g} of their states)"
    assert sight.first is not None and reverse.first is not None, "every layer attends"
    pairs = [(backwards.flip(1), states), *((r.flip(2), s) for r, s in zip(reverse.first, sight.first, strict=True))]
    if (moved := max(off(a, b) for a, b in pairs)) > 4 * allowed:
        return f"it counts its tokens' places by itself ({moved:.1g} of their states)"
    return None


def _look(decoder: Any, ids_1T: Tensor, place_1T: Tensor) -> tuple[Tensor | None, Sight]:
    """The last hidden states of a pass without attention, and what was seen in it."""
    sight = Sight()
    _under_way.append(sight)
    try:
        out = decoder(input_ids=ids_1T, position_ids=place_1T, use_cache=False, packed=sight)
    finally:
        _under_way.pop()
    return getattr(out, "last_hidden_state", None), sight


def _agree(mask: Mask, window: int | None, context: int, device: torch.device) -> bool:
    """True where a mask shows each token what causal attention with this window shows it, up to the longest row."""
    at = lambda x: torch.tensor(x, device=device)
    keys = torch.arange(context, device=device)
    if context > _MANY:
        keys = torch.linspace(0, context - 1, _MANY, device=device).long()
    for query in {0, 3, context // 2, context - 1}:
        edges = [query - 1, query, query + 1, *([] if window is None else [query - window, query - window + 1])]
        kv = torch.cat([keys, at([e for e in edges if 0 <= e < context])])
        want = (kv <= query) & (kv > query - (window or context))
        got = mask(at(0), at(0), at([query])[:, None], kv[None]).expand(1, len(kv))[0]
        if not torch.equal(got, want):
            return False
    return True


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *,
    packed: Sight | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention that lets no token learn of another, and notes what it was given."""
    sight = _under_way[-1]
    if packed is None:
        sight.faults.append("its layers do not hand keywords on to their attention")
    sight.layers.append(getattr(module, "layer_idx", -1))
    sight.first = sight.first or (query, key)
    for name, given in others.items():
        if name not in _HARMLESS and given is not None and given is not False:
            sight.faults.append(f"its attention is given {name}, of which packed passes know nothing")
    if others.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        sight.faults.append("its attention is not causal")
    where = attention_mask.data_ptr() if torch.is_tensor(attention_mask) else 0
    if attention_mask is not None and (where not in sight.masks or attention_mask.shape != sight.masks[where][0].shape):
        sight.faults.append("its attention is given a mask of the model's own making")
    sight.seen.add((where, sliding_window))
    return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None


def _mask(q_length: int, kv_length: int, mask_function: Mask, device: Any = "cpu", **_: Any) -> Tensor:
    """A mask that is known again by its place in memory; what it would have hidden is kept beside it."""
    mask = torch.ones(1, 1, q_length, kv_length, dtype=torch.bool, device=device)
    _under_way[-1].masks[mask.data_ptr()] = mask, mask_function
    return mask


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
