"""Reads the rows of a benchmark, from a folder or from the hub.

`NEUROMAS_DATA` names a folder of files with the columns of the Hugging Face data sets (`.jsonl` or `.parquet`). Where
it is unset, the hub is asked. Nothing is imported or read before questions are wanted.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import TaskError, require

VARIABLE = "NEUROMAS_DATA"
RawRow = dict[str, Any]  # A row of a table as its file holds it, by column.


@dataclass(frozen=True)
class Source:
    """A table's place in the folder and on the hub."""

    file: str  # The file's name without its ending, such as "arc_challenge_test".
    path: str  # The repository on the hub, such as "allenai/ai2_arc".
    config: str  # The configuration on the hub, such as "ARC-Challenge".
    split: str  # The split on the hub; "train+validation" joins two.
    columns: tuple[str, ...]  # The columns that every row must have, in the folder as on the hub.

    def __str__(self) -> str:
        if from_folder():
            return f"{self.file} in {VARIABLE}={os.environ[VARIABLE]}"
        return f"data set {self.path} ({self.config}, {self.split})"


def from_folder() -> bool:
    """True where `NEUROMAS_DATA` is set, so that the folder is read and the hub is left alone."""
    return bool(os.environ.get(VARIABLE))


def read(source: Source) -> list[RawRow]:
    """All rows of a table. Raises TaskError where it cannot be had, is empty, or lacks a column."""
    remedy = f"set {VARIABLE} to a folder that holds {source.file}.jsonl"
    rows = _read_folder(source) if from_folder() else read_hub(source.path, source.config, source.split, remedy)
    if not rows:
        raise TaskError(f"{source} has no rows; replace it with a complete copy of {source.path}")
    for number, row in enumerate(rows, 1):
        for column in source.columns:
            if column not in row:
                raise TaskError(
                    f"{source}, row {number}: column {column!r} is missing (found: {', '.join(row)}); "
                    f"the columns must be {', '.join(source.columns)}"
                )
    return rows


def _read_folder(source: Source) -> list[RawRow]:
    folder = Path(os.environ[VARIABLE]).expanduser()
    if not folder.is_dir():
        raise TaskError(f"{VARIABLE}={folder} is not a folder; name an existing one, or unset it to use the hub")
    files = [folder / f"{source.file}.jsonl", folder / f"{source.file}.parquet"]
    try:
        for file in files:
            if file.is_file():
                return read_file(file)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {source.file} in {VARIABLE}={folder}: {error}; replace the file") from error
    raise TaskError(
        f"{VARIABLE}={folder} has no {files[0].name} and no {files[1].name}; put one there with the columns "
        f"{', '.join(source.columns)}, or unset {VARIABLE} to load {source.path} from the hub"
    )


def read_file(file: Path) -> list[RawRow]:
    """The rows of a `.jsonl` or `.parquet` file.

    Raises TaskError where the content is no table, OSError and UnicodeDecodeError where the file cannot be read.
    """
    return _read_parquet(file) if file.suffix == ".parquet" else _read_lines(file)


def _read_lines(file: Path) -> list[RawRow]:
    rows: list[RawRow] = []
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


def _read_parquet(file: Path) -> list[RawRow]:
    parquet = require("pyarrow.parquet", f"reading {file.name}", "pip install pyarrow", "convert it to .jsonl")
    try:
        return parquet.read_table(file).to_pylist()
    except ValueError as error:  # All errors of pyarrow are ValueErrors.
        raise TaskError(f"{file} is no readable parquet file ({error}); replace it") from error


def read_hub(path: str, config: str | None, split: str, remedy: str) -> list[RawRow]:
    """The rows of a data set on the hub. Raises TaskError, which offers `remedy`, where it cannot be had."""
    datasets = require("datasets", f"loading {path}", "pip install datasets", remedy)
    try:
        return [dict(row) for row in datasets.load_dataset(path, config, split=split)]
    except Exception as error:  # The network, the hub and the cache raise errors of many kinds.
        raise TaskError(
            f"cannot load data set {path} ({config}, {split}) from the hub ({type(error).__name__}: "
            f"{str(error)[:200]}); check the network, or {remedy}"
        ) from error
