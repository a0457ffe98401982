"""Runs a generated program, which counts as hostile, against tests. What holds and what does not: docs/sandbox.md.

Every job gets fresh processes (`tasks/jail/`): one for the program, another one for the tests, and a supervisor. The
program's process has no network, no files but a read-only standard library and an empty folder, no other processes,
limits on everything, and no knowledge of the tests. The verdict is made where the program cannot reach.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from neuromas.errors import TaskError
from neuromas.tasks.jail import wire

_ENTRY = Path(__file__).parent / "jail" / "__main__.py"
_FLAGS = ("-S", "-s", "-P", "-X", "utf8")
# All that the processes inherit. The fixed hash seed makes the order of sets, and so each verdict, the same every time.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
_GRACE = 10.0  # seconds that starting and ending may take beyond the job's own limit
_LARGEST = 1 << 20  # characters of a program; longer ones are not run


@dataclass(frozen=True)
class Job:
    """One program and what it must satisfy. All source text."""

    program: str  # untrusted
    tests: str  # runs elsewhere, after `setup`; calls the program's names as if they were local
    names: tuple[str, ...]  # the program's names that the tests use
    setup: str = ""  # what the tests need of their own: imports, the benchmark's helper functions


@dataclass(frozen=True)
class Verdict:
    """Whether all tests passed, and why not."""

    passed: bool
    why: str  # for people; may quote the program's own words
    layers: tuple[str, ...]  # defences that held; empty when the program never started


@dataclass(frozen=True)
class Limits:
    """What one program may use. CPU time is what a busy program runs into, whatever else the machine does."""

    cpu_seconds: int = 4
    wall_seconds: float = 15.0
    memory_mb: int = 512

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value <= 1 << 20:
                raise TaskError(f"sandbox limit {name} is {value}; choose a number above 0")


def run(job: Job, limits: Limits | None = None, without: Sequence[str] = ()) -> Verdict:
    """The verdict on one program. Never raises for what a program does.

    without: layers to leave out ("namespaces", "landlock", "syscalls"), to test that the others hold.
    Raises TaskError where the platform offers too little to run an untrusted program at all.
    """
    if not sys.platform.startswith("linux"):
        raise TaskError(
            f"grading generated programs needs Linux, and this is {sys.platform}; run in a Linux container or machine"
        )
    if len(job.program) > _LARGEST:
        return Verdict(False, f"program: {len(job.program)} characters are over the limit of {_LARGEST}", ())
    found = _verdict(_start(job, limits or Limits(), list(without)))
    if found["outcome"] == "refused":
        raise TaskError(
            f"this machine cannot run untrusted programs: {found['why']} cannot be had (active: "
            f"{', '.join(found['layers'])}); use Linux 6.2 or later on x86-64 or arm64, and a container that does not "
            "forbid seccomp and Landlock"
        )
    return Verdict(found["outcome"] == "passed", found["why"], tuple(found["layers"]))


def run_many(jobs: Sequence[Job], limits: Limits | None = None, workers: int | None = None) -> list[Verdict]:
    """Verdicts in the order of the jobs, `workers` at a time (by default one for each CPU this process may use)."""
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda job: run(job, limits), jobs))


@lru_cache(maxsize=1)
def active_layers() -> tuple[str, ...]:
    """The defences that hold on this machine, found by running one good and one bad program.

    Raises TaskError where they are too few, or where the sandbox does not tell the two apart.
    """
    job = Job("def double(x):\n    return 2 * x\n", "assert double(4) == 8", ("double",))
    bad = Job("def double(x):\n    return 3 * x\n", job.tests, job.names)
    good, wrong = run(job), run(bad)
    if not good.passed or wrong.passed:
        raise TaskError(
            f"the sandbox does not work here: a right program was graded {good.passed} ({good.why or 'no reason'}) and "
            f"a wrong one {wrong.passed}; check that {sys.executable} can start processes and make temporary folders"
        )
    return good.layers


def _start(job: Job, limits: Limits, without: list[str]) -> bytes:
    """What the supervisor writes about one job; empty when it came to nothing."""
    program = {"memory": limits.memory_mb << 20, "cpu": limits.cpu_seconds, "without": without}
    checker = {"memory": (limits.memory_mb + 512) << 20, "cpu": limits.cpu_seconds + 4, "without": without}
    options = json.dumps({"seconds": limits.wall_seconds, "program": program, "checker": checker})
    text = wire.pack(asdict(job))
    with tempfile.TemporaryDirectory(prefix="neuromas-sandbox-") as folder:
        process = subprocess.Popen(
            [sys.executable, *_FLAGS, str(_ENTRY), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        try:
            return process.communicate(text, timeout=limits.wall_seconds + _GRACE)[0]
        except subprocess.TimeoutExpired:
            return b""
        finally:
            if process.returncode is None:  # not waited for yet, so the group's number is still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def _verdict(data: bytes) -> dict[str, Any]:
    try:
        return json.loads(data)
    except ValueError:
        return {"outcome": "failed", "why": "sandbox: no verdict came back", "layers": []}
