"""Training on several workers over Ray Train: it starts them, and all of them anew where one has died.

All that happens between the workers is in `workers.py`, and the run is `run.loop.train` as ever. Checkpoints are
the run folder's own; Ray keeps none. So a run goes on from its last checkpoint with any number of workers, or without
Ray. The folder, and files that the settings name, must be found at the same path on every machine of the cluster.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.errors import ClusterError, NeuromasError
from neuromas.run import checkpoint
from neuromas.run.final import FinalRecord
from neuromas.run.folder import NEWEST, OnStep, Resumption, continued, read_metrics, read_start
from neuromas.run.loop import OnStart
from neuromas.run.owner import RAY_OWNER, owned
from neuromas.run.stages import without_files
from neuromas.scale.cluster import check_room, cluster
from neuromas.tasks import registrars, run_registrars, sandbox
from neuromas.workers import Workers


@dataclass(frozen=True)
class ClusterConfig:
    """The workers of a run over Ray."""

    number: int  # workers
    address: str | None = None  # of the cluster; None: this machine
    threads: int = 1  # CPU threads of each worker
    restarts: int = 10  # how often they may be started again after one has died


def train(
    config: RunConfig,
    out: Path,
    workers: ClusterConfig,
    *,
    resume: bool = False,
    test_limit: int | None = None,
    on_step: OnStep | None = None,
    on_start: OnStart | None = None,
    how: Resumption = NEWEST,
) -> FinalRecord:
    """Run or continue a training run in `out`, and measure it on the test split.

    Raises what `run.loop.train` raises, and `ClusterError` where the cluster is too small or workers keep dying.
    """
    config.check_workers(workers.number)
    config, out = without_files(config), out.resolve()
    work = {"config": config.model_dump(mode="json"), "out": str(out), "here": str(Path.cwd())}
    work |= {"test_limit": test_limit, "threads": workers.threads, "how": asdict(how), "registrars": registrars()}
    found, left = None, workers.restarts
    with owned(out, resume=resume, name=RAY_OWNER):
        with owned(out, resume=resume):
            newest = continued(config, out, resume, how.step)
        with _following(out, newest, on_step, on_start):
            while found is None:
                with cluster(workers.address, workers.number * workers.threads) as ray:
                    found = _fit(ray, workers, config, work, last=left == 0)
                left -= 1
    if isinstance(found, NeuromasError):
        raise found
    return found


def _fit(ray: Any, workers: ClusterConfig, config: RunConfig, work: dict[str, Any], last: bool) -> Any:
    """Run the workers and return the first one's result; None, but in the `last` try, where one died while it came up.

    Ray starts workers again that die at work, and gives up where one dies earlier; it then holds their place in the
    cluster until this process has left that.
    """
    from ray.train import ControllerError, FailureConfig, ScalingConfig, TrainingFailedError
    from ray.train import RunConfig as RayRun
    from ray.train.torch import TorchConfig, TorchTrainer

    device = config.backbone.device
    gpu = device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0) >= workers.number)
    check_room(ray, workers.number, workers.threads, workers.number if gpu else 0)
    notes = _notes(Path(work["out"]))
    trainer = TorchTrainer(
        _work,
        train_loop_config=work,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.number, use_gpu=gpu, resources_per_worker={"CPU": workers.threads}
        ),
        run_config=RayRun(storage_path=notes, failure_config=FailureConfig(max_failures=workers.restarts)),
    )
    try:
        return trainer.fit().return_value
    except TrainingFailedError as error:
        early = isinstance(error, ControllerError) and isinstance(
            error.controller_failure, ray.exceptions.RayActorError
        )
        if early and not last:
            return None
        raise ClusterError(
            f"workers died more than {workers.restarts} times, the last time of: {_reason(error)}. The last "
            f"checkpoint is in {work['out']}; go on from it with --resume, here or without --workers"
        ) from error
    finally:
        shutil.rmtree(notes, ignore_errors=True)


def _work(work: dict[str, Any]) -> Any:
    """One worker's whole life. An error that a person can mend is returned: starting again would not mend it."""
    import torch

    from neuromas.run.final import evaluate_run
    from neuromas.run.loop import train

    if Path(work["here"]).is_dir():
        os.chdir(work["here"])  # paths in the settings are relative to where the command was given
    torch.set_num_threads(work["threads"])
    sandbox.at_once = work["threads"]
    config, out, workers = RunConfig.make(work["config"]), Path(work["out"]), Workers.joined()
    try:
        run_registrars(work["registrars"])
        network, task = train(config, out, resume=True, workers=workers, how=Resumption(**work["how"]))
        return evaluate_run(out, network, task, work["test_limit"], workers)
    except NeuromasError as error:
        return error


def _reason(error: Any) -> str:
    """The last line of a failure, which names the exception after its traceback."""
    failures = getattr(error, "worker_failures", None) or {0: getattr(error, "controller_failure", error)}
    return str(next(iter(failures.values()))).strip().splitlines()[-1][:300]


def _notes(out: Path) -> str:
    """A folder for what Ray writes about its own work; those of starts that were killed are removed."""
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".ray-*"):
        shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=".ray-", dir=out)


@contextmanager
def _following(out: Path, newest: Path | None, on_step: OnStep | None, on_start: OnStart | None) -> Iterator[None]:
    """Call `on_step` and `on_start` with what the first worker writes, wherever it runs."""
    begun = newest is not None or on_start is None
    shown, over = checkpoint.step_of(newest) if newest is not None else -1, threading.Event()

    def show() -> None:
        nonlocal begun, shown
        if not begun and on_start is not None and (start := read_start(out)) is not None:
            on_start(start)
            begun = True
        for metrics in read_metrics(out):
            if on_step is not None and metrics.step > shown:  # A restart writes some of them again.
                on_step(metrics)
                shown = metrics.step

    def follow() -> None:
        while not over.wait(1):
            show()
        show()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
