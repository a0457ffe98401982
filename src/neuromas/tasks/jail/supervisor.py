"""The trusted process of one submission: it makes the two others, waits for the verdict, and leaves nothing behind.

It never reads the submission. Its standard input goes to the checker alone, and both children are forked before
anything secret is in memory, so the program's process holds no trace of the tests.
"""

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from neuromas.tasks.jail import checker, isolation, program, wire
from neuromas.tasks.jail.isolation import Bounds

_IDENTITIES = 1_600_000_000  # User ids from here on belong to nobody.
_VERDICT = 64 << 10  # Bytes of the longest verdict.


def main(options: str) -> None:
    """Run one submission. options: JSON with `seconds` (wall clock), `program` and `checker` (fields of `Bounds`)."""
    wanted: dict[str, Any] = json.loads(options)
    bounds = {role: Bounds(**wanted[role]) for role in ("program", "checker")}
    without, identity = bounds["program"].without, _IDENTITIES + 2 * os.getpid()
    silence = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    (request_r, request_w), (reply_r, reply_w), (verdict_r, verdict_w) = (os.pipe() for _ in range(3))

    layers = isolation.detach(without)
    judge = _fork(lambda: _judge(bounds["checker"], identity + 1, reply_r, request_w, verdict_w, silence))
    layers += isolation.new_process_tree(without)
    accused = _fork(lambda: _accused(bounds["program"], identity, layers, request_r, reply_w, silence))
    for fd in (0, request_r, request_w, reply_r, reply_w, verdict_w):
        os.close(fd)

    verdict = _read(verdict_r, time.monotonic() + wanted["seconds"])
    for child in (accused, judge):
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.write(1, verdict)


def _fork(body: Callable[[], None]) -> int:
    """A child that runs `body` and never returns."""
    child = os.fork()
    if child:
        return child
    try:
        body()
    finally:
        os._exit(0)


def _keep(*fds: int) -> list[int]:
    """Close every descriptor but these, which are moved to 3, 4 …. Returns their new numbers."""
    high = [os.dup2(fd, 64 + i, inheritable=False) for i, fd in enumerate(fds)]
    os.closerange(3, 64)
    low = [os.dup2(fd, 3 + i, inheritable=False) for i, fd in enumerate(high)]
    os.closerange(3 + len(low), os.sysconf("SC_OPEN_MAX"))
    return low


def _accused(bounds: Bounds, identity: int, layers: list[str], read: int, write: int, silence: int) -> None:
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    read, write = _keep(read, write)
    program.serve(read, write, isolation.seal(bounds, identity, layers))


def _judge(bounds: Bounds, identity: int, read: int, write: int, verdict: int, silence: int) -> None:
    submission_fd = os.dup(0)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    read, write, verdict, submission_fd = _keep(read, write, verdict, submission_fd)
    isolation.seal(bounds, identity, [])
    outcome, why, layers = "failed", "", list[str]()
    try:
        submission = wire.receive(submission_fd)
        os.close(submission_fd)
        link = checker.Link(read, write)
        layers = link.layers
        if lacking := missing(layers):
            outcome, why = "refused", lacking
        else:
            outcome, why = checker.check(submission, link)
    except BaseException as error:
        why = f"checker: {type(error).__name__}: {str(error)[:200]}"
    checker.report(verdict, outcome, why, layers)


def missing(layers: list[str]) -> str:
    """The defences that an untrusted program needs and these layers lack; empty when nothing is lacking."""
    needed = {"a filter of system calls": {"syscalls"}, "a file system of its own": {"root", "landlock"}}
    return " and ".join(need for need, enough in needed.items() if not enough & set(layers))


def _read(fd: int, deadline: float) -> bytes:
    """The checker's report; the supervisor's own verdict where none came before the deadline."""
    data = b""
    while (left := deadline - time.monotonic()) > 0 and len(data) < _VERDICT:
        if not select.select([fd], [], [], left)[0]:
            break
        part = os.read(fd, _VERDICT)
        if not part:
            return data or _failed("the checker ended without a verdict")
        data += part
    return _failed("time: the wall-clock limit was reached")


def _failed(why: str) -> bytes:
    return json.dumps({"outcome": "failed", "why": why, "layers": []}).encode()
