"""Digests of a checkpoint's files, which its state holds, and of that state itself: changes on disk are told."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuromas.errors import CheckpointError

STATE = "state.json"


def sealed(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with the digest of all else that it says."""
    said = {key: value for key, value in state.items() if key != "digest"}
    return said | {"digest": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}


def digests_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a checkpoint but its state."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STATE)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """Raises `CheckpointError` where a file of a checkpoint is not what was saved."""
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; the checkpoint is incomplete, choose another")
        if _sha256(path) != digest:
            raise CheckpointError(
                f"{path} is not what was saved; the checkpoint is damaged, choose another: --resume --from STEP"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
