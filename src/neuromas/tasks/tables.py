"""Reads the rows of a benchmark, from a folder or from the hub.

`NEUROMAS_DATA` names a folder of files with the columns of the Hugging Face data sets (`.jsonl` or `.parquet`). Where
it is unset, the hub is asked. Nothing is imported or read before questions are wanted.
"""

import codecs
import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import TaskError, require
from neuromas.tasks import features

VARIABLE = "NEUROMAS_DATA"
KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
RawRow = dict[str, Any]  # A row of a table as its file holds it, by column.
_WITH_COMMA = re.compile(r"([+-]?(?:[0-9]{1,3}(?:[.\s][0-9]{3})+|[0-9]+)(?:,[0-9]+)?(?:\s?[%€£$])?)?")
_WITHOUT = re.compile(r"[^,]*|[+-]?[1-9][0-9]{0,2},[0-9]{3}\D*")  # no comma, or one that may separate thousands


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
    if from_folder():
        rows = _read_folder(source)
    else:
        rows = [dict(row) for row in from_hub(source.path, source.config, source.split, remedy)]
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
                return read_file(file, named=False)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {source.file} in {VARIABLE}={folder}: {error}; replace the file") from error
    raise TaskError(
        f"{VARIABLE}={folder} has no {files[0].name} and no {files[1].name}; put one there with the columns "
        f"{', '.join(source.columns)}, or unset {VARIABLE} to load {source.path} from the hub"
    )


def read_file(file: Path, named: bool = True) -> list[RawRow]:
    """The rows of a file: .jsonl, .json (a list of objects), .csv, .tsv, each also as .gz; .parquet; .arrow.

    named: classes of a typed table by their names (`features.read`), not by their numbers.
    Raises TaskError where the content is no table, OSError and UnicodeDecodeError where the file cannot be read.
    """
    kind = kind_of(file)
    if not file.is_file():
        raise FileNotFoundError(2, "this is no file" if file.exists() else "there is no such file", str(file))
    if kind == ".parquet":
        return _read_arrow(file, "pyarrow.parquet", lambda parquet: parquet.read_table(file), named)
    if kind == ".arrow":
        return _read_arrow(file, "pyarrow", lambda pyarrow: _arrow_table(pyarrow, file), named)
    text = _text(file)
    if kind == ".json":
        return _rows_of_json(file, text)
    return _read_lines(file, text) if kind == ".jsonl" else _read_csv(file, text, kind)


def kind_of(file: Path) -> str:
    """The ending that tells what a file is. Raises TaskError for one that is not read."""
    name = file.name.lower().removesuffix(".gz")
    kind = {".ndjson": ".jsonl", ".pq": ".parquet"}.get(ending := Path(name).suffix, ending)
    if kind not in KINDS or (kind in KINDS[-2:] and file.suffix.lower() == ".gz"):
        sheet = "; save the sheet as CSV (UTF-8)" if kind in (".xlsx", ".xls", ".ods", ".numbers") else ""
        raise TaskError(
            f"{file} is not a kind of file that is read; those are {', '.join(KINDS)}, and text also as .gz{sheet}"
        )
    return kind


def read_folder(folder: Path, split: str) -> list[RawRow]:
    """The rows of a split in a folder: one that `save_to_disk` of the `datasets` library wrote, or one of files.

    Of files those count that are called after the split ("train.jsonl", "train-00000-of-00002.parquet"), in the folder
    or in its `data`, and all where no file is called after any split. Raises TaskError where there is none.
    """
    if (folder / "dataset_dict.json").is_file():
        if not (folder / split).is_dir():
            splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8")).get("splits", [])
            raise TaskError(f"{folder} has no split {split!r}; it has {', '.join(map(str, splits))}")
        folder = folder / split
    if (folder / "state.json").is_file():
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state.get("_indices_data_files"):
            raise TaskError(f"{folder} keeps a selection of its rows; save it again after flatten_indices()")
        return [row for entry in state["_data_files"] for row in read_file(folder / entry["filename"])]
    files = _tables(folder)
    named = [file for file in files if _split_of(file)]
    chosen = [file for file in named if _split_of(file) == split] if named else files
    if not chosen:
        found = ", ".join(file.name for file in files) or "no table"
        raise TaskError(f"{folder} has no rows of split {split!r} (found: {found}); name the split or a file")
    return [row for file in chosen for row in read_file(file)]


def splits_in(folder: Path) -> set[str]:
    """The splits that `read_folder` can tell apart in a folder."""
    if (folder / "dataset_dict.json").is_file():
        return {path.name for path in folder.iterdir() if (path / "state.json").is_file()}
    return {split for file in _tables(folder) if (split := _split_of(file))}


def validation_in(splits: Iterable[str]) -> str | None:
    """The split that a data set brings for validation, by whichever name; None without one."""
    return next((name for name in ("validation", "valid", "val", "dev") if name in splits), None)


def is_table(name: str) -> bool:
    """True for a name that ends as a file with rows does, or that a file or folder has."""
    return Path(name.lower().removesuffix(".gz")).suffix in KINDS or (name not in ("", ".") and Path(name).exists())


def _tables(folder: Path) -> list[Path]:
    inside = [*folder.iterdir(), *((folder / "data").iterdir() if (folder / "data").is_dir() else ())]
    named = (file for file in inside if file.is_file() and not file.name.startswith((".", "dataset_info")))
    return sorted(file for file in named if Path(file.name.lower().removesuffix(".gz")).suffix in KINDS)


def _split_of(file: Path) -> str | None:
    hit = re.match(r"(?:.*[-_.])?(train|test|validation|valid|val|dev)(?=[-_.])", file.name)
    return hit[1] if hit else None


def _text(file: Path) -> str:
    """The text of a file, without its byte order mark: UTF-8, or UTF-16 where such a mark tells so."""
    data = file.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TaskError(f"{file} is no complete gzip file ({error}); replace it") from error


def _read_lines(file: Path, text: str) -> list[RawRow]:
    rows: list[RawRow] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{file}, line {number} is not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise TaskError(f"{file}, line {number} is not a JSON object; write one object a line")
        rows.append(row)
    return rows


def _object(pairs: list[tuple[str, Any]]) -> RawRow:
    """A JSON object. Raises ValueError for a name that it has twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _rows_of_json(file: Path, text: str) -> list[RawRow]:
    try:
        found: Any = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            return _read_lines(file, text)  # One object a line, under a name that is common for it too.
        raise TaskError(f"{file} is not JSON ({error}); write a list of objects, or use .jsonl for lines") from error
    if isinstance(found, dict):  # Some files have the list beside a word about it.
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 else found
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        has = f" (it is an object with {', '.join(map(str, found))[:80]})" if isinstance(found, dict) else ""
        raise TaskError(f"{file} is no list of objects{has}; write one, or one object a line as .jsonl")
    return found


def _read_csv(file: Path, text: str, kind: str) -> list[RawRow]:
    """Rows of a table with a header; the separator is the comma, semicolon, tab or | that the header has most of."""
    csv.field_size_limit(2**31 - 1)
    try:
        told = re.match(r"sep=(.)(?:\r\n?|\n)", text)  # as Excel writes it
        text = text[told.end() :] if told else text
        columns = {mark: len(next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), [])) for mark in ",;\t|"}
        mark = told[1] if told else "\t" if kind == ".tsv" else max(columns, key=columns.__getitem__)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
        header = list(reader.fieldnames or [])
        rows = list(reader)
    except csv.Error as error:
        raise TaskError(f"{file} is no table ({error}); save it again as CSV in UTF-8") from error
    if twice := {name for name in header if header.count(name) > 1 and name}:
        raise TaskError(f"{file} has two columns called {', '.join(sorted(twice))}; rename one")
    for number, row in enumerate(rows, 1):
        if any(surplus := row.pop(None, [])):  # pyright: ignore[reportArgumentType, reportCallIssue]
            raise TaskError(
                f"{file}, row {number} has {len(surplus)} cells more than the header ({surplus}); put quotes around "
                "a cell that holds the separator"
            )
    while rows and not any(map(str.strip, filter(None, rows[-1].values()))):  # below the table, as Excel leaves them
        rows.pop()
    return _with_points(rows) if mark == ";" else rows


def _with_points(rows: list[RawRow]) -> list[RawRow]:
    """Rows in which "1.234,50 €" is "1234.50 €", in columns of such numbers: where the decimal mark is the comma, Excel
    separates cells by semicolons. Commas that can all separate thousands ("1,250") are left."""
    for name in rows[0] if rows else ():
        cells = [cell.strip() for row in rows if (cell := row[name])]
        if all(map(_WITH_COMMA.fullmatch, cells)) and not all(map(_WITHOUT.fullmatch, cells)):
            for row in rows:
                row[name] = row[name] and re.sub(r"(?<=[0-9])[.\s](?=[0-9])", "", row[name]).replace(",", ".")
    return rows


def _read_arrow(file: Path, module: str, read: Callable[[Any], Any], named: bool) -> list[RawRow]:
    library = require(module, f"reading {file.name}", "pip install pyarrow", "convert it to .jsonl")
    try:
        table = read(library)
        rows = table.to_pylist()
    except (ValueError, OSError) as error:  # All errors of pyarrow are one of these.
        raise TaskError(f"{file} is no readable {file.suffix} file ({error}); replace it") from error
    return features.read(rows, features.in_schema(table.schema)) if named else rows


def _arrow_table(pyarrow: Any, file: Path) -> Any:
    """An Arrow file in either of its two forms: a stream, as `datasets` writes it, or a file with its footer."""
    with file.open("rb") as source:
        form = pyarrow.ipc.open_file if source.read(6) == b"ARROW1" else pyarrow.ipc.open_stream
        source.seek(0)
        return form(source).read_all()


def from_hub(path: str, config: str | None, split: str | None, remedy: str) -> Any:
    """A split of a data set on the hub; without one all splits, by name.

    Raises TaskError, which offers `remedy`, where it cannot be had.
    """
    datasets = require("datasets", f"loading {path}", "pip install datasets", remedy)
    try:
        return datasets.load_dataset(path, config, split=split)
    except Exception as error:  # The network, the hub and the cache raise errors of many kinds.
        raise TaskError(
            f"cannot load data set {path} ({config}, {split}) from the hub ({type(error).__name__}: "
            f"{str(error)[:200]}); check the network, or {remedy}"
        ) from error


def read_hub(path: str, config: str | None, split: str, remedy: str) -> list[RawRow]:
    """The rows of a split of a data set on the hub, with the names of classes. Raises TaskError as `from_hub`."""
    found = from_hub(path, config, split, remedy)
    return features.read(found, features.of_dataset(found))
