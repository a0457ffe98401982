"""Drawing tokens, with randomness that is a function of where a token stands and not of the batch it is in.

Legend: B row, V vocabulary, C block of the vocabulary.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromas.config import SamplingConfig
from neuromas.errors import ConfigError

_BLOCK = 256
_CACHED = 1 << 19  # logits drawn from at once on a CPU


@dataclass(frozen=True)
class Decoding:
    """The rule by which tokens are chosen. greedy ignores temperature and top_p."""

    greedy: bool = False
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature {self.temperature}: must be above 0; for the most likely token use greedy")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p {self.top_p}: must be above 0 and at most 1")

    @classmethod
    def from_config(cls, sampling: SamplingConfig) -> "Decoding":
        """The decoding of a recipe: sampled, not greedy."""
        return cls(temperature=sampling.temperature, top_p=sampling.top_p)


def stream_key(*parts: object) -> int:
    """64-bit key of one random stream, e.g. of (seed, step, question id, rollout, node id)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def uniforms(keys: Sequence[int], positions: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) for each stream key (row) and token position from 0 (splitmix64; Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        steps = np.arange(1, positions + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = np.asarray(keys, dtype=np.uint64)[:, None] + steps
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def draw(logits_BV: Tensor, uniform_B: Tensor, how: Decoding | Sequence[Decoding]) -> tuple[Tensor, Tensor, Tensor]:
    """The next token of each row, its log-probability and the distribution's entropy (nats); each [B].

    uniform_B: float64 numbers in [0, 1), one for each row; not read when greedy. how: for all rows, or one for each.
    Logits may have any floating dtype; they are read as float32.
    Log-probability and entropy are those of softmax(logits / temperature), before top-p cuts anything, and of the
    untempered softmax when greedy. Sampling inverts the cumulative distribution in two levels (block, then within
    the block), which is exact. On a CPU a few rows are drawn at a time, so that they stay in its cache.
    """
    if not isinstance(how, Decoding):
        return _draw_each(logits_BV, uniform_B, how)
    B, V = logits_BV.shape
    size = min(B, max(1, _CACHED // V)) if logits_BV.device.type == "cpu" else B
    # All parts use the same memory: the first touch of fresh memory costs more than the arithmetic.
    scaled, mass = logits_BV.new_empty(2, size, V, dtype=torch.float32).unbind()
    starts = range(0, B, size)
    parts = [_draw(logits_BV[i : i + size], uniform_B[i : i + size], how, scaled, mass) for i in starts]
    return parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))  # pyright: ignore[reportReturnType]


def _draw_each(logits_BV: Tensor, uniform_B: Tensor, hows: Sequence[Decoding]) -> tuple[Tensor, Tensor, Tensor]:
    """`draw` where each row has its own way of choosing; rows that choose alike are drawn together."""
    kinds = list(dict.fromkeys(hows))
    where = [torch.tensor([b for b, how in enumerate(hows) if how == kind], device=logits_BV.device) for kind in kinds]
    parts = [draw(logits_BV[at], uniform_B[at], kind) for at, kind in zip(where, kinds, strict=True)]
    back = torch.cat(where).argsort()
    return tuple(torch.cat(x)[back] for x in zip(*parts, strict=True))  # pyright: ignore[reportReturnType]


def _draw(
    logits_BV: Tensor, uniform_B: Tensor, how: Decoding, scaled: Tensor, mass: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`draw` of a few rows; scaled and mass are memory for as many or more."""
    scaled, mass = scaled[: len(logits_BV)].copy_(logits_BV), mass[: len(logits_BV)]
    if not how.greedy and how.temperature != 1:
        scaled.div_(how.temperature)
    scaled.clamp_(min=torch.finfo(scaled.dtype).min)  # 0 * -inf would make the entropy NaN
    torch.softmax(scaled, -1, out=mass)
    if how.greedy:
        token = scaled.argmax(-1)
    else:
        token = _invert(mass if how.top_p == 1 else _nucleus(mass, how.top_p), uniform_B)
    logprob, logit = mass.gather(-1, token[:, None])[:, 0].log(), scaled.gather(-1, token[:, None])[:, 0]
    entropy = logit - logprob - torch.linalg.vecdot(mass, scaled)  # log of the partition sum, less the mean logit
    return token, logprob, entropy


def _nucleus(mass: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of most likely tokens that holds at least top_p of the mass."""
    ordered, order = mass.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(mass).scatter(-1, order, ordered * (before < top_p))


def _invert(mass: Tensor, u: Tensor) -> Tensor:
    """Index whose cumulative mass first exceeds u * total, per row; never an index of zero mass."""
    B, V = mass.shape
    pad = -V % _BLOCK
    blocks = (torch.nn.functional.pad(mass, (0, pad)) if pad else mass).view(B, -1, _BLOCK)
    block_end = blocks.sum(-1).double().cumsum(-1)
    target = u[:, None] * block_end[:, -1:]
    block = _first_above(block_end, target)
    before = torch.where(block > 0, block_end.gather(1, (block - 1).clamp_(min=0)), 0.0)
    inside = blocks[torch.arange(B, device=mass.device), block[:, 0]].double()
    found = block * _BLOCK + _first_above(inside.cumsum(-1), target - before)
    return found[:, 0].clamp_(max=V - 1)  # beyond the vocabulary only where the masses are NaN


def _first_above(end: Tensor, target: Tensor) -> Tensor:
    """Index [B, 1] of the first cumulative mass above target, which rounding may have put at or beyond the last one."""
    below_all = torch.nextafter(end[:, -1:], end.new_zeros(()))
    return torch.searchsorted(end, torch.minimum(target, below_all), right=True).clamp_(max=end.shape[1] - 1)
