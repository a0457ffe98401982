"""Adapters on their way to another process: as PEFT folders, each version under a name that is never used again.

Engines keep keys and values of prompts by the adapter's name (vLLM issues 30931 and 42125: a reload under an old name
meets what the old weights computed), so a version that has changed is another adapter to them.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromas.network import peft
from neuromas.network.adapters import AdapterBank


@dataclass(frozen=True)
class Version:
    """One adapter as it was at one time."""

    name: str
    number: int  # from 1, counts all versions of all adapters
    folder: Path
    digest: str  # of its weights


class Handover:
    """The versions that the other process may have now: one for each adapter that was ever asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._now: dict[str, Version] = {}

    def hand(self, bank: AdapterBank, adapters: Sequence[int]) -> tuple[list[Version], list[Version]]:
        """The present version of each adapter, written where it is new; and the versions that these replace.

        The files of those are gone; that the other process forgets them too is the caller's to see to.
        """
        present: list[Version] = []
        replaced: list[Version] = []
        for name in (bank.names[a] for a in adapters):
            state, config = bank.export_peft(name, "")
            digest = hashlib.blake2b(repr(sorted(config.items())).encode(), digest_size=16)
            for key in sorted(state):
                digest.update(key.encode() + state[key].numpy().tobytes())
            old = self._now.get(name)
            if old is None or old.digest != digest.hexdigest():
                self._count += 1
                folder = self._folder / f"{name}@{self._count}"
                peft.write(folder, state, config)
                self._now[name] = Version(folder.name, self._count, folder, digest.hexdigest())
                if old is not None:
                    shutil.rmtree(old.folder)
                    replaced.append(old)
            present.append(self._now[name])
        return present, replaced
