"""The training loop: steps, validations and checkpoints until the run is over; resumes to the same numbers.

What a step does is the method's: `train_step` for a network, a file in baselines/trained/ for a trained baseline.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from neuromas.config import RunConfig
from neuromas.network.backbone import Backbone
from neuromas.results import StartRecord, StepMetrics
from neuromas.run.checkpoint import Trained
from neuromas.run.engine import engaged
from neuromas.run.folder import NEWEST, Logger, OnStep, Resumption, keep_samples, read_metrics
from neuromas.run.owner import owned
from neuromas.run.session import Session
from neuromas.run.start import report
from neuromas.tasks.base import Task
from neuromas.workers import ALONE, Workers

OnStart = Callable[[StartRecord], object]  # called before the first update of a new run


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    backbone: Backbone | None = None,
    task: Task | None = None,
    on_step: OnStep | None = None,
    on_start: OnStart | None = None,
    workers: Workers = ALONE,
    how: Resumption = NEWEST,
) -> tuple[Trained, Task]:
    """Begin or continue a training run in the folder `out`; returns the network, or team, as of the last step.

    A run that was killed continues, with resume=True, to the same numbers as an undisturbed one: only the step
    under way is lost. backbone, task: loaded already; None: those of the settings. on_step: called with the metrics of
    every step; where it returns False the run stops after this step, with everything saved. on_start: called with what
    a new run starts from, before its first validation. workers: this process among
    those that train it, all in the same folder; their number may change from one continuation to the next. how: from
    which checkpoint a run is resumed, and whether changed questions are accepted.

    Raises `CheckpointError` when `out` holds another run, or something else, or is in use; `DivergenceError` on NaN or
    infinity.
    """
    with ExitStack() as held:
        workers.from_first(lambda: held.enter_context(owned(out, resume=resume)))
        session = Session.open(config, out, resume, backbone, workers, task, how)
        with engaged(session):
            return _train(session, on_step, on_start)


def _train(session: Session, on_step: OnStep | None, on_start: OnStart | None) -> tuple[Trained, Task]:
    out, progress, t, workers = session.out, session.progress, session.config.train, session.workers
    earlier = workers.from_first(lambda: read_metrics(out))
    logger = Logger(out, on_step, silent=not workers.first, done=earlier[-1].step if earlier else -1)
    if progress.step == 0 and not earlier:
        found = report(session.config, out, session.network, session.task, workers)
        if found is not None and on_start is not None:
            on_start(found)
        logger.log(StepMetrics(step=0, validation=session.validate()))
        session.save()  # the untrained network may stay the best one

    spent = sum(sum(metrics.seconds.values()) for metrics in earlier)
    budget = t.stop_after_seconds or math.inf
    stopped = False
    while progress.step < t.steps and spent < budget and not stopped and session.advance():
        step = progress.step + 1
        result = session.step(step)
        metrics = result.metrics
        spent += workers.gather(sum(metrics.seconds.values()))[0]
        check = step % t.validate_every == 0 or step == t.steps or spent >= budget or session.stage_is_over()
        if check:
            metrics = replace(metrics, validation=session.validate())
            if workers.first:
                keep_samples(out, step, result)
        stopped = workers.from_first(lambda line=metrics: logger.log(line)) is False
        if check or stopped or step % t.checkpoint_every == 0:
            session.save()
    logger.close()
    return session.network, session.task
