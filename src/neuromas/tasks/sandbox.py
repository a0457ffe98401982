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
from typing import Any

from neuromas.errors import TaskError
from neuromas.tasks.jail import wire

_ENTRY = Path(__file__).parent / "jail" / "__main__.py"
_FLAGS = ("-S", "-s", "-P", "-X", "utf8")
# The whole environment of the processes. The fixed hash seed makes the order of sets, so each verdict, reproducible.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
_GRACE = 10.0  # Seconds that starting and ending may take beyond the wall-clock limit.
_PATIENCE = 20  # On a machine under load a program may take so many times the wall-clock limit.
_LARGEST = 1 << 20  # Characters of the longest program that is run.

at_once: int | None = None  # Programs that this process runs at a time by default; None: one for each of its CPUs.


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

    A program that meets the wall-clock limit, or is killed, with computing time left is run a second time.

    without: layers to leave out ("namespaces", "landlock", "syscalls"), to test that the others hold.
    Raises TaskError where the platform offers too little to run an untrusted program at all, and where the machine has
    no room for a verdict.
    """
    limits = limits or ResourceLimits()
    return _first(submission, limits, without) or _again(submission, limits, without)


def _first(submission: Submission, limits: ResourceLimits, without: Sequence[str] = ()) -> Verdict | None:
    """The verdict; None where it may be the machine that failed, and not the program."""
    if not sys.platform.startswith("linux"):
        raise TaskError(
            f"grading generated programs needs Linux, and this is {sys.platform}; run in a Linux container or machine"
        )
    if len(submission.program) > _LARGEST:
        length = len(submission.program)
        return Verdict(False, f"program: {length} characters are over the limit of {_LARGEST}", ())
    report = _supervise(submission, limits, without)
    return None if report["outcome"] in ("late", "killed", "starved", "nothing") else _verdict(report)


def _again(submission: Submission, limits: ResourceLimits, without: Sequence[str] = ()) -> Verdict:
    """The verdict of a second run, in which a program that is late or killed again is a wrong one."""
    report = _supervise(submission, limits, without)
    if report["outcome"] in ("starved", "nothing"):
        raise TaskError(
            f"this machine gave no verdict on a program, twice: {report['why']}; see that processor time, memory, "
            f"processes and room in {tempfile.gettempdir()} are left, or use fewer workers"
        )
    return _verdict(report)


def _verdict(report: dict[str, Any]) -> Verdict:
    if report["outcome"] == "refused":
        raise TaskError(f"this machine cannot run untrusted programs: {report['why']}")
    return Verdict(report["outcome"] == "passed", report["why"], tuple(report["layers"]))


def run_many(
    submissions: Sequence[Submission], limits: ResourceLimits | None = None, workers: int | None = None
) -> list[Verdict]:
    """Verdicts in the order of the submissions, `workers` at a time (by default `at_once`).

    What has to run again runs alone, when all others are done. Raises TaskError as `run` does.
    """
    limits = limits or ResourceLimits()
    with ThreadPoolExecutor(workers or at_once or len(os.sched_getaffinity(0))) as pool:
        verdicts = list(pool.map(lambda submission: _first(submission, limits), submissions))
    return [verdict or _again(submission, limits) for submission, verdict in zip(submissions, verdicts, strict=True)]


# The standard library that solutions of HumanEval and MBPP use, and what else programs may do.
_USUAL = """
import bisect, cmath, collections, copy, datetime, decimal, fractions, functools, hashlib, heapq, itertools, json, math
import operator, random, re, statistics, string, sys, tempfile, textwrap, threading, time, typing, unicodedata
threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
room = bytearray(50 << 20)
"""


@lru_cache(maxsize=1)
def active_layers() -> tuple[str, ...]:
    """The defences that hold on this machine, as running one right and one wrong program shows.

    Raises TaskError where they are too few, or where the sandbox does not tell the two apart.
    """
    tests = "assert double(4) == 8"
    good = run(Submission(f"{_USUAL}def double(x):\n    return 2 * x\n", tests, ("double",)))
    wrong = run(Submission("def double(x):\n    return 3 * x\n", tests, ("double",)))
    if not good.passed or wrong.passed:
        raise TaskError(
            f"the sandbox does not work here: a right program was graded {good.passed} ({good.why or 'no reason'}) and "
            f"a wrong one {wrong.passed}; check that {sys.executable} can start processes and its standard library, "
            f"{Path(os.__file__).parent}, can be read"
        )
    return good.layers


def _supervise(submission: Submission, limits: ResourceLimits, without: Sequence[str]) -> dict[str, Any]:
    """The supervisor's report on one submission; of outcome "nothing" where none came."""
    program = {"memory": limits.memory_mb << 20, "cpu": limits.cpu_seconds, "without": [*without]}
    checker = {"memory": (limits.memory_mb + 512) << 20, "cpu": limits.cpu_seconds + 4, "without": [*without]}
    most = limits.wall_seconds * _PATIENCE
    options = {"seconds": limits.wall_seconds, "most": most, "program": program, "checker": checker}
    try:
        with tempfile.TemporaryDirectory(prefix="neuromas-sandbox-") as folder:
            reported = _reported(wire.pack(asdict(submission)), json.dumps(options), folder, most + _GRACE)
        report = json.loads(reported)
    except (OSError, ValueError) as error:
        return {"outcome": "nothing", "why": f"no verdict came back ({error})", "layers": []}
    return report


def _reported(submission: bytes, options: str, folder: str, timeout: float) -> bytes:
    """The words of a supervisor in `folder`; empty where it did not finish in time."""
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
        return process.communicate(submission, timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        return b""
    finally:
        if process.returncode is None:  # It was not waited for, so the group's number is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
