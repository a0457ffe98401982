"""A run folder as the page sees it, read anew when its files change.

Files of a run are not trusted: what has not the form of `facts` is left out.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from neuromas.config import RunConfig
from neuromas.errors import NeuromasError
from neuromas.network.topology import Topology
from neuromas.run import checkpoint
from neuromas.run.stages import stages_of
from neuromas.serve import facts

T = TypeVar("T", bound=BaseModel)
_NEARBY = 4  # folders above a run in which a comparison may be that trained it


class Record:
    """What there is to tell of `folder`; None: of a system without one. Methods may be called by any thread.

    model: what to ask it as, None where nobody answers. topology: of what answers; None: of the newest checkpoint.
    examples: questions of its task. answering: step of the checkpoint that answers.
    """

    def __init__(
        self,
        name: str,
        folder: Path | None,
        model: str | None = None,
        topology: Topology | None = None,
        examples: Sequence[str] = (),
        answering: int | None = None,
    ) -> None:
        self.name, self.folder, self.model, self.topology, self.examples = name, folder, model, topology, examples
        self.answering = answering
        self._lock = Lock()
        self._lines = Growing(None if folder is None else folder / "metrics.jsonl", facts.Line)
        self._samples = Growing(None if folder is None else folder / "samples.jsonl", facts.Sample, _flat)

    def lines(self, after: int) -> facts.Lines:
        """Figures of the steps after `after`."""
        with self._lock:
            return facts.Lines(lines=[line for line in self._lines.read() if line.step > after])

    def samples(self, after: int) -> facts.Samples:
        """Traces kept at the steps after `after`."""
        with self._lock:
            return facts.Samples(samples=[sample for sample in self._samples.read() if sample.step > after])

    def run(self) -> facts.Run:
        """All else."""
        config, final = self._config(), _json(self.folder, "final.json")
        newest = None if self.folder is None else checkpoint.newest(self.folder / "checkpoints")
        progress = _dict(_dict(_json(newest, "state.json")).get("progress"))
        lines = self.lines(-1).lines
        step = lines[-1].step if lines else -1
        return facts.Run(
            name=self.name,
            model=self.model,
            shape=self._shape(newest, config),
            method=config and config.method,
            task=config and config.task.name,
            backbone=config and config.backbone.name,
            seed=config and config.seed,
            steps=config and config.train.steps,
            step=step,
            finished=config is None or step >= config.train.steps or _dict(final).get("steps") == step,
            answering=self.answering,
            lineage=_valid(facts.Growth, progress.get("lineage")),
            worths=_worths(_json(self.folder, "inspect/findings.json")),
            results=_valid(facts.Result, _dict(final).get("results")),
            warnings=[text for text in _list(_dict(final).get("warnings")) if isinstance(text, str)],
            comparison=_comparison(self.folder),
            examples=list(self.examples),
        )

    def _config(self) -> RunConfig | None:
        try:
            return RunConfig.make(_dict(_json(self.folder, "config.json"))) if self.folder else None
        except NeuromasError:
            return None

    def _shape(self, newest: Path | None, config: RunConfig | None) -> facts.Shape | None:
        topology = self.topology
        try:
            if topology is None and newest is not None and config is not None and config.method == "neuromas":
                topology = checkpoint.topology_of(newest)
            elif topology is None and config is not None and config.method == "neuromas":
                topology = stages_of(config)[0].topology
        except NeuromasError:  # damaged, or being replaced at this moment
            return None
        return None if topology is None else shape(topology)


def shape(topology: Topology) -> facts.Shape:
    """A topology as the page draws it."""
    layer = {node: number for number, row in enumerate(topology.layers, start=1) for node in row}
    nodes = [
        facts.ShapeNode(
            id=node,
            layer=layer[node],
            upstream=list(topology.parents(node)),
            sees_question=topology.sees_question(node),
        )
        for node in topology.nodes
    ]
    return facts.Shape(nodes=nodes, output=topology.output)


class Growing(Generic[T]):
    """A JSON-lines file to which others append. Only what is new is read, unless the file was replaced."""

    def __init__(self, path: Path | None, kind: type[T], change: Callable[[Any], Any] = lambda record: record) -> None:
        """change: from a line to what `kind` takes."""
        self.path, self.kind, self.change = path, kind, change
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
        self._records += _valid(self.kind, (self.change(_parsed(line)) for line in whole.split(b"\n") if line))
        return self._records

    def _begin(self, inode: int | None) -> None:
        self._inode, self._offset = inode, 0
        self._records: list[T] = []


def _flat(record: Any) -> Any:
    """A line of samples.jsonl as a `Sample`."""
    trace = _dict(_dict(record).get("trace"))
    kept = {"question": trace.get("question_id"), **_dict(record)}
    return kept | {"answer": trace.get("answer"), "turns": trace.get("calls")}


def _worths(findings: Any) -> list[facts.Worths]:
    head = {key: _dict(findings).get(key) for key in ("split", "n")}
    found = [
        head | {"decoding": name, "accuracy": _dict(entry).get("accuracy")} | _dict(_dict(entry).get("values"))
        for name, entry in _dict(_dict(findings).get("decodings")).items()
    ]
    return _valid(facts.Worths, found)


def _comparison(folder: Path | None) -> facts.Comparison | None:
    """The comparison whose folder the run is in, or which is in the run's folder."""
    near = [] if folder is None else [folder, *list(folder.resolve().parents)[:_NEARBY]]
    for place in near:
        rows = _valid(facts.Row, _list(_json(place, "summary.json"))) if (place / "cells.jsonl").is_file() else []
        if rows:
            title = _dict(_list(_json(place, "summary.json"))[0]).get("comparison")
            return facts.Comparison(title=title if isinstance(title, str) else place.name, rows=rows)
    return None


def _valid(kind: type[T], records: Iterable[Any] | None) -> list[T]:
    """Those of `records` that are of this kind."""
    found: list[T] = []
    for record in records if isinstance(records, Iterable) else ():
        try:
            found.append(kind.model_validate(record))
        except ValidationError:
            continue
    return found


def _json(folder: Path | None, name: str) -> Any:
    """A file's content; None where it is missing or no JSON."""
    try:
        return None if folder is None else _parsed((folder / name).read_bytes())
    except OSError:
        return None


def _parsed(data: bytes) -> Any:
    """What JSON says, None where it is none. Halves of surrogate pairs, which UTF-8 cannot hold, become "?"."""
    try:
        value = json.loads(data)
        if b"\\ud" in data.lower():
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        return value
    except (ValueError, RecursionError):
        return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
