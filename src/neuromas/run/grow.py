"""A run that grows out of another one: its history, a further stage, and a folder of its own."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from neuromas.config import RunConfig, StageConfig
from neuromas.errors import CheckpointError, ConfigError, TopologyError
from neuromas.files import keep_json_lines, write_json
from neuromas.network.backbone import Backbone
from neuromas.recipe import override
from neuromas.run import checkpoint
from neuromas.run.folder import LOGS, START, saved_config
from neuromas.run.progress import Progress
from neuromas.run.session import Session
from neuromas.run.stages import check_growth, stages_of, without_files
from neuromas.tasks.base import Task


def grow_run(
    run: Path,
    stage: Mapping[str, object],
    out: Path,
    *,
    steps: int,
    which: str = "last",
    backbone: Backbone | None = None,
    task: Task | None = None,
) -> Progress:
    """Make the run folder `out`: `run` up to a checkpoint, grown, to be trained for `steps` more steps.

    It is what a run would be whose recipe had one more stage, so `train` continues it with resume=True. stage: its
    settings, as `StageConfig` has them. which: the "last" checkpoint, or the "best" on validation. `out` is made whole
    or not at all. Raises `TopologyError` where the stage's topology does not contain the run's.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists and is not empty; choose another --out")
    parent = saved_config(run)
    if parent.method != "neuromas":
        raise ConfigError(f"the run was trained by method {parent.method!r}, whose roles are fixed; only networks grow")
    source = run / "best" if which == "best" else checkpoint.newest(run / "checkpoints")
    if source is None or not source.exists():
        raise CheckpointError(f"{run} holds no checkpoint yet; wait for its first step")
    progress = checkpoint.progress_of(source, max(1, len(parent.stages)))
    config = extended(parent, progress, stage, steps)
    work = out.with_name(f".{out.name}.{os.getpid()}.growing")
    try:
        for file in (*LOGS, START):
            if (run / file).exists():
                work.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run / file, work / file)
                if file != START:
                    keep_json_lines(work / file, progress.step)
        for kept in {source.resolve(), *([(run / "best").resolve()] if (run / "best").exists() else [])}:
            shutil.copytree(kept, work / "checkpoints" / kept.name)
            if kept == (run / "best").resolve():
                checkpoint.mark_best(work, work / "checkpoints" / kept.name)
        write_json(work / "config.json", config.model_dump(mode="json"))
        grown = Session.open(config, work, resume=True, backbone=backbone, task=task)
        grown.advance()
        record = grown.progress.lineage[-1]
        grown.progress.lineage[-1] = replace(record, run=run.name, checkpoint=source.resolve().name)
        grown.save()
        os.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return grown.progress


def extended(parent: RunConfig, progress: Progress, stage: Mapping[str, object], steps: int) -> RunConfig:
    """The settings of a run that is as `parent` up to `progress`, then has one more stage of `steps` steps."""
    done = progress.step - progress.stage_start
    if done == 0:
        raise ConfigError(
            f"the run's checkpoint of step {progress.step} holds no step of its stage, so there is nothing to keep; "
            "train it first, choose its other checkpoint (--checkpoint), or train the larger topology from the start"
        )
    if steps < 1:
        raise ConfigError(f"{steps} further steps: the grown network must be trained; choose 1 or more")
    before = [*(parent.stages or [StageConfig()])][: progress.stage + 1]
    before[-1] = before[-1].model_copy(update={"steps": done})
    length = {"train.steps": progress.step + steps, "stages": [*(s.model_dump() for s in before), dict(stage)]}
    data = override(parent.model_dump(), length)
    data["train"]["stop_after_seconds"] = None  # a limit of the parent's; it has perhaps been reached
    config = without_files(RunConfig.make(data))
    last = stages_of(config)[-1]
    if last.growth is None:
        raise TopologyError(f"the run has topology {last.topology.name} already; name a larger one")
    check_growth([last])
    return config
