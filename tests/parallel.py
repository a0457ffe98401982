"""Several workers of one run on this machine, without Ray: forked processes in a gloo group."""

import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from neuromas.errors import NeuromasError
from neuromas.workers import Workers

_FORK = multiprocessing.get_context("fork")  # the children have everything imported


def together(size: int, work: Callable[[Workers], Any], seconds: float = 120) -> list[Any]:
    """What `work` gives in each of `size` processes, by rank. An error of this library is given in its place."""
    with tempfile.TemporaryDirectory() as folder:
        processes = [_FORK.Process(target=_join, args=(r, size, Path(folder), work)) for r in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(seconds)
        stuck = [p for p in processes if p.is_alive()]
        for process in stuck:
            process.kill()
        assert not stuck, "the workers wait for each other"
        return [pickle.loads((Path(folder) / f"{rank}").read_bytes()) for rank in range(size)]


def _join(rank: int, size: int, folder: Path, work: Callable[[Workers], Any]) -> None:
    torch.set_num_threads(1)
    store = (folder / "store").as_uri()
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    result: Any
    try:
        result = work(Workers.joined())
    except NeuromasError as error:
        result = error
    (folder / f"{rank}").write_bytes(pickle.dumps(result))
    distributed.barrier()
