"""One owner of a run folder: a lock that ends with its process, on a file that also marks the folder as a run's."""

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuromas.errors import CheckpointError
from neuromas.files import read_object, take_lock

OWNER = ".owner"
RAY_OWNER = ".ray.owner"  # of the process that starts workers; each holds OWNER for a while
_KEYS = {"seed", "task", "backbone", "adapter", "train"}  # of every config.json
_held: dict[Path, tuple[int, int]] = {}  # process and thread that hold a lock


def is_run(out: Path) -> bool:
    """True where a run has begun in `out`."""
    if (out / "config.json").exists():
        return read_object(out / "config.json").keys() >= _KEYS
    return (out / OWNER).exists()


@contextmanager
def owned(out: Path, *, resume: bool = True, name: str = OWNER) -> Iterator[None]:
    """Hold the run folder `out` against every other process and thread; makes it where it is missing.

    resume: False where a run is to begin, for which `out` must be new, empty, or a run's. name: the file that is
    locked, which says who holds it; a dead holder's lock is taken over. Who holds it already may hold it again. After
    an error in a block that has written nothing, what was made for it is removed. Raises `CheckpointError`, before
    anything is changed, where another one holds it or `out` is not a run's.
    """
    path, me = Path(os.path.realpath(out)) / name, (os.getpid(), threading.get_ident())
    if _held.get(path) == me:
        yield
        return
    _check_ours(out, resume)
    made = [folder for folder in path.parents if not folder.exists()]  # the innermost first
    out.mkdir(parents=True, exist_ok=True)
    there = {*path.parent.iterdir()}
    file = take_lock(path)
    if file is None:
        raise CheckpointError(
            f"{out} is in use by {path.read_text(encoding='utf-8') or 'another process'}; wait for its end or stop it, "
            "or choose another --out"
        )
    with file:
        file.truncate(0)
        file.write(f"process {me[0]} on {platform.node()}")
        file.flush()
        _held[path] = me
        try:
            yield
        except Exception:
            with contextlib.suppress(OSError):  # a folder that holds something by now stays
                new = {*path.parent.iterdir()} - there
                if {file.name for file in new} <= {OWNER, RAY_OWNER}:
                    for file in new:
                        file.unlink()
                    for folder in made:
                        folder.rmdir()
            raise
        finally:
            del _held[path]


def _check_ours(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out} is a file; choose another --out")
    ours = is_run(out)
    if resume and not ours:
        raise CheckpointError(f"there is no run in {out} to resume; correct --out, or leave --resume out to begin one")
    strange = sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) if out.exists() else []
    if strange and not ours:
        raise CheckpointError(
            f"{out} holds {strange[0]!r}, which is no run's, and would be mixed with one; choose another --out"
        )
