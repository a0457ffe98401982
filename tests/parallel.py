"""Several workers of one run on this machine, without Ray: forked processes in a gloo group."""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from neuromas.workers import Workers

_FORK = multiprocessing.get_context("fork")  # the children have everything imported


def together(size: int, work: Callable[[Workers], Any], seconds: float = 120) -> list[Any]:
    """What `work` gives in each of `size` processes, by rank. An exception is given in its place."""
    queue: Any = _FORK.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [_FORK.Process(target=_join, args=(r, size, folder, work, queue)) for r in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(seconds)
    stuck = [p for p in processes if p.is_alive()]
    for process in stuck:
        os.kill(process.pid, signal.SIGKILL)  # pyright: ignore[reportArgumentType]
    assert not stuck, "the workers wait for each other"
    found = dict(queue.get() for _ in processes)
    return [found[rank] for rank in range(size)]


def _join(rank: int, size: int, folder: str, work: Callable[[Workers], Any], queue: Any) -> None:
    torch.set_num_threads(1)
    store = (Path(folder) / "store").as_uri()
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    try:
        result = work(Workers.joined())
    except Exception as error:
        result = error
    queue.put((rank, result))
    distributed.barrier() if not isinstance(result, Exception) else None
