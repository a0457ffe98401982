"""A run folder as the page sees it, read anew when its files change. What has not the expected form is left out."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from neuromas.config import RunConfig
from neuromas.errors import NeuromasError, TaskError
from neuromas.network.topology import Topology
from neuromas.results import ComparisonRow, GrowthRecord, Result, StepMetrics
from neuromas.run import checkpoint
from neuromas.run.stages import stages_of
from neuromas.serve.page_schema import (
    Comparison,
    ExampleView,
    GradeView,
    MetricLines,
    RunView,
    Samples,
    SampleView,
    Shape,
    ShapeNode,
    Worths,
)
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.types import Question

T = TypeVar("T")
_EXAMPLES = 8  # questions that the page offers
_NEARBY = 4  # levels above a run at which the folder of the comparison that trained it may be


@dataclass
class Record:
    """A run folder as the page shows it. Methods may be called by any thread."""

    name: str
    folder: Path | None  # None for a system without a run folder
    model: str | None = None  # the model's id in requests; None if this server only watches
    topology: Topology | None = None  # the topology that answers; None for that of the newest checkpoint
    task: Task | None = None  # the run's, of which the page offers questions
    answering: int | None = None  # the step of the checkpoint that answers

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._examples = _examples(self.task)
        self._lines = GrowingFile(self.folder and self.folder / "metrics.jsonl", StepMetrics.from_dict)
        self._samples = GrowingFile(self.folder and self.folder / "samples.jsonl", _sample)

    def lines(self, after: int) -> MetricLines:
        """Metrics of the steps after `after`."""
        with self._lock:
            return MetricLines(lines=[line for line in self._lines.read() if line.step > after])

    def samples(self, after: int) -> Samples:
        """Traces kept at the steps after `after`."""
        with self._lock:
            return Samples(samples=[sample for sample in self._samples.read() if sample.step > after])

    def run(self) -> RunView:
        """All that is known of the run besides its lines."""
        config, final = self._config(), _json(self.folder, "final.json")
        newest = self.folder and checkpoint.newest(self.folder / "checkpoints")
        lines = self.lines(-1).lines
        step = lines[-1].step if lines else -1
        return RunView(
            name=self.name,
            model=self.model,
            shape=self._shape(newest, config),
            method=config and config.method,
            task=config and config.task.name,
            backbone=config and config.backbone.name,
            seed=config and config.seed,
            steps=config and config.train.steps,
            step=step,
            finished=config is None or step >= config.train.steps or _entry(final, "steps") == step,
            answering=self.answering,
            lineage=_valid(GrowthRecord.from_dict, _entry(_json(newest, "state.json"), "progress", "lineage")),
            worths=_worths(_json(self.folder, "inspect/findings.json")),
            results=_valid(Result.from_dict, _entry(final, "results")),
            warnings=_valid(TypeAdapter(str).validate_python, _entry(final, "warnings")),
            comparison=_comparison(self.folder),
            examples=[ExampleView(text=q.text, instruction=q.instruction, answer=q.answer) for q in self._examples],
        )

    def grade(self, example: int, answer: str) -> GradeView:
        """The verdict on an answer to one of the examples.

        Raises IndexError where there is no such example, and TaskError where the task's grader fails.
        """
        question = self._examples[example]
        assert self.task is not None, "examples are questions of the task"
        (grade,) = graded(self.task, [question], [answer], abstain=True)
        reward = None if grade.abstained else grade.reward
        return GradeView(reward=reward, parsed=grade.parsed, ambiguous=grade.ambiguous)

    def _config(self) -> RunConfig | None:
        try:
            return self.folder and RunConfig.saved(_dict(_json(self.folder, "config.json")))
        except NeuromasError:
            return None

    def _shape(self, newest: Path | None, config: RunConfig | None) -> Shape | None:
        topology = self.topology
        try:
            if topology is None and config is not None and config.method == "neuromas":
                topology = checkpoint.topology_of(newest) if newest else stages_of(config)[0].topology
        except NeuromasError:  # the checkpoint is damaged, or being replaced at this moment
            return None
        return topology and shape(topology)


def shape(topology: Topology) -> Shape:
    """A topology as the page draws it."""
    nodes = [
        ShapeNode(id=n, layer=layer, upstream=list(topology.parents(n)), sees_question=topology.sees_question(n))
        for layer, members in enumerate(topology.layers, start=1)
        for n in members
    ]
    return Shape(nodes=nodes, output=topology.output)


def _examples(task: Task | None) -> list[Question]:
    """Some questions of a task; none where they did not come along with an export."""
    try:
        return task.questions("test")[:_EXAMPLES] if task else []
    except TaskError:
        return []


class GrowingFile(Generic[T]):
    """A JSON-lines file to which others append. Only what is new is read, unless the file was replaced."""

    def __init__(self, path: Path | None, parse: Callable[[Any], T]) -> None:
        """parse: makes a record of a line's JSON, or raises ValueError."""
        self.path, self.parse = path, parse
        self._begin(None)

    def read(self) -> list[T]:
        """All valid records so far; a line without its end is left for later."""
        try:
            if self.path is None:
                return []
            with self.path.open("rb") as file:
                status = self.path.stat()
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._begin(status.st_ino)
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return self._records
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._records += _valid(self.parse, [_parsed(line) for line in whole.split(b"\n") if line])
        return self._records

    def _begin(self, inode: int | None) -> None:
        self._inode, self._offset = inode, 0
        self._records: list[T] = []


def _sample(line: Any) -> SampleView:
    """A line of samples.jsonl. Raises ValueError."""
    trace = _dict(_entry(line, "trace"))
    question = {"question": trace.get("question_id")}
    turns = {"answer": trace.get("answer"), "turns": trace.get("calls")}
    return SampleView.model_validate(question | _dict(line) | turns)


def _worths(findings: Any) -> list[Worths]:
    head = {key: _entry(findings, key) for key in ("split", "n")}
    tables = [
        head | {"decoding": name, "accuracy": _entry(entry, "accuracy")} | _dict(_entry(entry, "values"))
        for name, entry in _dict(_entry(findings, "decodings")).items()
    ]
    return _valid(Worths.model_validate, tables)


def _comparison(folder: Path | None) -> Comparison | None:
    """The comparison whose folder the run is in, or which is in the run's folder."""
    for place in [folder, *list(folder.resolve().parents)[:_NEARBY]] if folder else ():
        summary = _json(place, "summary.json") if (place / "cells.jsonl").is_file() else None
        if rows := _valid(ComparisonRow.from_dict, summary):
            return Comparison(title=rows[0].comparison, rows=rows)
    return None


def _valid(parse: Callable[[Any], T], values: Any) -> list[T]:
    """The records that `parse` makes of `values`, without those at which it raises ValueError."""
    records: list[T] = []
    for value in values if isinstance(values, list) else ():
        with suppress(ValueError):
            records.append(parse(value))
    return records


def _json(folder: Path | None, name: str) -> Any:
    """A file's content; None where it is missing or no JSON."""
    try:
        return folder and _parsed((folder / name).read_bytes())
    except OSError:
        return None


def _parsed(data: bytes) -> Any:
    """The value that JSON stands for, None where it is none.

    Halves of surrogate pairs, which UTF-8 cannot hold, become "?".
    """
    try:
        value = json.loads(data)
        if b"\\ud" in data.lower():
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        return value
    except (ValueError, RecursionError):
        return None


def _entry(value: Any, *path: str) -> Any:
    """The entry at a path into nested objects; None where there is none."""
    for key in path:
        value = _dict(value).get(key)
    return value


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
