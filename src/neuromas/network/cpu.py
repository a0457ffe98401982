"""Settings of the processor: subnormal numbers, matrix products, prepacked weights, products of short numbers.

A product with a plain weight packs a copy of it into oneDNN's layout every time. While one batch of completions is
sampled, the same frozen weights meet a few rows at every token, so they are prepacked once and thrown away afterwards.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PREPACKING_PAYS = 2048  # rows × tokens to be sampled; below, prepacking costs more than it saves


def flushing() -> bool:
    """True where this thread treats numbers below the smallest normal one as zero."""
    return sys.float_info.min / 2 == 0.0


@contextmanager
def flushed() -> Iterator[None]:
    """Numbers below the smallest normal one count as zero here, in this thread and in those that it starts.

    Trained attention is sharp: many of its weights, and more of their gradients, are below 1e-38. A CPU multiplies
    such subnormal numbers some fifty times as slowly as others, and they change nothing. The state of the thread is put
    back, because NumPy warns where it finds it changed. Without effect on accelerators, and on CPUs that cannot flush.
    """
    already = flushing()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)


def start_threads() -> None:
    """Let torch start its pool of threads now, and flush: they keep the state of the thread that starts them."""
    with flushed():
        torch.zeros(torch.get_num_threads() << 15).add_(1)


def fast_products() -> None:
    """Send float32 products to oneDNN, about 1.5 times as fast here as the default library, at the same precision.

    On CPUs with AMX the same switch would round to bfloat16, so it is left alone there.
    """
    if not torch.cpu._is_amx_tile_supported():  # pyright: ignore[reportPrivateUsage]
        torch.set_float32_matmul_precision("medium")


@contextmanager
def exact_products() -> Iterator[None]:
    """Float32 products as exact as they come, whatever precision the process has chosen for its own."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


_NATIVE = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


def product_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype that products of `dtype` are computed in: float32 on a CPU that only stores short numbers.

    On an AVX2 core, products of 512 rows reached 8.5 GFLOP/s in bfloat16 and 53 in float32, and backwards through an
    output layer 0.3 and 58; with AVX-512 and AMX bfloat16 is the faster one.
    """
    return torch.float32 if device.type == "cpu" and _only_stored(dtype) else dtype


def _only_stored(dtype: torch.dtype) -> bool:
    """True where this processor has no instructions for products in `dtype`."""
    if dtype not in _NATIVE or not torch.backends.mkldnn.is_available():
        return False
    return not getattr(torch.ops.mkldnn, _NATIVE[dtype])()


def warn_of_wide_products(dtype: torch.dtype) -> None:
    """Warn where this processor has no instructions for products in `dtype`."""
    if _only_stored(dtype):
        name = str(dtype).removeprefix("torch.")
        warnings.warn(
            f"this processor has no instructions for products in {name}, so they are computed in float32 and rounded; "
            "that saves memory and no time: set backbone.dtype = 'float32' unless the memory is too small for it",
            stacklevel=3,
        )


def widen(model: nn.Module) -> None:
    """Let linear layers of a frozen model multiply in `product_dtype`; results are rounded to their input's dtype."""
    for module in _linear(model):
        dtype = module.weight.dtype
        if "forward" not in module.__dict__ and product_dtype(dtype, module.weight.device) != dtype:
            module.forward = partial(_Wide.apply, module)


class _Wide(torch.autograd.Function):
    """x @ weight.T + bias in float32. The wide copy of a weight lives as long as its product."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Linear, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.layer = layer
        wide = lambda parameter: None if parameter is None else parameter.float()
        return F.linear(x.float(), layer.weight.float(), wide(layer.bias)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, (grad.float() @ ctx.layer.weight.float()).to(grad.dtype)


@contextmanager
def prepacked(model: nn.Module, rows: int, tokens: int) -> Iterator[None]:
    """Prepack the weights of every linear layer for products with `rows` rows, `tokens` times; without gradients.

    Does nothing on an accelerator, where oneDNN is missing, where it would not pay, and within itself.
    """
    linear = [module for module in _linear(model) if _suited(module)] if rows * tokens >= PREPACKING_PAYS else []
    before = [module.__dict__.get("forward") for module in linear]
    for module in linear:
        dtype = product_dtype(module.weight.dtype, module.weight.device)
        bias = None if module.bias is None else module.bias.to(dtype)
        weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach().to(dtype), rows)
        module.forward = partial(_product, weight, bias, dtype)
    try:
        yield
    finally:
        for module, forward in zip(linear, before, strict=True):
            del module.forward
            if forward is not None:
                module.forward = forward


def _linear(model: nn.Module) -> list[Any]:
    """Linear layers whose weights are plain tensors."""
    return [m for m in model.modules() if type(m) is nn.Linear and type(m.weight) is nn.Parameter]


def _suited(module: nn.Linear) -> bool:
    weight, forward = module.weight, module.__dict__.get("forward")
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if torch.get_float32_matmul_precision() == "highest":  # then other code than oneDNN's is in use
        return False
    if forward is not None and getattr(forward, "func", None) != _Wide.apply:  # prepacked, or somebody else's
        return False
    return product_dtype(weight.dtype, weight.device) in (torch.float32, torch.bfloat16)


def _product(weight: Any, bias: Tensor | None, dtype: torch.dtype, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x.to(dtype), weight, bias, "none", [], "").to(x.dtype)
