"""Reading and writing files: a crash leaves the old version or the new one, and what is damaged is never guessed."""

import gzip
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from neuromas.errors import CheckpointError

Record = TypeVar("Record")

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


def write_text(path: Path, text: str) -> None:
    """Write to a temporary name beside `path`, force it to disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def check_target(path: Path) -> None:
    """Raises OSError where no file can be written at `path`, before hours are spent on its content. Makes nothing."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    place = next(folder for folder in path.absolute().parents if folder.exists())
    with tempfile.TemporaryFile(dir=place):
        pass


@contextmanager
def whole_folder(target: Path, prefix: str) -> Iterator[Path]:
    """A new folder beside `target` (its name begins with `prefix`), which is renamed to it at the end of the block.

    Its files get the modes of the umask. After an error it is removed. A `target` that is there by then stays as it is.
    """
    work = target.parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
    work.mkdir(parents=True)
    try:
        yield work
        for file in work.rglob("*"):  # safetensors writes for the owner alone
            if file.is_file():
                file.chmod(work.stat().st_mode & 0o666)
        if not target.exists():
            os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def plain(path: Path) -> Path:
    """The path again. Raises OSError where it is a pipe, a device or a socket, whose content may have no end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(f"{path} is a pipe, device or socket")
    return path


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError where it cannot be read, ValueError where it is no JSON."""
    return json.loads(plain(path).read_text(encoding="utf-8"))


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `CheckpointError` where it is missing, cannot be read, or holds no object."""
    try:
        data = read_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; the checkpoint is incomplete, choose another") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); the checkpoint is damaged, choose another") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {str(data)[:60]} instead of an object; it is damaged, choose another")
    return data


def read_record(path: Path, form: Callable[[dict[str, Any]], Record]) -> Record:
    """A record of the object in a JSON file. Raises `CheckpointError` where `form` can make none of it."""
    data = read_object(path)
    try:
        return form(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has another form ({_brief(error)}); it is damaged: put a copy back") from error


def write_json_lines(path: Path, records: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def append_json_line(path: Path, record: Any) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_json_lines(path: Path, form: Callable[[Any], Any] = lambda record: record) -> list[Any]:
    """Records of a JSON-lines file, gzipped where it is called .gz; [] when it does not exist.

    form: makes what is wanted of a record; raises KeyError, TypeError or ValueError for one that it cannot be made of.
    A last line cut off by a crash is dropped. Raises `CheckpointError` naming any other line that is no such object.
    """
    if not os.path.lexists(path):
        return []
    records: list[Any] = []
    data = plain(path).read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    *lines, last = data.split(b"\n")  # by "\n" alone, since texts may hold other line ends (U+2028)
    for number, line in enumerate([*lines, last] if last else lines, 1):
        try:
            records.append(form(_record(line)))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if number > len(lines):
                break
            raise CheckpointError(
                f"{path}, line {number} is damaged ({_brief(error)}); nothing was changed: mend or remove the line, or "
                "put back a copy of the file"
            ) from error
    return records


def _brief(error: Exception) -> str:
    text = f"no {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())[:200]


def of_a_step(record: Any) -> Any:
    """A record that names its step. Raises ValueError where it does not."""
    if type(record.get("step")) is not int:
        raise ValueError("it names no step")
    return record


def _record(line: bytes) -> Any:
    record = json.loads(line.decode("utf-8"))
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    return record


def keep_json_lines(path: Path, last_step: int) -> None:
    """Drop the records of steps after `last_step`: a resumed run writes them again."""
    if path.exists():
        write_json_lines(path, [r for r in read_json_lines(path, of_a_step) if r["step"] <= last_step])


def take_lock(path: Path, patience: float = 0.0, *, shared: bool = False) -> TextIO | None:
    """Open a file and lock it for as long as it is kept open; None where it is held for `patience` seconds more.

    shared: others may have a share of it too. The lock ends with its process, however that ends. On Windows, and where
    the file system has no locks, nothing is locked.
    """
    file, deadline = path.open("a+", encoding="utf-8"), time.monotonic() + patience
    while fcntl is not None:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.05)
        except OSError:
            break
        else:
            break
    return file
