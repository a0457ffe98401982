"""Dividing the work of one update into parts that fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def micro_batches(items: Sequence[T], size: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    """The items in order, in lists whose sizes add up to at most `budget`; an item larger than that is alone."""
    batch: list[T] = []
    used = 0
    for item in items:
        if batch and used + size(item) > budget:
            yield batch
            batch, used = [], 0
        batch.append(item)
        used += size(item)
    if batch:
        yield batch
