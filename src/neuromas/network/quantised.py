"""Layers whose weights are quantised: their gradients are tried before anything is trained through them."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from neuromas.errors import BackboneError

_ROWS = 16
_ALLOWED = 0.1  # of a gradient; layers that quantise what they are given are off by a few hundredths


def prepare(model: nn.Module, name: str) -> None:
    """Make quantised layers ready for training, and try them. Raises `BackboneError` where gradients would be wrong.

    They are left in training mode: bitsandbytes (0.50, on a CPU) rearranges the 4-bit weights of a layer in evaluation
    mode at its first pass without gradients, and from then on none passes through it. They hold no dropout.
    """
    tried: set[tuple[object, ...]] = set()
    for key, layer in _quantised(model):
        layer.train()
        kind = type(layer), layer.in_features, layer.out_features
        if kind in tried:
            continue
        tried.add(kind)
        if not (off := gradient_error(layer, model)) <= _ALLOWED:
            raise BackboneError(
                f"backbone {name!r}: the gradient through quantised layers ({type(layer).__name__}, such as {key}) "
                f"is off by {off:.0%}, so what stands below them would learn nothing right; load the model without "
                "quantisation, or quantise it by other means"
            )


def gradient_error(layer: nn.Module, model: nn.Module) -> float:
    """Relative difference of the gradient by a linear layer's input from what the layer does to small steps; 1: none.

    For a linear map, the step of a projection g of its output equals the gradient of that projection times the step of
    the input. Both are taken for a few random rows, after a pass without gradients.
    """
    device = next(model.parameters()).device
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    draws = torch.Generator().manual_seed(0)
    drawn = lambda width: torch.randn(_ROWS, width, generator=draws).to(device, dtype)
    x, step = drawn(layer.in_features), drawn(layer.in_features)
    with torch.no_grad():
        moved = (layer(x + step) - layer(x)).float()
    g = drawn(moved.shape[-1])
    with torch.enable_grad():
        y: Tensor = layer(x.requires_grad_())
        gradient = torch.zeros_like(x)
        if y.requires_grad:
            (gradient,) = torch.autograd.grad((y * g).sum(), [x], allow_unused=True, materialize_grads=True)
    expected, got = (moved * g).sum(-1), (gradient.float() * step.float()).sum(-1)
    return ((got - expected).norm() / expected.norm()).item()


def _quantised(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The linear layers whose weight is no plain floating tensor."""
    for key, module in model.named_modules():
        sizes = (getattr(module, side, None) for side in ("in_features", "out_features"))
        weight = getattr(module, "weight", None)
        plain = type(weight) in (Tensor, nn.Parameter) and weight is not None and weight.is_floating_point()
        if all(isinstance(size, int) for size in sizes) and not plain:
            yield key, module
