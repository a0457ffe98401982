"""One run by several processes: each does its share, then all know what came of it and go on alike.

What they say to each other goes through the default process group of torch.distributed, whoever has set it up
(`scale/` does it by Ray Train). A single process never touches it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from neuromas.errors import NeuromasError

if TYPE_CHECKING:
    from torch.nn import Parameter

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This process among the workers of a run. Every method but `share` must be called by all of them, in turn."""

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> Self:
        """This process in the group that torch.distributed knows."""
        from torch import distributed

        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """True for the one worker that writes files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This worker's part of `items`; the parts of all workers, by rank, are the whole in its order."""
        n = len(items)
        return items[n * self.rank // self.size : n * (self.rank + 1) // self.size]

    def gather(self, mine: T) -> list[T]:
        """Collect the value of each worker, by rank."""
        if self.size == 1:
            return [mine]
        from torch import distributed

        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, mine)
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error of this library inside, on any worker, is raised on all of them at the end of the block.

        Any other error ends its worker, hence the run.
        """
        error: NeuromasError | None = None
        try:
            yield
        except NeuromasError as own:
            error = own
        for failed in self.gather(error):
            if failed is not None:
                raise failed

    def each(self, work: Callable[[], T]) -> list[T]:
        """Run `work` on every worker; return the results by rank. If one fails, all raise its error."""
        made: list[T] = []
        with self.together():
            made.append(work())
        return self.gather(made[0])

    def from_first(self, work: Callable[[], T]) -> T:
        """Run `work` on the first worker alone; return its result to all."""
        found: Any = self.each(work if self.first else lambda: None)
        return found[0]

    def add_gradients(self, parameters: Sequence["Parameter"]) -> None:
        """Replace every gradient by the sum over the workers, in one message; one that is missing counts as 0."""
        if self.size == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        distributed.all_reduce(flat)
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p)


ALONE = Workers()
