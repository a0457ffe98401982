"""The files of a comparison: written by one process, whole after any kill, and the truth about what is done."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from neuromas.compare.spec import Spec
from neuromas.errors import ConfigError
from neuromas.evaluate.table import ANSWERS, CELLS, check_known
from neuromas.files import read_json_lines, take_lock, write_json, write_json_lines
from neuromas.recipe import TomlTable, explain
from neuromas.results import CellAnswer, CellKey, CellRecord, JsonRecord

CHUNK = 64  # questions of one job: what a kill may cost; the same in every session, so that batches are the same
SPEC = "spec.json"
_PATIENCE = 20.0  # seconds that workers of a killed comparison get to notice and end


class Store:
    """`cells.jsonl` and `answers.jsonl` of one comparison; only the parent process writes to them."""

    def __init__(self, out: Path) -> None:
        """Takes up what an earlier session left, without lines that a kill cut off and chunks that are not whole.

        Raises `CheckpointError` for other damage, before anything is changed.
        """
        self.out = out
        for temporary in out.rglob(".*.tmp"):  # a kill kept these files from being renamed
            temporary.unlink()
        self.cells = {cell.key: cell for cell in read_json_lines(out / CELLS, CellRecord.from_dict)}
        lines = self._answers()
        check_known(out, self.cells, (key for key, _ in lines))
        self.done = set(lines)
        whole = {place: line for place, line in lines.items() if self.has(place[0], place[1] // CHUNK)}
        self.done = set(whole)
        self._write(self.cells.values(), whole.values())
        self._cells_file, self._answers_file = ((out / name).open("a", encoding="utf-8") for name in (CELLS, ANSWERS))

    def has(self, key: CellKey, chunk: int) -> bool:
        """True if every question of a chunk of a cell is answered."""
        if key not in self.cells:
            return False
        return all((key, index) in self.done for index in chunk_of(chunk, self.cells[key].n))

    def add(self, cell: CellRecord, answers: list[CellAnswer]) -> None:
        """Append the answers of one chunk, and before a cell's first one the cell."""
        if cell.key not in self.cells:
            self.cells[cell.key] = cell
            _append(self._cells_file, [cell])
        _append(self._answers_file, answers)
        self.done |= {(cell.key, line.index) for line in answers}

    def finish(self, planned: list[CellRecord]) -> None:
        """Write both files anew in the order of the report, so that they do not depend on who was ready first.

        planned: every cell of the plan, in that order; what its system said of itself is taken from the first chunk.
        """
        self.close()
        order = {cell.key: position for position, cell in enumerate(planned)}
        self.cells = {cell.key: cell.of_system(self.cells[cell.key]) for cell in planned}
        lines = self._answers()
        places = sorted((place for place in lines if place[0] in order), key=lambda place: (order[place[0]], place[1]))
        self._write(self.cells.values(), [lines[place] for place in places])

    def close(self) -> None:
        """Close both files."""
        self._cells_file.close()
        self._answers_file.close()

    def _answers(self) -> dict[tuple[CellKey, int], CellAnswer]:
        """The lines of answers.jsonl by cell and number of the question."""
        lines = read_json_lines(self.out / ANSWERS, CellAnswer.from_dict)
        return {(line.key, line.index): line for line in lines}

    def _write(self, cells: Iterable[CellRecord], answers: Iterable[CellAnswer]) -> None:
        write_json_lines(self.out / CELLS, (cell.to_dict() for cell in cells))
        write_json_lines(self.out / ANSWERS, (line.to_dict() for line in answers))


def chunk_of(chunk: int, n: int) -> range:
    """The numbers of a chunk's questions, of n in all."""
    return range(chunk * CHUNK, min((chunk + 1) * CHUNK, n))


def _append(file: TextIO, lines: Iterable[JsonRecord]) -> None:
    file.write("".join(json.dumps(line.to_dict(), ensure_ascii=False) + "\n" for line in lines))
    file.flush()
    os.fsync(file.fileno())


def lock(out: Path) -> Any:
    """Lock `out` for this comparison alone, for as long as the returned file is kept open.

    Waits for workers that a killed comparison left behind. Raises ConfigError where another one is at work there.
    """
    out.mkdir(parents=True, exist_ok=True)
    held = _take(out / ".lock", 1.0)
    _take(out / ".workers", _PATIENCE).close()
    return held


def share(out: Path) -> Any:
    """Hold, as a worker, a share of the lock on `out` for as long as the returned file is kept."""
    return take_lock(out / ".workers", _PATIENCE, shared=True)


def _take(path: Path, patience: float) -> TextIO:
    if (file := take_lock(path, patience)) is None:
        raise ConfigError(f"another comparison is at work in {path.parent}; wait for its end, or choose another folder")
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
        shown = ("title", "reference")  # neither changes an answer
        differ = [key for key in mine if key not in shown and not _extends(key, saved[key], mine[key])]
        if differ:
            differences = "; ".join(f"{key} was {saved[key]!r}, is {mine[key]!r}" for key in differ)
            raise ConfigError(
                f"the comparison in {out} has other settings: {differences}; systems, and further "
                "tasks and seeds at the end, may be added, nothing else may change: choose another --out"
            )
    write_json(path, mine)


def _with_new_settings(path: Path) -> TomlTable:
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
