"""Writing files so that a crash leaves the old version or the new one, never a part."""

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write to a temporary name beside `path`, force it to disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def whole_folder(target: Path, prefix: str) -> Iterator[Path]:
    """A new folder beside `target` (its name begins with `prefix`), which is renamed to it at the end of the block.

    After an error it is removed. A `target` that is there by then stays as it is.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield work
        if not target.exists():
            os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError where it cannot be read, ValueError where it is no JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json_lines(path: Path, records: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def append_json_line(path: Path, record: Any) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[Any]:
    """Records of a JSON-lines file, gzipped where it is called .gz; [] when it does not exist.

    A last line cut off by a crash is dropped.
    """
    if not path.exists():
        return []
    records: list[Any] = []
    # by "\n" alone, since texts may hold other line ends (U+2028); a cut may fall within a character
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for line in data.decode("utf-8", errors="replace").removesuffix("\n").split("\n"):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def keep_json_lines(path: Path, last_step: int) -> None:
    """Drop the records of steps after `last_step`: a resumed run writes them again."""
    if path.exists():
        write_json_lines(path, [r for r in read_json_lines(path) if r["step"] <= last_step])
