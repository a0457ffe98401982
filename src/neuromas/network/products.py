"""Products with frozen weights that lie as oneDNN wants them.

A product with a plain weight lays a copy of it out anew every time. While one batch of completions is sampled, the
same weights meet a few rows at every token, so they are laid out once and thrown away afterwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

WORTH = 2048  # rows × tokens to be sampled; below, laying out costs more than it saves


@contextmanager
def laid_out(model: nn.Module, rows: int, tokens: int) -> Iterator[None]:
    """Lay out the weights of every linear layer for products with `rows` rows, `tokens` times; without gradients.

    Does nothing on an accelerator, where oneDNN is missing, where it would not pay, and within itself.
    """
    plain = lambda module: type(module) is nn.Linear and "forward" not in module.__dict__ and _suited(module.weight)
    linear: Any = [module for module in model.modules() if plain(module)] if rows * tokens >= WORTH else []
    for module in linear:
        weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), rows)
        module.forward = partial(_product, weight, module.bias)
    try:
        yield
    finally:
        for module in linear:
            del module.forward


def _suited(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if torch.get_float32_matmul_precision() == "highest":  # then other code than oneDNN's is in use
        return False
    bfloat16 = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 or bfloat16


def _product(weight: Any, bias: Tensor | None, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
