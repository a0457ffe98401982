"""How the processor computes: without the slow numbers next to zero, and as fast as its precision allows."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def flushing() -> bool:
    """Whether this thread takes numbers below the smallest normal one for zero."""
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
