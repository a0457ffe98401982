"""A Ray cluster to work on: the one at an address, or one of this machine's own that ends with the command."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neuromas.errors import ClusterError, ConfigError, require

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers unless told not to


@contextmanager
def cluster(address: str | None, cpus: int) -> Iterator[Any]:
    """The module `ray`, connected. address: as `ray.init` takes it; None: a cluster of `cpus` slots on this machine."""
    needed = ("work on several workers", "pip install -e '.[ray]'", "", ConfigError)
    ray, _ = (require(module, *needed) for module in ("ray", "ray.train"))
    # Loading a large model can take longer than the minute that Ray grants a worker to come up
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    own: dict[str, Any] = {}
    if address in (None, "local"):
        # Other programs may fill this machine's memory, and then Ray would kill our processes for it
        os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # what was asked for is not to wait behind all else
        own = {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except Exception as error:  # Ray raises all kinds, some of no class of their own
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ClusterError(
            f"the Ray cluster at {address or 'this machine'} cannot be used ({reason}); "
            "check --address, or leave it out to work on this machine alone"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_room(ray: Any, workers: int, threads: int, gpus: int) -> None:
    """Raises `ClusterError` where the cluster could never run so many workers at once: Ray would wait for ever."""
    has = ray.cluster_resources()
    for kind, needed in (("CPU", workers * threads), ("GPU", gpus)):
        if has.get(kind, 0) < needed:
            raise ClusterError(
                f"{workers} workers need {needed} {kind}s together, and the cluster has {has.get(kind, 0):g}; "
                "lower --workers or --threads, or add machines to the cluster"
            )
