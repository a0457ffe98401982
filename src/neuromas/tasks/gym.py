"""Draws the questions of reasoning-gym's data sets in a process of its own, so that every process has the same ones.

Some data sets draw by the order of a set of texts, which the hash seed of a process decides, and some with the global
generators. The child has a fixed hash seed, and both generators are seeded for each record.
"""

import importlib
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from neuromas.errors import NeuromasError, TaskError
from neuromas.tasks.base import SPLITS, Split
from neuromas.tasks.loaded import digest
from neuromas.tasks.words import normalise

GymItem = dict[str, Any]  # A record of reasoning-gym: question, answer, metadata.
GymOptions = dict[str, Any]  # The options of one of its data sets.
Drawn = dict[Split, list[tuple[str, GymItem]]]  # Records with the names of their data sets.

_RUNS_PROGRAMS = ("codeio",)  # Some of them draw at random; of these, what differs when made again is left out.
CHUNK = 256  # Questions generated with one seed.
_PATIENCE = 2000  # Questions in a row that are not new, after which a data set counts as exhausted.
_HELD_OUT_BEFORE = 65  # From this percentile on, version 1 had its validation and test questions.


def drawn(configs: Mapping[str, GymOptions], sizes: Mapping[Split, int], seed: int) -> Drawn:
    """New records of each data set in turn, until every split is full or the data sets have nothing new.

    Raises TaskError where a data set cannot generate with its options, or gives no answers.
    """
    return pickle.loads(_drawn(pickle.dumps((dict(configs), dict(sizes), seed))))


@lru_cache(maxsize=8)
def _drawn(request: bytes) -> bytes:
    known = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-m", __name__]
    child = subprocess.run(command, input=request, capture_output=True, env=os.environ | known)
    if child.returncode:
        last = (child.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise TaskError(f"reasoning-gym's process ended with {child.returncode} and said {last[:200]!r}; run it again")
    if isinstance(found := pickle.loads(child.stdout), NeuromasError):
        raise found
    return child.stdout


def split_of(question: str) -> Split:
    """The split a question belongs to, by its normalised text alone.

    About 44 % are for training, 21 % for validation and 35 % for test. Some questions that version 1 held out were
    looked at while prompts were written; none of them is ever a test question of version 2.
    """
    key = normalise(question)
    percentile_1, percentile_2 = (int(digest(salt + key)[:8], 16) % 100 for salt in ("", "2:"))
    if percentile_1 >= _HELD_OUT_BEFORE:
        return "train" if percentile_2 < 60 else "validation"
    return "train" if percentile_2 < 35 else "validation" if percentile_2 < 46 else "test"


def dataset(name: str, config: GymOptions, seed: int) -> Any:
    """A data set of reasoning-gym with `CHUNK` records."""
    gym: Any = importlib.import_module("reasoning_gym")
    return gym.create_dataset(name, **config, size=CHUNK, seed=seed)


# -- in the child -------------------------------------------------------------------------------------------


def _draw(configs: Mapping[str, GymOptions], sizes: Mapping[Split, int], seed: int) -> Drawn:
    found: Drawn = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for batch in zip_longest(*(_new_items(name, config, seed, seen) for name, config in configs.items())):
        for name, item in zip(configs, batch, strict=True):
            if item is None:
                continue
            split = split_of(item["question"])
            if len(found[split]) < sizes[split]:
                found[split].append((name, item))
        if all(len(found[split]) >= sizes[split] for split in SPLITS):
            break
    return found


def _new_items(name: str, config: GymOptions, seed: int, seen: set[str]) -> Iterator[GymItem]:
    """New records of one data set, without end unless it is exhausted. Adds their questions to `seen`."""
    in_vain = 0  # Records in a row that were not new.
    for item in _generate(name, config, int(digest(f"{seed}:{name}")[:7], 16)):
        if not isinstance(item["answer"], str):
            raise TaskError(f"reasoning-gym's {name} gives no answer to compare with; choose another data set")
        key = normalise(item["question"])
        in_vain += 1
        if key not in seen:
            seen.add(key)
            in_vain = 0
            yield item
        if in_vain == _PATIENCE:
            return


def _generate(name: str, config: GymOptions, start: int) -> Iterator[GymItem]:
    """The records that a data set makes, without end, repetitions included."""
    while True:
        try:
            _seed(start)
            source = dataset(name, config, start)
            for i in range(CHUNK):
                item = _made(source, i, start + i)
                if name not in _RUNS_PROGRAMS or item == _made(source, i, start + i):
                    yield item
        except Exception as error:
            raise TaskError(
                f"reasoning-gym's {name} cannot generate with options {config} "
                f"({type(error).__name__}: {str(error)[:200]}); change the options"
            ) from error
        start += CHUNK


def _made(source: Any, index: int, seed: int) -> GymItem:
    _seed(seed)
    return source[index]


def _seed(seed: int) -> None:
    """Seed the global generators."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)


def _answer() -> None:
    """Answer the request on standard input; nothing that a data set prints gets among the answer."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        found: Drawn | NeuromasError = _draw(*pickle.load(sys.stdin.buffer))
    except NeuromasError as error:
        found = error
    with answer:
        pickle.dump(found, answer)


if __name__ == "__main__":
    _answer()
