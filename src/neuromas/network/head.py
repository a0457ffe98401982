"""Log-probabilities of given tokens through the language-model head, without ever holding logits of all of them.

The derivative of a token's log-probability with respect to its hidden state is worked out while its chunk of logits
is at hand. The backward pass then only scales it, so the head's product is not computed a second time.

Legend: L token to be scored, E width of the hidden state, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

_CHUNK_BYTES = 32 << 20  # float32 logits held at once


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
        logprob_L = hidden_LE.new_empty(len(target_L), dtype=torch.float32)
        entropy_L = torch.empty_like(logprob_L)
        d_logprob_LE = torch.empty_like(hidden_LE) if wanted else None
        d_entropy_LE = torch.empty_like(hidden_LE) if wanted and entropy_gradient else None
        size = max(1, _CHUNK_BYTES // (4 * len(head_VE)))
        for start in range(0, len(target_L), size):
            part = slice(start, start + size)
            target = target_L[part, None]
            logits = torch.nn.functional.linear(hidden_LE[part], head_VE, bias_V).float()
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
            logprob_L[part] = shifted.gather(-1, target)[:, 0] - total.log()
            entropy_L[part] = total.log() - expected
            if d_entropy_LE is not None:  # dH/dlogit = -p (log p + H)
                d = (shifted - expected[:, None]).mul_(mass).mul_(-1 / (total[:, None] * temperature))
                d_entropy_LE[part] = (d if slope is None else d.mul_(slope)).to(head_VE.dtype) @ head_VE
            if d_logprob_LE is not None:  # dlogp/dlogit = [target] - p
                d = mass.mul_(-1 / (total[:, None] * temperature))
                d.scatter_add_(-1, target, torch.full_like(d[:, :1], 1 / temperature))
                d_logprob_LE[part] = (d if slope is None else d.mul_(slope)).to(head_VE.dtype) @ head_VE
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
