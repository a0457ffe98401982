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


def room_beside(prefix: int, budget: int) -> int:
    """Tokens of the rows that are replayed in one pass with the prefix they share: what a budget leaves beside it.

    Every pass reads the prefix again. Where it takes nearly all of the budget, or more, rows of up to a quarter of its
    length go with it all the same: a pass then exceeds the budget by no more than that, and few passes repeat it.
    """
    return max(budget - prefix, prefix // 4)
