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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from neuromas.tasks.jail import checker, isolation, program, wire
from neuromas.tasks.jail.isolation import Bounds

_IDENTITIES = 1_600_000_000  # User ids from here on belong to nobody.
_VERDICT = 64 << 10  # Bytes of the longest verdict.
_ENDED = b'{"outcome": "ended"'


def main(options: str) -> None:
    """Run one submission. options: JSON with `seconds` (wall clock), `most` (those of a machine under load), `program`
    and `checker` (fields of `Bounds`).
    """
    _forget_the_surroundings()
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

    verdict = _read(verdict_r, wanted["seconds"], wanted["most"], (accused, judge))
    ended = verdict.startswith(_ENDED)
    # Who is killed with computing time left lacked memory; a program may also have done it itself.
    killed = {
        role: signalled == signal.SIGKILL and computed < bounds[role].cpu - 0.1
        for role, (signalled, computed) in (
            ("program", _end(accused, 0.5 if ended else 0.0)),
            ("checker", _end(judge, 0.0 if verdict else 0.5)),
        )
    }
    if not verdict:
        outcome = "nothing" if killed["checker"] else "failed"
        verdict = _report(outcome, "the checker ended without a verdict")
    elif ended and killed["program"]:
        verdict = _report("killed", "program: it was killed")
    os.write(1, verdict)


def _forget_the_surroundings() -> None:
    """Take the usual mask of files and handling of signals, whatever the evaluator was started with."""
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _end(child: int, patience: float = 0.0) -> tuple[int, float]:
    """Wait so many seconds for a child, then kill it. Returns the signal that had ended it, or 0, and its CPU time."""
    deadline = time.monotonic() + patience
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return os.WTERMSIG(status), usage.ru_utime + usage.ru_stime
        if time.monotonic() >= deadline:
            break
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 0, 0.0


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
    high = [os.dup2(fd, 14 + i, inheritable=False) for i, fd in enumerate(fds)]
    os.closerange(3, 14)
    low = [os.dup2(fd, 3 + i, inheritable=False) for i, fd in enumerate(high)]
    os.closerange(3 + len(low), os.sysconf("SC_OPEN_MAX"))
    return low


def _accused(bounds: Bounds, identity: int, layers: list[str], read: int, write: int, silence: int) -> None:
    try:
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        read, write = _keep(read, write)
        layers = isolation.seal(bounds, identity, layers)
    except Exception as error:
        wire.send(write, {"layers": layers, "lacking": _words(error)})
        return
    program.serve(read, write, layers)


def _judge(bounds: Bounds, identity: int, read: int, write: int, verdict: int, silence: int) -> None:
    outcome, why, layers = "refused", "", list[str]()
    try:
        submission_fd = os.dup(0)
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        read, write, verdict, submission_fd = _keep(read, write, verdict, submission_fd)
        isolation.seal(bounds, identity, [])
        submission = wire.receive(submission_fd)
        os.close(submission_fd)
        link = checker.Link(read, write)
        layers = link.layers
        if lacking := link.lacking or missing(layers):
            outcome, why = "refused", lacking
        else:
            outcome = "failed"
            outcome, why = checker.check(submission, link)
    except BaseException as error:
        why = f"checker: {_words(error)}"
    wire.write(verdict, _report(outcome, why, layers))


def _words(error: BaseException) -> str:
    text = str(error)[:300]
    return text if isinstance(error, isolation.Unsealed) else f"{type(error).__name__}: {text}"


def missing(layers: list[str]) -> str:
    """The defences that an untrusted program needs and these layers lack, and the remedy; empty: nothing is lacking."""
    needed = {"a filter of system calls": {"syscalls"}, "a file system of its own": {"root", "landlock"}}
    lacking = " and ".join(need for need, enough in needed.items() if not enough & set(layers))
    return lacking and (
        f"{lacking} cannot be had (active: {', '.join(layers)}); use Linux 6.2 or later on x86-64 or arm64, and a "
        "container that does not forbid seccomp and Landlock"
    )


def _read(fd: int, seconds: float, most: float, children: tuple[int, ...]) -> bytes:
    """The checker's report, empty where it ended without one; the supervisor's own where none came in time.

    The time in which `children` waited for a processor does not count, until `most` seconds are over.
    """
    data, start = b"", time.monotonic()
    deadline = start + seconds
    while len(data) < _VERDICT:
        now = time.monotonic()
        if now >= deadline:
            waited = sum(map(_waited, children))
            deadline = start + seconds + waited
            if now >= deadline - 0.01:
                return _report("late", "time: the wall-clock limit was reached")
            if now >= start + most:
                return _report("starved", f"of {most:.0f} s the processes waited {waited:.0f} s for a processor")
        if select.select([fd], [], [], min(deadline - now, 1.0) if deadline > now else 0)[0]:
            part = os.read(fd, _VERDICT)
            if not part:
                return data
            data += part
    return _report("failed", "the verdict is too long")


def _waited(child: int) -> float:
    """The seconds that a process waited for a processor, of the thread that waited longest; 0 where nobody counts."""
    waits = [0]
    for task in Path(f"/proc/{child}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # The thread has ended.
            waits.append(int(task.read_text().split()[1]))
    return max(waits) / 1e9


def _report(outcome: str, why: str, layers: Sequence[str] = ()) -> bytes:
    """A verdict as one JSON object."""
    return json.dumps({"outcome": outcome, "why": why, "layers": layers}).encode()
