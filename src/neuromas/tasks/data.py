"""Rows of a benchmark, from a folder or from the hub, and their division into splits.

`NEUROMAS_DATA` names a folder of files with the columns of the Hugging Face data sets (`.jsonl` or `.parquet`);
where it is unset, the hub is asked. Nothing is imported or read before questions are wanted.
"""

import hashlib
import importlib
import json
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import TaskError
from neuromas.tasks.base import SPLITS, Split, Task, check_split
from neuromas.types import Question

VARIABLE = "NEUROMAS_DATA"
Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where one table lies: the file's name without its ending, and its place on the hub."""

    file: str  # "arc_challenge_test"
    path: str  # hub repository, "allenai/ai2_arc"
    config: str  # hub configuration, "ARC-Challenge"
    split: str  # hub split; "train+validation" joins two
    columns: tuple[str, ...]  # what the file must have; the hub's rows are checked likewise


def from_folder() -> bool:
    """Whether `NEUROMAS_DATA` is set, and so the folder is read and the hub left alone."""
    return bool(os.environ.get(VARIABLE))


def read(source: Source) -> list[Row]:
    """All rows of a table; raises TaskError when it cannot be had or lacks a column."""
    remedy = f"or set {VARIABLE} to a folder that holds {source.file}.jsonl"
    rows = _read_file(source) if from_folder() else read_hub(source.path, source.config, source.split, remedy)
    if not rows:
        raise TaskError(f"{_place(source)} has no rows; replace it with a complete copy of {source.path}")
    for number, row in enumerate(rows, 1):
        missing = [column for column in source.columns if column not in row]
        if missing:
            raise TaskError(
                f"{_place(source)}, row {number}: column {missing[0]!r} is missing (found: {', '.join(row)}); "
                f"the columns must be {', '.join(source.columns)}"
            )
    return rows


def malformed(source: Source, number: int, why: str) -> TaskError:
    """The error for a row whose values make no question (1-based row number)."""
    return TaskError(f"{_place(source)}, row {number}: {why}; correct the row or remove it")


def _place(source: Source) -> str:
    if from_folder():
        return f"{source.file} in {VARIABLE}={os.environ[VARIABLE]}"
    return f"data set {source.path} ({source.config}, {source.split})"


def _read_file(source: Source) -> list[Row]:
    folder = Path(os.environ[VARIABLE]).expanduser()
    if not folder.is_dir():
        raise TaskError(f"{VARIABLE}={folder} is not a folder; name an existing one, or unset it to use the hub")
    lines, table = folder / f"{source.file}.jsonl", folder / f"{source.file}.parquet"
    try:
        if lines.is_file():
            return parse_lines(lines)
        if table.is_file():
            return parquet(table)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {source.file} in {VARIABLE}={folder}: {error}; replace the file") from error
    raise TaskError(
        f"{VARIABLE}={folder} has no {lines.name} and no {table.name}; put one there with the columns "
        f"{', '.join(source.columns)}, or unset {VARIABLE} to load {source.path} from the hub"
    )


def parse_lines(file: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise TaskError(f"{file}, line {number} is not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise TaskError(f"{file}, line {number} is not a JSON object; write one object a line")
        rows.append(row)
    return rows


def parquet(file: Path) -> list[Row]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise TaskError(
            f"reading {file.name} needs pyarrow; run `pip install pyarrow`, or convert it to .jsonl"
        ) from error
    try:
        return parquet.read_table(file).to_pylist()
    except ValueError as error:  # pyarrow's errors are ValueErrors
        raise TaskError(f"{file} is no readable parquet file ({error}); replace it") from error


def read_hub(path: str, config: str | None, split: str, remedy: str) -> list[Row]:
    """Rows of a data set on the hub. Raises TaskError where it cannot be had; `remedy` ends its text."""
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise TaskError(f"loading {path} needs the package datasets; run `pip install datasets`, {remedy}") from error
    try:
        return [dict(row) for row in datasets.load_dataset(path, config, split=split)]
    except Exception as error:  # whatever the network, the hub or the cache came up with
        raise TaskError(
            f"cannot load data set {path} ({config}, {split}) from the hub ({type(error).__name__}: "
            f"{str(error)[:200]}); check the network, {remedy}"
        ) from error


# -- splits -------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """What makes two questions the same: their words, whatever the case and the spacing."""
    return " ".join(text.casefold().split())


def digest(text: str) -> str:
    """A hash that is the same in every process, unlike `hash`."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def unique_ids(names: Iterable[str]) -> list[str]:
    """The names, the second of equal ones with "-2" behind it, and so on."""
    seen: Counter[str] = Counter()
    ids: list[str] = []
    for name in names:
        seen[name] += 1
        ids.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return ids


class LoadedTask(Task):
    """A benchmark with published rows: its test split stays as published, validation is carved from training.

    Training rows that ask what a test row asks, or repeat another training row, are dropped. Which rows become
    validation follows from a hash of their text and the seed; questions with the same stem go the same way.
    """

    balanced = False  # whether validation holds every answer equally often, as far as possible

    def __init__(self, validation_size: int, seed: int) -> None:
        for name, value in (("validation_size", validation_size), ("seed", seed)):
            if type(value) is not int or value < 0:
                raise TaskError(f"task {self.name!r}: {name} must be a whole number of at least 0, got {value!r}")
        self.validation_size, self.seed = validation_size, seed
        self._splits: dict[Split, list[Question]] = {}

    @abstractmethod
    def load(self) -> tuple[list[Question], list[Question]]:
        """Training rows (validation included) and test rows, rendered."""

    def stem(self, question: Question) -> str:
        """What is asked, without the options; two questions with one stem never stand in different splits."""
        return question.metadata.get("stem", question.text)

    def questions(self, split: Split) -> list[Question]:
        check_split(self.name, split)
        if not self._splits:
            pool, test = self.load()
            train, validation = carve(pool, test, self.stem, self.validation_size, self.seed, self.balanced)
            if not train:
                raise TaskError(
                    f"task {self.name!r}: validation_size={self.validation_size} leaves nothing to train on of "
                    f"{len(validation)} usable rows; choose a smaller one"
                )
            self._splits = dict(zip(SPLITS, (train, validation, test), strict=True))
        return self._splits[split]


def carve(
    pool: list[Question],
    test: list[Question],
    stem: Callable[[Question], str],
    size: int,
    seed: int,
    balanced: bool,
) -> tuple[list[Question], list[Question]]:
    """Training and validation questions from `pool`, at most `size` of them for validation.

    Both come in the order of their hashes, so that the first few are a fair sample of all.
    """
    taken = {normalise(stem(q)) for q in test}
    distinct = {normalise(q.text): q for q in reversed(pool)}  # the first of equal ones stays
    groups: dict[str, list[Question]] = {}
    for q in reversed(distinct.values()):
        if (key := normalise(stem(q))) not in taken:
            groups.setdefault(key, []).append(q)
    order = sorted(groups, key=lambda key: digest(f"{seed}:{key}"))
    if balanced:
        rank: Counter[str] = Counter()
        places: dict[str, int] = {}
        for key in order:
            answer = groups[key][0].answer
            rank[answer] += 1
            places[key] = rank[answer]
        order.sort(key=places.__getitem__)
    train: list[Question] = []
    validation: list[Question] = []
    for key in order:
        fits = len(validation) + len(groups[key]) <= size
        (validation if fits else train).extend(groups[key])
    return train, validation
