"""The training loop: steps, validations and checkpoints until the run is over; resumes to the same numbers.

What a step does is the method's: `train_step` for a network, a file in baselines/trained/ for a trained baseline.
"""

import math
from pathlib import Path

from neuromas.config import RunConfig
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.run.checkpoint import Trained
from neuromas.run.engine import engaged
from neuromas.run.folder import Logger, Watch, keep_samples
from neuromas.run.session import Session
from neuromas.tasks.base import Task
from neuromas.workers import ALONE, Workers


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    backbone: Backbone | None = None,
    watch: Watch | None = None,
    workers: Workers = ALONE,
) -> tuple[Trained, Task]:
    """Session or continue a training run in the folder `out`; returns the network, or team, as of the last step.

    A run that was killed continues, with resume=True, to the same numbers as an undisturbed one: only the step
    under way is lost. workers: this process among those that train it, all in the same folder; their number may change
    from one continuation to the next. Raises `CheckpointError` when `out` holds another run, `DivergenceError` on NaN
    or infinity.
    """
    run = Session.open(config, out, resume, backbone, workers)
    with engaged(run):
        return _train(run, watch)


def _train(run: "Session", watch: Watch | None) -> tuple[Trained, Task]:
    out, progress, t, workers = run.out, run.progress, run.config.train, run.workers
    logger = Logger(out, watch, silent=not workers.first)
    lines = workers.from_first(lambda: read_json_lines(out / "metrics.jsonl"))
    if progress.step == 0 and not lines:
        logger.log({"step": 0} | run.validate())
        run.save()  # the untrained network may stay the best one

    spent = sum(sum(r["seconds"].values()) for r in lines if "seconds" in r)
    budget = t.stop_after_seconds or math.inf
    while progress.step < t.steps and spent < budget and run.advance():
        step = progress.step + 1
        line, result = run.step(step)
        spent += workers.gather(sum(result.metrics["seconds"].values()))[0]
        check = step % t.validate_every == 0 or step == t.steps or spent >= budget or run.stage_is_over()
        if check:
            line |= run.validate()
            if workers.first:
                keep_samples(out, step, result)
        logger.log(line)
        if check or step % t.checkpoint_every == 0:
            run.save()
    logger.close()
    return run.network, run.task
