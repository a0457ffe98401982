"""The jobs of a comparison as Ray tasks, on the machines of a cluster.

A job is a function of plain data, and what it makes of a training is a folder, so a task that dies with its machine is
done again elsewhere: a training goes on from its checkpoint. The folder of the comparison must be found at the same
path on every machine. Only the parent writes the JSON lines, as without Ray.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuromas.compare.run import HandOut, do
from neuromas.compare.work import Chunk, Trial, enlist
from neuromas.errors import ClusterError
from neuromas.scale.cluster import check_room, cluster
from neuromas.tasks import registrars, run_registrars

_RETRIES = 3  # further tries of a task whose process or machine has died


@contextmanager
def tasks(out: Path, address: str, workers: int, threads: int) -> Iterator[HandOut]:
    """Does jobs on the cluster at `address`, `workers` at a time, each with `threads` CPU threads."""
    with cluster(address, workers * threads) as ray:
        check_room(ray, workers, threads, 0)
        gpu = min(1.0, ray.cluster_resources().get("GPU", 0) / workers)  # workers share the GPUs
        task = ray.remote(num_cpus=threads, num_gpus=gpu, max_retries=_RETRIES)(_task)

        def hand_out(jobs: list[Trial | Chunk]) -> Iterator[tuple[Trial | Chunk, Any]]:
            left, running = list(jobs), dict[Any, Trial | Chunk]()
            while left or running:
                while left and len(running) < workers:
                    job = left.pop(0)
                    running[task.remote(job, out, threads, registrars())] = job
                ready, _ = ray.wait(list(running), num_returns=1)
                yield running.pop(ready[0]), _result(ray, ready[0])

        yield hand_out


def _result(ray: Any, reference: Any) -> Any:
    """The result of a task; an error, to be raised once the others are done, where its processes kept dying."""
    try:
        return ray.get(reference)
    except ray.exceptions.WorkerCrashedError as error:
        return ClusterError(f"a job's process died {_RETRIES + 1} times ({error}); see Ray's logs, then start again")


def _task(job: Trial | Chunk, out: Path, threads: int, files: list[str]) -> Any:
    run_registrars(files)
    enlist(out, threads)
    return do(job)
