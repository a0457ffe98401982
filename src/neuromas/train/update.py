"""The end of every update: a checked backward pass, gradients clipped adapter by adapter, a step of the optimiser.

Legend: N adapter.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from neuromas.errors import DivergenceError
from neuromas.network.adapters import AdapterBank
from neuromas.network.cpu import flushed
from neuromas.types import Trace


def backward(loss: Tensor, step: int, traces: Sequence[Trace] = ()) -> float:
    """Add the gradients of a loss (a scalar); returns its value. Raises `DivergenceError` where it is not finite."""
    if not torch.isfinite(loss):
        raise DivergenceError(
            f"step {step}: the loss is {loss.item()}; lower train.learning_rate or train.clip", list(traces)
        )
    with flushed():
        loss.backward()
    return loss.item()


def update(
    bank: AdapterBank,
    optimizer: torch.optim.Optimizer,
    clip: float,
    step: int,
    *,
    only: Iterable[str] | None = None,
    extras: Iterable[nn.Parameter] = (),
    traces: Sequence[Trace] = (),
) -> Tensor:
    """Clip each adapter's gradient to the norm `clip` on its own, then step; returns the norms [N] before clipping.

    only: names of the adapters that change; the others stay as they are to the bit, whatever momentum the optimiser
    remembers of them. None: all. extras: what else is trained, clipped together. Raises `DivergenceError` before
    anything is changed where a gradient is not finite.
    """
    norms_N = bank.gradient_norms()
    changing = list(bank.names if only is None else only)
    with_gradient = [p for p in extras if p.grad is not None]
    bad = [name for name in changing if not math.isfinite(norms_N[bank.names.index(name)].item())]
    bad += ["extras" for p in with_gradient if p.grad is not None and not math.isfinite(p.grad.norm().item())]
    if bad:
        raise DivergenceError(
            f"step {step}: the gradient of {bad} is not finite; lower train.learning_rate or train.clip", list(traces)
        )
    scale_N = (clip / norms_N.clamp(min=1e-12)).clamp(max=1.0)
    for stack in bank.stacks():
        if stack.grad is not None:
            stack.grad.mul_(scale_N.view(-1, 1, 1))
    if with_gradient:
        nn.utils.clip_grad_norm_(with_gradient, clip)
    others = [n for n, name in enumerate(bank.names) if name not in changing]
    kept = [stack.detach()[others].clone() for stack in bank.stacks()] if others else []
    optimizer.step()
    with torch.no_grad():
        for stack, old in zip(bank.stacks(), kept, strict=False):
            stack[others] = old
    return norms_N


def check_finite(traces: Sequence[Trace], step: int) -> None:
    """Equal rewards skip the replay, so a network that has turned to NaN must be noticed where it samples.

    Raises `DivergenceError` where a log-probability is not finite.
    """
    bad = {call.node for trace in traces for call in trace.calls if not all(map(math.isfinite, call.logprobs))}
    if bad:
        raise DivergenceError(
            f"step {step}: a log-probability of {sorted(bad)} is not finite; lower the learning rate", list(traces)
        )
