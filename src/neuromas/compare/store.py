"""The files of a comparison: written by one process, whole after any kill, and the truth about what is done."""

import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from neuromas.compare.spec import Spec
from neuromas.errors import ConfigError
from neuromas.evaluate.table import ANSWERS, CELLS, Key, key_of
from neuromas.files import read_json_lines, write_json, write_text
from neuromas.recipe import explain

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

CHUNK = 64  # questions of one job: what a kill may cost; the same in every session, so that batches are the same
SPEC = "spec.json"
_PATIENCE = 20.0  # seconds that workers of a killed comparison get to notice and end


class Store:
    """`cells.jsonl` and `answers.jsonl` of one comparison; only the parent process writes to them."""

    def __init__(self, out: Path) -> None:
        """Takes up what an earlier session left, without lines that a kill cut off and chunks that are not whole."""
        self.out = out
        for left in out.rglob(".*.tmp"):  # of files that a kill kept from being renamed
            left.unlink()
        self.cells = {key_of(line): line for line in read_json_lines(out / CELLS)}
        lines = {(key_of(line), line["index"]): line for line in read_json_lines(out / ANSWERS)}
        self.done = {(key, index) for key, index in lines if key in self.cells}
        whole = [line for (key, index), line in lines.items() if self.has(key, index // CHUNK)]
        self.done = {(key_of(line), line["index"]) for line in whole}
        self._write(list(self.cells.values()), whole)
        self._cells_file, self._answers_file = (self._open(name) for name in (CELLS, ANSWERS))

    def has(self, key: Key, chunk: int) -> bool:
        """Whether a chunk of a cell is answered."""
        if key not in self.cells:
            return False
        return all((key, index) in self.done for index in chunk_of(chunk, self.cells[key]["n"]))

    def add(self, facts: dict[str, Any], answers: list[dict[str, Any]]) -> None:
        """Append one chunk of a cell, and before the first one what the cell is."""
        key = key_of(facts)
        if key not in self.cells:
            self.cells[key] = facts
            _append(self._cells_file, [facts])
        _append(self._answers_file, answers)
        self.done |= {(key, line["index"]) for line in answers}

    def finish(self, facts: dict[Key, dict[str, Any]]) -> None:
        """Write both files anew in the order of the report, so that they do not depend on who was ready first.

        facts: of every cell of the plan, in that order; what workers found out is added to them.
        """
        self.close()
        order = {key: place for place, key in enumerate(facts)}
        self.cells = {key: self.cells[key] | told for key, told in facts.items()}
        lines = {(key_of(line), line["index"]): line for line in read_json_lines(self.out / ANSWERS)}
        kept = sorted((at for at in lines if at[0] in order), key=lambda at: (order[at[0]], at[1]))
        self._write(list(self.cells.values()), [lines[at] for at in kept])

    def close(self) -> None:
        self._cells_file.close()
        self._answers_file.close()

    def _open(self, name: str) -> TextIO:
        return (self.out / name).open("a", encoding="utf-8")

    def _write(self, cells: list[dict[str, Any]], answers: list[dict[str, Any]]) -> None:
        for name, lines in ((CELLS, cells), (ANSWERS, answers)):
            write_text(self.out / name, _text(lines))


def chunk_of(chunk: int, n: int) -> range:
    """The places of a chunk's questions, of n in all."""
    return range(chunk * CHUNK, min((chunk + 1) * CHUNK, n))


def _append(file: TextIO, lines: list[dict[str, Any]]) -> None:
    file.write(_text(lines))
    file.flush()
    os.fsync(file.fileno())


def _text(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def lock(out: Path) -> Any:
    """Make sure that nobody else works in `out`; keep what is returned for as long as the work lasts.

    Waits for workers that a killed comparison left behind. Raises ConfigError where another one is at work there.
    Where there is no fcntl, nothing is held.
    """
    out.mkdir(parents=True, exist_ok=True)
    held = _take(out / ".lock", 1.0)
    _take(out / ".workers", _PATIENCE).close()
    return held


def share(out: Path) -> Any:
    """Tell, as a worker, that one is at work in `out`; keep what is returned."""
    file = (out / ".workers").open("a")
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _take(path: Path, patience: float) -> TextIO:
    file, deadline = path.open("a"), time.monotonic() + patience
    while fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                message = f"another comparison is at work in {path.parent}; wait for its end, or choose another folder"
                raise ConfigError(message) from error
            time.sleep(0.05)
        else:
            break
    return file


def check_same(spec: Spec, out: Path) -> None:
    """Refuse to continue another comparison; systems, and at the end tasks and seeds, may be added.

    Raises ConfigError naming what differs, or where `out` holds something else.
    """
    path, mine = out / SPEC, spec.model_dump(mode="json")
    if not path.exists():
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise ConfigError(f"{out} holds something else; choose another --out")
    else:
        saved = _with_new_settings(path)
        shown = ("title", "reference")  # these change no answer
        differ = [key for key in mine if key not in shown and not _extends(key, saved[key], mine[key])]
        if differ:
            told = "; ".join(f"{key} was {saved[key]!r}, is {mine[key]!r}" for key in differ)
            raise ConfigError(
                f"the comparison in {out} has other settings: {told}; systems, and after those there tasks and seeds, "
                "may be added, nothing else may change: choose another --out"
            )
    write_json(path, mine)


def _with_new_settings(path: Path) -> dict[str, Any]:
    """The spec of a comparison under way; settings that its version did not have yet get their defaults.

    Raises ConfigError where the file holds something else.
    """
    try:
        return Spec.model_validate_json(path.read_text(encoding="utf-8")).model_dump(mode="json")
    except ValidationError as error:
        raise ConfigError(f"{path} is no spec of a comparison ({explain(error)}); choose another --out") from error


def _extends(key: str, old: Any, new: Any) -> bool:
    if key == "systems":
        return all(new.get(name) == entry for name, entry in old.items())
    return new[: len(old)] == old if key in ("tasks", "seeds") else old == new
