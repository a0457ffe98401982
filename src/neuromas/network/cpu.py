"""Settings of the processor: subnormal numbers, matrix products, prepacked weights.

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


def warn_of_slow_products(dtype: torch.dtype) -> None:
    """Warn where this processor has no instructions for products in `dtype`.

    On an AVX2 core, products of 512 rows reached 8.5 GFLOP/s in bfloat16 and 53 in float32; with AVX-512 and AMX
    bfloat16 is the faster one.
    """
    native = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    if dtype in native and not native[dtype]():
        name = str(dtype).removeprefix("torch.")
        warnings.warn(
            f"this processor has no instructions for products in {name}, so they take several times as long as in "
            "float32; set backbone.dtype = 'float32' unless the memory is too small for it",
            stacklevel=3,
        )


@contextmanager
def exact_products() -> Iterator[None]:
    """Float32 products as exact as they come, whatever precision the process has chosen for its own."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def prepacked(model: nn.Module, rows: int, tokens: int) -> Iterator[None]:
    """Prepack the weights of every linear layer for products with `rows` rows, `tokens` times; without gradients.

    Does nothing on an accelerator, where oneDNN is missing, where it would not pay, and within itself.
    """
    plain = lambda module: type(module) is nn.Linear and "forward" not in module.__dict__ and _suited(module.weight)
    linear: Any = [module for module in model.modules() if plain(module)] if rows * tokens >= PREPACKING_PAYS else []
    for module in linear:
        weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), rows)
        module.forward = partial(_product, weight, module.bias)
    try:
        yield
    finally:
        for module in linear:
            del module.forward


def _suited(weight: Tensor) -> bool:
    if type(weight) is not nn.Parameter or weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if torch.get_float32_matmul_precision() == "highest":  # then other code than oneDNN's is in use
        return False
    bfloat16 = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 or bfloat16


def _product(weight: Any, bias: Tensor | None, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
