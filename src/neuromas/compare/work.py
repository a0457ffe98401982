"""The jobs of a comparison, each a function of plain data that runs in any process: prepare a run, answer a chunk."""

import json
import os
import threading
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch

from neuromas.baselines.fitted import Fitted
from neuromas.baselines.load import load_baseline
from neuromas.baselines.vote import Vote
from neuromas.compare.plan import Contender, slug
from neuromas.compare.spec import TaskEntry, Variant
from neuromas.compare.store import chunk_of, share
from neuromas.config import BackboneConfig, RunConfig
from neuromas.errors import DivergenceError
from neuromas.evaluate.run import decoding_name, record
from neuromas.files import read_json, write_json
from neuromas.network.backbone import Backbone, Frozen, load_frozen
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.results import CellAnswer, CellRecord
from neuromas.run import checkpoint
from neuromas.run.build import build, fill_adapters, load_run
from neuromas.run.loop import train
from neuromas.run.owner import is_run
from neuromas.run.stages import stages_of
from neuromas.tasks import load_task, sandbox
from neuromas.tasks.base import Split, Task
from neuromas.tasks.reward import graded
from neuromas.types import System

_ready: dict[tuple[Path, str], System] = {}  # the system used last in this process, by run folder and checkpoint
_held: list[Any] = []  # this worker's share of the folder's lock


@dataclass(frozen=True)
class Training:
    """The outcome of a training that has ended, or of a fitting."""

    validation: float  # accuracy of its best checkpoint on the validation split, by which the learning rate is chosen
    note: str = ""  # what a reader of the table must know, e.g. that it diverged


@dataclass(frozen=True)
class Trial:
    """One contender on one task with one seed, and for what is trained one learning rate."""

    out: Path  # of the comparison
    contender: Contender
    task: TaskEntry
    seed: int
    rate: float | None = None

    @property
    def folder(self) -> Path:
        run = f"s{self.seed}" if self.rate is None else f"lr{self.rate:g}_s{self.seed}"
        return self.out / "runs" / slug(self.contender.name) / slug(self.task.title) / run

    @property
    def training(self) -> Training | None:
        """The outcome of its training or fitting; None when that has not ended."""
        done = self.folder / "done.json"
        return Training(**read_json(done)) if done.exists() else None


@dataclass(frozen=True)
class Chunk:
    """Some questions for the system of a trial."""

    trial: Trial
    cell: CellRecord
    variant: Variant
    split: Split
    number: int


def prepare(trial: Trial) -> None:
    """Train, or fit, what must be before it answers; continues what a kill left of a training."""
    if trial.contender.trained:
        config = trial.contender.config(trial.task, trial.seed, trial.rate)
        training = _train(config, trial.folder)
    else:
        system, training = _baseline(trial), Training(0.0)
        assert isinstance(system, Fitted)
        system.fit(_task(trial.task), **trial.contender.fit, seed=trial.seed)
        system.save(trial.folder / "state.json")
    write_json(trial.folder / "done.json", asdict(training))


def _train(config: RunConfig, folder: Path) -> Training:
    try:
        train(config, folder, resume=is_run(folder), backbone=_trainable(config.backbone))
    except DivergenceError as error:  # this rate is too high for it; the best checkpoint before stays
        return Training(0.0, str(error))
    return Training(checkpoint.newest_progress(folder).best_validation)


def answer(chunk: Chunk) -> tuple[CellRecord, list[CellAnswer]]:
    """The chunk's cell with what only the system knows, and its answered questions."""
    trial, variant, cell = chunk.trial, chunk.variant, chunk.cell
    system, task = _system(trial, variant.checkpoint), _task(trial.task)
    subject, options = system, dict[str, Any]()
    if variant.votes > 1:
        subject = Vote(system, variant.votes, task.parse)
    if variant.delivery == "blanked":
        assert isinstance(system, Network)
        options["blank"] = system.topology.nodes[:-1]
    greedy = variant.decoding == "greedy"
    places = chunk_of(chunk.number, cell.n)
    questions = [task.questions(chunk.split)[i] for i in places]
    traces = subject.answer(questions, greedy=greedy, seed=trial.seed, **options)
    grades = graded(task, questions, [trace.answer for trace in traces])
    cost = getattr(system, "fit_cost", None)
    answered = replace(
        cell,
        decoding=decoding_name(subject, greedy),
        trainable_parameters=subject.trainable_parameters,
        fit=cost and replace(cost, seconds=None),  # the clock repeats no number
    )
    lines = [
        CellAnswer(
            **vars(record(question, trace, grade)), system=cell.system, task=cell.task, seed=cell.seed, index=place
        )
        for place, question, trace, grade in zip(places, questions, traces, grades, strict=True)
    ]
    return answered, lines


def start_worker(out: Path, threads: int) -> None:
    """Prepare a worker process: its share of the lock, its threads, and an end as soon as its parent is gone."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if not parent.is_alive():
        os._exit(1)
    enlist(out, threads)


def enlist(out: Path, threads: int) -> None:
    """Make this process one that works in `out`; a second call changes nothing."""
    if not _held:
        _held.append(share(out))
        torch.set_num_threads(threads)
        sandbox.at_once = threads  # so that all workers together do not flood the machine


def _system(trial: Trial, checkpoint: str) -> System:
    key = trial.folder, checkpoint
    if key not in _ready:
        _ready.clear()
        _ready[key] = _trained(trial, checkpoint) if trial.contender.trained else _baseline(trial, fitted=True)
    return _ready[key]


def _trained(trial: Trial, checkpoint: str) -> System:
    config = trial.contender.config(trial.task, trial.seed, trial.rate)
    backbone = _trainable(config.backbone)
    if checkpoint == "untrained":
        shape = stages_of(config)[-1].topology if trial.contender.kind == "network" else None
        system = build(config, backbone, shape)[0]
        fill_adapters(config, system)
        return system
    return load_run(trial.folder, checkpoint, backbone)[0]


def _baseline(trial: Trial, fitted: bool = False) -> System:
    """The baseline of a trial; fitted: with what it has learned, where it learns."""
    config, task = trial.contender.config(trial.task, trial.seed), _task(trial.task)
    limits = Limits.from_config(config.sampling, task.max_answer_tokens)
    decoding = Decoding.from_config(config.sampling)
    backbone, options = _backbone(config.backbone), trial.contender.options
    system = load_baseline(trial.contender.baseline, backbone, task, limits, decoding, config.prompt, **options)
    if fitted and isinstance(system, Fitted):
        system.load(trial.folder / "state.json")
    return system


def _trainable(config: BackboneConfig) -> Backbone:
    backbone = _backbone(config)
    assert isinstance(backbone, Backbone), "the spec trains nothing on an endpoint"
    return backbone


def _backbone(config: BackboneConfig) -> Frozen:
    return _load_backbone(config.model_dump_json())


@lru_cache(maxsize=1)
def _load_backbone(settings: str) -> Frozen:
    config = BackboneConfig.model_validate_json(settings)
    return load_frozen(config.name, device=config.device, dtype=config.dtype, style=config.style)


def _task(entry: TaskEntry) -> Task:
    return _load_task(entry.name, json.dumps(entry.options))


@cache  # a comparison's jobs go from task to task
def _load_task(name: str, options: str) -> Task:
    return load_task(name, **json.loads(options))
