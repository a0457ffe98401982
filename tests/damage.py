"""Ways to damage a folder of files, and the small run that tests damage, trained by the command line itself."""

import contextlib
import io
import json
import os
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neuromas import cli

RECIPE = """
topology = "2"
seed = 3
backbone.name = "made"
task.name = "compositional"
task.options = { depth = 2, modulus = 2, train_size = 64, validation_size = 16, test_size = 4 }
adapter.rank = 2
sampling = { message_tokens = 3, answer_tokens = 2, batch_rows = 64 }

[train]
steps = STEPS
questions = 2
rollouts = 2
learning_rate = 3e-2
warmup = 1
validate_every = 1
validation_questions = 2
silence_questions = 2
keep_checkpoints = 2
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int  # -1: by an exception that is no message, which is `err` then
    out: str
    err: str

    @property
    def is_clear(self) -> bool:
        """True where it did what was asked, or said in one line why not."""
        lines = [line for line in self.err.splitlines() if line.strip() and "Warning" not in line]
        return self.code == 0 or (self.code == 2 and sum(line.startswith("error: ") for line in lines) == 1)


def command(*args: object) -> Ended:
    """Run a command of neuromas in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(arg) for arg in args])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            code = -1
            err.write(traceback.format_exc())
    return Ended(code, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock, TensorBoard's and those of Python, with links as their targets."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    skipped = re.compile(r"\.owner|tensorboard/.*|.*\.pyc")
    return {
        name: str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for name, path in found.items()
        if (path.is_symlink() or path.is_file()) and not skipped.fullmatch(name)
    }


def _changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _flipped(place: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = min(int(len(data) * place), len(data) - 1)
        return data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]

    return flip


def _replaced(path: Path, by: Callable[[Path], object]) -> None:
    path.unlink()
    by(path)


def _retyped(data: object) -> object:
    """The same JSON, in which numbers are texts, texts numbers, lists objects and objects lists, one level down."""
    if isinstance(data, dict):
        return {key: _other(value) for key, value in data.items()}
    return _other(data)


def _other(value: object) -> object:
    match value:
        case bool() | None:
            return "yes"
        case int() | float():
            return str(value)
        case str():
            return 7
        case list():
            return {"0": value}
        case _:
            return [value]


def _as_json(change: Callable[[object], object]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        lines = data.decode().splitlines()
        try:
            return json.dumps(change(json.loads(data))).encode()
        except ValueError:  # a file of lines
            return "\n".join([lines[0], json.dumps(change(json.loads(lines[1]))), *lines[2:], ""]).encode()

    return changed


ANY: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "half": lambda path: _changed(path, lambda data: data[: len(data) // 2]),
    "all but its end": lambda path: _changed(path, lambda data: data[:-3]),
    "a bit at its start": lambda path: _changed(path, _flipped(0)),
    "a bit in the middle": lambda path: _changed(path, _flipped(0.5)),
    "a bit near its end": lambda path: _changed(path, _flipped(0.95)),
    "no UTF-8": lambda path: _changed(path, lambda data: b"\xff\xfe" + data),
    "zeros": lambda path: _changed(path, lambda data: bytes(len(data))),
    "doubled": lambda path: _changed(path, lambda data: data + data),
    "a folder": lambda path: _replaced(path, Path.mkdir),
    "a link to nothing": lambda path: _replaced(path, lambda p: p.symlink_to("nowhere")),
    "a link to itself": lambda path: _replaced(path, lambda p: p.symlink_to(p.name)),
    "a pipe": lambda path: _replaced(path, os.mkfifo),
    "a device": lambda path: _replaced(path, lambda p: p.symlink_to("/dev/zero")),
}
JSON: dict[str, Callable[[Path], object]] = {
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "an empty object": lambda path: path.write_text("{}"),
    "other types": lambda path: _changed(path, _as_json(_retyped)),
    "one key less": lambda path: _changed(
        path, _as_json(lambda d: dict(list(d.items())[1:]) if isinstance(d, dict) else d)
    ),
    "one key more": lambda path: _changed(path, _as_json(lambda d: {**d, "mood": 1} if isinstance(d, dict) else d)),
    "nested": lambda path: path.write_text("[" * 100_000),
    "a long number": lambda path: path.write_text('{"step": ' + "9" * 5000 + "}"),
    "NaN": lambda path: path.write_text('{"step": NaN}'),
    "half a surrogate": lambda path: path.write_text('{"step": "\\ud800"}'),
}


def ways(path: Path) -> dict[str, Callable[[Path], object]]:
    """What can be done to a file."""
    return ANY | (JSON if path.suffix in (".json", ".jsonl") else {})


def cases_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file of a folder with every way to damage it; of checkpoints the newest, of nodes one."""
    newest = max(path.name for path in (folder / "checkpoints").iterdir())
    for name in sorted(contents(folder)):
        if (folder / name).is_symlink() or name.endswith((".png", ".svg")):
            continue
        if name.startswith("checkpoints/") and (not name.startswith(f"checkpoints/{newest}/") or "/1.2/" in name):
            continue
        yield from ((name, way) for way in ways(folder / name))


def copied(folder: Path, to: Path) -> Path:
    return shutil.copytree(folder, to, symlinks=True)
