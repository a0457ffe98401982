"""Runs a generated program, which counts as hostile, against tests; docs/sandbox.md says what this protects from.

Every submission gets fresh processes (`tasks/jail/`): one for the program, one for the tests, and a supervisor. The
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

from neuromas.errors import TaskError
from neuromas.tasks.jail import wire

_ENTRY = Path(__file__).parent / "jail" / "__main__.py"
_FLAGS = ("-S", "-s", "-P", "-X", "utf8")
# The whole environment of the processes. The fixed hash seed makes the order of sets, so each verdict, reproducible.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
_GRACE = 10.0  # Seconds that starting and ending may take beyond the wall-clock limit.
_LARGEST = 1 << 20  # Characters of the longest program that is run.


@dataclass(frozen=True)
class Submission:
    """One program and the tests that it must pass, as source text."""

    program: str  # The untrusted program.
    tests: str  # The tests, which run in another process after `setup` and call the program's names as if local.
    names: tuple[str, ...]  # The names of the program that the tests use.
    setup: str = ""  # Imports and helper functions of the benchmark that the tests need.


@dataclass(frozen=True)
class Verdict:
    """The result of one submission."""

    passed: bool  # True where all tests passed.
    why: str  # The reason for people, which may quote the program's own words; empty where all tests passed.
    layers: tuple[str, ...]  # The defences that held; empty when the program never started.


@dataclass(frozen=True)
class ResourceLimits:
    """The resources of one program. Computing time stops a busy program, whatever else the machine does."""

    cpu_seconds: int = 4
    wall_seconds: float = 15.0
    memory_mb: int = 512

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value <= 1 << 20:
                raise TaskError(f"sandbox limit {name} is {value}; choose a number above 0")


def run(submission: Submission, limits: ResourceLimits | None = None, without: Sequence[str] = ()) -> Verdict:
    """The verdict on one program. Nothing that a program does raises an error here.

    without: layers to leave out ("namespaces", "landlock", "syscalls"), to test that the others hold.
    Raises TaskError where the platform offers too little to run an untrusted program at all.
    """
    if not sys.platform.startswith("linux"):
        raise TaskError(
            f"grading generated programs needs Linux, and this is {sys.platform}; run in a Linux container or machine"
        )
    if len(submission.program) > _LARGEST:
        length = len(submission.program)
        return Verdict(False, f"program: {length} characters are over the limit of {_LARGEST}", ())
    reported = _supervise(submission, limits or ResourceLimits(), list(without))
    try:
        report = json.loads(reported)
    except ValueError:
        return Verdict(False, "sandbox: no verdict came back", ())
    if report["outcome"] == "refused":
        raise TaskError(
            f"this machine cannot run untrusted programs: {report['why']} cannot be had (active: "
            f"{', '.join(report['layers'])}); use Linux 6.2 or later on x86-64 or arm64, and a container that does not "
            "forbid seccomp and Landlock"
        )
    return Verdict(report["outcome"] == "passed", report["why"], tuple(report["layers"]))


def run_many(
    submissions: Sequence[Submission], limits: ResourceLimits | None = None, workers: int | None = None
) -> list[Verdict]:
    """Verdicts in the order of the submissions, `workers` at a time (by default one for each CPU of this process).

    Raises TaskError as `run` does.
    """
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda submission: run(submission, limits), submissions))


@lru_cache(maxsize=1)
def active_layers() -> tuple[str, ...]:
    """The defences that hold on this machine, as running one right and one wrong program shows.

    Raises TaskError where they are too few, or where the sandbox does not tell the two apart.
    """
    tests = "assert double(4) == 8"
    good = run(Submission("def double(x):\n    return 2 * x\n", tests, ("double",)))
    wrong = run(Submission("def double(x):\n    return 3 * x\n", tests, ("double",)))
    if not good.passed or wrong.passed:
        raise TaskError(
            f"the sandbox does not work here: a right program was graded {good.passed} ({good.why or 'no reason'}) and "
            f"a wrong one {wrong.passed}; check that {sys.executable} can start processes and make temporary folders"
        )
    return good.layers


def _supervise(submission: Submission, limits: ResourceLimits, without: list[str]) -> bytes:
    """The supervisor's report on one submission; empty when the supervisor did not finish in time."""
    program = {"memory": limits.memory_mb << 20, "cpu": limits.cpu_seconds, "without": without}
    checker = {"memory": (limits.memory_mb + 512) << 20, "cpu": limits.cpu_seconds + 4, "without": without}
    options = json.dumps({"seconds": limits.wall_seconds, "program": program, "checker": checker})
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
            return process.communicate(wire.pack(asdict(submission)), timeout=limits.wall_seconds + _GRACE)[0]
        except subprocess.TimeoutExpired:
            return b""
        finally:
            if process.returncode is None:  # It was not waited for, so the group's number is still its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
