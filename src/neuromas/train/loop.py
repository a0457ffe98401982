"""A training run: a folder, a loop over steps, validation, checkpoints, and resuming to the same numbers.

What a step does is the method's: `train_step` for a network, a file in methods/ for a trained baseline.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, DivergenceError
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, keep_json_lines, read_json_lines, write_json
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.tasks import load_task
from neuromas.tasks.base import Task
from neuromas.train import checkpoint, critic
from neuromas.train.checkpoint import Progress, Trained
from neuromas.train.methods.collm import Collm, CollmTraining
from neuromas.train.methods.malt import Malt, MaltTraining
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.train.silence import silencing
from neuromas.train.step import StepResult, train_step

Watch = Callable[[dict[str, Any]], None]  # called with every line of metrics.jsonl
_SAMPLES = 2  # traces kept each time a validation is made


_LOGS = ("metrics.jsonl", "samples.jsonl", "trees.jsonl")  # one record or more a step


class Method(Protocol):
    """A way of training a system."""

    def rate(self, step: int) -> float:
        """The learning rate of `step` (from 1)."""
        ...

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        """Do it. baseline: mean reward of earlier steps. Raises `DivergenceError` before anything is changed."""
        ...


class Joint:
    """This library's own method: one joint step of all nodes, or of a single model (topology "single")."""

    def __init__(self, config: RunConfig, network: Network, task: Task) -> None:
        self.config, self.network, self.task = config, network, task
        self.schedule = Schedule(task.questions("train"), config)

    def rate(self, step: int) -> float:
        return learning_rate(self.config, step)

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        t, asked = self.config.train, self.schedule.questions(step)
        seed = self.config.seed
        return train_step(self.network, optimizer, self.task, asked, t, step=step, seed=seed, baseline=baseline)


def method_of(config: RunConfig, out: Path, system: Trained, task: Task) -> Method:
    """How `system` is trained; `out` is the run's folder, where a method may keep what it samples."""
    if isinstance(system, Malt):
        return MaltTraining(config, out, system, task)
    if isinstance(system, Collm):
        return CollmTraining(config, out, system, task)
    assert isinstance(system, Network)
    return Joint(config, system, task)


def build(config: RunConfig, backbone: Backbone | None = None) -> tuple[Trained, Task]:
    """The untrained system and the task of a run. A backbone already loaded may be shared."""
    task = load_task(config.task.name, **config.task.options)
    if backbone is None:
        b = config.backbone
        backbone = Backbone.load(b.name, device=b.device, dtype=b.dtype, style=b.style)
    s = config.sampling
    limits = Limits(s.message_tokens, s.answer_tokens or task.max_answer_tokens, s.batch_rows)
    if config.method == "malt":
        return Malt.create(config, backbone, limits), task
    if config.method == "collm-cc":
        return Collm.create(config, backbone, limits, lambda q, text: task.grade(q, text).parsed), task
    network = Network.create(
        Topology.parse(config.topology),
        backbone,
        rank=config.adapter.rank,
        alpha=config.adapter.alpha,
        targets=config.adapter.targets,
        tied=config.adapter.tied,
        seed=config.seed,
        limits=limits,
        decoding=Decoding(temperature=s.temperature, top_p=s.top_p),
    )
    if config.train.estimator == "critic":
        critic.attach(network)
    return network, task


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    backbone: Backbone | None = None,
    watch: Watch | None = None,
) -> tuple[Trained, Task]:
    """Run or continue a training run in the folder `out`; returns the network, or team, as of the last step.

    A run that was killed continues, with resume=True, to the same numbers as an undisturbed one: only the step
    under way is lost. Raises `CheckpointError` when `out` holds another run, `DivergenceError` on NaN or infinity.
    """
    if isinstance(config.topology, str) and Path(config.topology).is_file():  # the run must not depend on that file
        config = config.model_copy(update={"topology": Topology.parse(config.topology).to_dict()})
    network, task = build(config, backbone)
    t = config.train
    network.backbone.checkpoint_gradients(t.gradient_checkpointing)
    optimizer = torch.optim.AdamW(checkpoint.parameters(network), betas=t.betas, weight_decay=t.weight_decay)
    progress = _open(config, out, network, optimizer, resume)
    method = method_of(config, out, network, task)
    logger = _Logger(out, watch)
    if progress.step == 0 and not read_json_lines(out / "metrics.jsonl"):
        logger.log({"step": 0} | _validate(network, task, config, progress))
        _checkpoint(network, optimizer, progress, config, out)  # the untrained network may stay the best one

    spent = sum(sum(r["seconds"].values()) for r in read_json_lines(out / "metrics.jsonl") if "seconds" in r)
    budget = t.stop_after_seconds or math.inf
    while progress.step < t.steps and spent < budget:
        step = progress.step + 1
        rate = method.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        try:
            result = method.step(optimizer, step, progress.baseline)
        except DivergenceError as error:
            raise _saved(error, out, step) from error
        progress.step = step
        if "reward" in result.metrics:
            progress.baseline += (result.metrics["reward"] - progress.baseline) * (1 / step if step < 10 else 0.1)
        spent += sum(result.metrics["seconds"].values())
        line = {"step": step, "learning_rate": rate, **result.metrics}
        check = step % t.validate_every == 0 or step == t.steps or spent >= budget
        if check:
            line |= _validate(network, task, config, progress)
            _keep_samples(out, step, result)
        logger.log(line)
        if check or step % t.checkpoint_every == 0:
            _checkpoint(network, optimizer, progress, config, out)
    logger.close()
    return network, task


def load_run(run: Path, which: str = "best", backbone: Backbone | None = None) -> tuple[Trained, Task, RunConfig]:
    """The network, or team, of a finished or running run: "best" (on validation) or "last"."""
    if not (run / "config.json").is_file():
        raise CheckpointError(f"{run} is not a run folder (no config.json); make one with: neuromas train")
    config = RunConfig.make(json.loads((run / "config.json").read_text(encoding="utf-8")))
    network, task = build(config, backbone)
    folder = run / "best" if which == "best" and (run / "best").exists() else checkpoint.newest(run / "checkpoints")
    if folder is None:
        raise CheckpointError(f"{run} holds no checkpoint yet; wait for its first step")
    checkpoint.load(folder, network)
    network.name = f"{run.name} ({which})"
    return network, task, config


def _open(config: RunConfig, out: Path, network: Trained, optimizer: torch.optim.Optimizer, resume: bool) -> Progress:
    """Prepare the run folder, or restore from it."""
    newest = checkpoint.newest(out / "checkpoints")
    if not resume:
        if newest is not None:
            raise CheckpointError(f"{out} already holds a run; continue it with --resume, or choose another --out")
        for old in _LOGS:
            (out / old).unlink(missing_ok=True)
        write_json(out / "config.json", config.model_dump(mode="json"))
        return Progress()
    checkpoint.clean(out / "checkpoints")
    if newest is None:  # killed before its first step was saved: begin again
        return _open(config, out, network, optimizer, resume=False)
    _check_same(config, out)
    progress = checkpoint.load(newest, network, optimizer)
    if progress.best_step == progress.step:  # killed after the checkpoint was saved and before it was marked
        checkpoint.mark_best(out, newest)
    for file in _LOGS:
        keep_json_lines(out / file, progress.step)
    return progress


def _check_same(config: RunConfig, out: Path) -> None:
    """Refuse to continue a run under other settings; only its length may change."""
    saved = RunConfig.make(json.loads((out / "config.json").read_text(encoding="utf-8")))
    length = {"train": {"steps": 0, "stop_after_seconds": None}}
    mine, theirs = (c.model_dump(mode="json") for c in (config, saved))
    differ = [
        f"{section}.{key} was {theirs[section][key]!r}, is {value!r}"
        for section, settings in mine.items()
        if isinstance(settings, dict) and isinstance(theirs[section], dict)
        for key, value in settings.items()
        if theirs[section].get(key) != value and key not in length.get(section, {})
    ]
    differ += [
        f"{k} was {theirs[k]!r}, is {v!r}"
        for k, v in mine.items()
        if k in ("method", "topology", "seed") and theirs[k] != v
    ]
    if differ:
        raise CheckpointError(
            f"the run in {out} has other settings: {'; '.join(differ)}; resume with its own (neuromas train --resume "
            f"--out {out}), or start another run in another folder"
        )
    write_json(out / "config.json", mine)


def _checkpoint(
    network: Trained, optimizer: torch.optim.Optimizer, progress: Progress, config: RunConfig, out: Path
) -> None:
    saved = checkpoint.save(out / "checkpoints", network, optimizer, progress)
    if progress.best_step == progress.step:
        checkpoint.mark_best(out, saved)
    checkpoint.prune(out / "checkpoints", config.train.keep_checkpoints, out / "best")


def _validate(network: Trained, task: Task, config: RunConfig, progress: Progress) -> dict[str, Any]:
    """Greedy accuracy on the validation split, for the step's line; remembers the best."""
    t = config.train
    evaluation = evaluate(network, task, "validation", t.validation_questions)
    found = evaluation.result
    if found["accuracy"] >= progress.best_validation:  # of equals the later: it has learned longer
        progress.best_validation, progress.best_step = found["accuracy"], progress.step
    line = {k: found[k] for k in ("accuracy", "ci95", "n", "parse_rate", "top_answer")}
    if isinstance(network, Network) and t.silence_questions:
        traces = evaluation.traces[: t.silence_questions]
        line["silenced"] = silencing(network, task, task.questions("validation")[: len(traces)], traces)
    return {"validation": line}


def _saved(error: DivergenceError, out: Path, step: int) -> DivergenceError:
    """The same error, once the offending batch is on disk."""
    file = out / f"failed-step-{step}.json"
    write_json(file, {"error": str(error), "traces": [trace.to_dict() for trace in error.traces]})
    newest = checkpoint.newest(out / "checkpoints")
    return DivergenceError(f"{error}. The batch is in {file}, the last good state in {newest}", error.traces)


def _keep_samples(out: Path, step: int, result: StepResult) -> None:
    for trace, grade in list(zip(result.traces, result.grades, strict=True))[:_SAMPLES]:
        append_json_line(out / "samples.jsonl", {"step": step, "reward": grade.reward, "trace": trace.to_dict()})


class _Logger:
    """Writes each line to metrics.jsonl and to TensorBoard, and shows it to whoever watches."""

    def __init__(self, out: Path, watch: Watch | None) -> None:
        self._file, self._watch = out / "metrics.jsonl", watch
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # TensorBoard is not installed: the JSON lines hold everything
            self._board = None
        else:
            self._board = SummaryWriter(str(out / "tensorboard"))

    def log(self, line: dict[str, Any]) -> None:
        append_json_line(self._file, line)
        if self._board is not None:
            for name, value in _flat(line).items():
                self._board.add_scalar(name, value, line["step"])
        if self._watch is not None:
            self._watch(line)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            out[prefix + key] = float(value)
    return out
