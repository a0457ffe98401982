"""Log-probabilities of given tokens through the language-model head, without ever holding logits of all of them.

The derivative of a token's log-probability with respect to its hidden state is worked out while its chunk of logits
is at hand. The backward pass then only scales it, so the head's product is not computed a second time.

Legend: L token to be scored, C token of a chunk, E width of the hidden state, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from neuromas.network.cpu import product_dtype

CHUNK = 1 << 24  # logits that exist at once
_CACHED = 1 << 18  # logits worked on at once on a CPU, so that they stay in its cache


def token_logprobs(
    hidden_LE: Tensor,
    head_VE: Tensor,
    bias_V: Tensor | None,
    target_L: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the entropy of its distribution, in nats; float32 [L] each.

    The distribution is softmax(logits / temperature), where the logits pass through `softcap * tanh(· / softcap)` if
    there is a softcap. Differentiable in hidden_LE only; the entropy only with entropy_gradient, since that costs a
    second product with the head.
    """
    assert hidden_LE.ndim == 2 and target_L.shape == hidden_LE.shape[:1], "one target for each hidden state"
    dtype = product_dtype(head_VE.dtype, head_VE.device)
    hidden_LE, head_VE = hidden_LE.to(dtype), head_VE.to(dtype)
    return _TokenLogprobs.apply(hidden_LE, head_VE, bias_V, target_L, temperature, softcap, entropy_gradient)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        hidden_LE: Tensor,
        head_VE: Tensor,
        bias_V: Tensor | None,
        target_L: Tensor,
        temperature: float,
        softcap: float | None,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        wanted = ctx.needs_input_grad[0]
        L, V = len(target_L), len(head_VE)
        logprob_L = hidden_LE.new_empty(L, dtype=torch.float32)
        entropy_L = torch.empty_like(logprob_L)
        d_logprob_LE = torch.empty_like(hidden_LE) if wanted else None
        d_entropy_LE = torch.empty_like(hidden_LE) if wanted and entropy_gradient else None
        many = min(L, max(1, CHUNK // V))
        few = max(1, _CACHED // V) if hidden_LE.device.type == "cpu" else many
        # Every chunk uses the same memory again: the first touch of fresh memory costs more than the arithmetic.
        buffer_CV = hidden_LE.new_empty(many, V)
        slope_CV = None if d_entropy_LE is None else torch.empty_like(buffer_CV)
        for start in range(0, L, many):
            chunk = slice(start, min(start + many, L))
            logits_CV = torch.mm(hidden_LE[chunk], head_VE.T, out=buffer_CV[: chunk.stop - start])
            for first in range(start, chunk.stop, few):
                rows = slice(first, min(first + few, chunk.stop))
                local = slice(first - start, rows.stop - start)
                logits = logits_CV[local] if bias_V is None else logits_CV[local] + bias_V
                found = _score(logits.float(), target_L[rows, None], temperature, softcap, wanted, entropy_gradient)
                logprob_L[rows], entropy_L[rows], d_logprob, d_entropy = found
                if d_logprob is not None:
                    logits_CV[local] = d_logprob  # the logits have had their use
                if d_entropy is not None and slope_CV is not None:
                    slope_CV[local] = d_entropy
            if d_logprob_LE is not None:
                torch.mm(logits_CV, head_VE, out=d_logprob_LE[chunk])
            if d_entropy_LE is not None and slope_CV is not None:
                torch.mm(slope_CV[: len(logits_CV)], head_VE, out=d_entropy_LE[chunk])
        ctx.save_for_backward(d_logprob_LE, d_entropy_LE)
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropy_L)
        return logprob_L, entropy_L

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        d_hidden: Tensor | None = None
        for grad_L, d_LE in zip(grads, ctx.saved_tensors, strict=True):
            if grad_L is not None and d_LE is not None:
                share = grad_L[:, None].to(d_LE.dtype) * d_LE
                d_hidden = share if d_hidden is None else d_hidden + share
        return d_hidden, None, None, None, None, None, None


def _score(
    logits: Tensor, target: Tensor, temperature: float, softcap: float | None, wanted: bool, entropy_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Log-probability and entropy [B] of a few rows of logits [B, V] (spent), and their derivatives by the logits.

    target [B, 1]. dlogp/dlogit = [target] - p, dH/dlogit = -p (log p + H), both through temperature and softcap.
    """
    slope = None
    if softcap is not None:
        logits = logits.div_(softcap).tanh_()
        slope = 1 - logits.square() if wanted else None
        logits.mul_(softcap)
    if temperature != 1:
        logits.div_(temperature)
    shifted = logits.sub_(logits.amax(-1, keepdim=True))
    mass = shifted.exp()
    total = mass.sum(-1)
    expected = torch.linalg.vecdot(mass, shifted) / total
    logprob = shifted.gather(-1, target)[:, 0] - total.log()
    entropy = total.log() - expected
    d_logprob = d_entropy = None
    if wanted:
        scale = -1 / (total[:, None] * temperature)
        if entropy_gradient:
            d_entropy = (shifted - expected[:, None]).mul_(mass).mul_(scale)
        d_logprob = mass.mul_(scale)
        d_logprob.scatter_add_(-1, target, torch.full_like(scale, 1 / temperature))
        if slope is not None:
            d_logprob.mul_(slope)
            d_entropy = None if d_entropy is None else d_entropy.mul_(slope)
    return logprob, entropy, d_logprob, d_entropy
