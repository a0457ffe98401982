"""The jobs of a comparison, each a function of plain data that runs in any process: prepare a run, answer a chunk."""

import json
import os
import threading
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch

from neuromas.baselines.fitted import Fitted
from neuromas.baselines.load import load_baseline
from neuromas.baselines.vote import Vote
from neuromas.compare.plan import Source, slug
from neuromas.compare.spec import TaskEntry
from neuromas.compare.store import chunk_of, share
from neuromas.config import BackboneConfig, RunConfig
from neuromas.errors import DivergenceError
from neuromas.evaluate.run import decoding_name, record
from neuromas.files import write_json
from neuromas.network.backbone import Backbone, Frozen, load_frozen
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.run.build import load_run
from neuromas.run.final import validation_score
from neuromas.run.loop import train
from neuromas.tasks import load_task
from neuromas.tasks.base import Split, Task
from neuromas.types import System

_ready: dict[Path, System] = {}  # the system used last in this process
_held: list[Any] = []  # this worker's share of the folder's lock


@dataclass(frozen=True)
class Training:
    """What a comparison needs to know of a training that has ended."""

    validation: float  # accuracy on the validation split, by which the learning rate is chosen
    note: str = ""  # what a reader of the table must know, e.g. that it diverged


@dataclass(frozen=True)
class Run:
    """One source on one task with one seed, and for what is trained one learning rate."""

    out: Path  # of the comparison
    source: Source
    task: TaskEntry
    seed: int
    rate: float | None = None

    @property
    def folder(self) -> Path:
        run = f"s{self.seed}" if self.rate is None else f"lr{self.rate:g}_s{self.seed}"
        return self.out / "runs" / slug(self.source.name) / slug(self.task.title) / run

    @property
    def training(self) -> Training | None:
        """What came of preparing it; None when that has not ended."""
        done = self.folder / "done.json"
        return Training(**json.loads(done.read_text(encoding="utf-8"))) if done.exists() else None


@dataclass(frozen=True)
class Chunk:
    """Some questions for the system of a run."""

    run: Run
    row: str
    votes: int
    blank: bool
    split: Split
    number: int
    n: int  # questions of the whole cell


def prepare(run: Run) -> None:
    """Train, or fit, what must be before it answers; continues what a kill left of a training."""
    if run.source.trained:
        config = run.source.config(run.task, run.seed, run.rate)
        training = _train(config, run.folder)
    else:
        system, training = _baseline(run), Training(0.0)
        assert isinstance(system, Fitted)
        system.fit(_task(run.task), **run.source.fit, seed=run.seed)
        system.save(run.folder / "state.json")
    write_json(run.folder / "done.json", asdict(training))


def _train(config: RunConfig, folder: Path) -> Training:
    try:
        train(config, folder, resume=True, backbone=_trainable(config.backbone))
    except DivergenceError as error:  # this rate is too high for it; the best checkpoint before stays
        return Training(0.0, str(error))
    return Training(validation_score(folder))


def answer(chunk: Chunk) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the system turned out to be, and the records of the chunk's questions."""
    run = chunk.run
    system, task = _system(run), _task(run.task)
    subject, how = system, dict[str, Any]()
    if chunk.votes > 1:
        subject = Vote(system, chunk.votes, task.parse)
    if chunk.blank:
        assert isinstance(system, Network)
        how["blank"] = system.topology.nodes[:-1]
    places = chunk_of(chunk.number, chunk.n)
    asked = [task.questions(chunk.split)[i] for i in places]
    traces = subject.answer(asked, greedy=True, seed=run.seed, **how)
    grades = task.grade_many(asked, [trace.answer for trace in traces])
    facts: dict[str, Any] = {
        "decoding": decoding_name(subject, True),
        "trainable_parameters": subject.trainable_parameters,
    }
    if (cost := getattr(system, "fit_cost", None)) is not None:
        facts["fit"] = {k: v for k, v in asdict(cost).items() if k != "seconds"}  # the clock repeats no number
    cell = {"system": chunk.row, "task": run.task.title, "seed": run.seed}
    lines = [
        {**cell, "index": place, **record(question, trace, grade).to_dict()}
        for place, question, trace, grade in zip(places, asked, traces, grades, strict=True)
    ]
    return facts, lines


def start_worker(out: Path, threads: int) -> None:
    """Of a worker process: its share of the lock, its threads, and an end as soon as its parent is gone."""
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
    """Make this process one that works in `out`; again is nothing."""
    if not _held:
        _held.append(share(out))
        torch.set_num_threads(threads)


def _system(run: Run) -> System:
    if run.folder not in _ready:
        _ready.clear()
        if run.source.trained:
            config = run.source.config(run.task, run.seed, run.rate)
            system, _, _ = load_run(run.folder, "best", _trainable(config.backbone))
        else:
            system = _baseline(run)
            if isinstance(system, Fitted):
                system.load(run.folder / "state.json")
        _ready[run.folder] = system
    return _ready[run.folder]


def _baseline(run: Run) -> System:
    config, task = run.source.config(run.task, run.seed), _task(run.task)
    limits = Limits.from_config(config.sampling, task.max_answer_tokens)
    decoding = Decoding.from_config(config.sampling)
    return load_baseline(run.source.baseline, _backbone(config.backbone), task, limits, decoding, **run.source.options)


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
