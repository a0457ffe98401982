"""Calls the reward function of a file in a process of its own, so that one that hangs or dies ends no run unseen.

The process lives as long as its task, keeps what the file keeps, and has a fixed hash seed. A function that is called
one reply at a time is called in its main thread.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from itertools import islice
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from neuromas.errors import NeuromasError, TaskError
from neuromas.tasks.reward import Reward, judged, load_reward, not_had, parsed_as, reward_of, shortened
from neuromas.types import Grade, Question

PendingReply = tuple[int, Question, str]  # A reply's number, its question, and itself.
_WAIT = 5.0  # Seconds in which a process that is told to end must have ended.


class RewardProcess:
    """The function that "file.py:name" names, beside the task's file in `folder`, `threads` replies at a time.

    seconds: the most that a reply may take; None: no limit. Raises `TaskError` where there is no such function.
    """

    def __init__(self, task: str, place: str, folder: Path, threads: int = 1, seconds: float | None = None) -> None:
        self._task, self._seconds = SimpleNamespace(name=task), seconds
        self._threads = threads
        self._how = [task, place, str(folder), str(threads)]
        self._asking = threading.Lock()
        self._start()

    def grades(self, questions: Sequence[Question], replies: Sequence[str]) -> list[Grade]:
        """The grades for replies. Raises `TaskError` with task, question and value at the first that cannot be had.

        It may be called from several threads; they take turns.
        """
        asked = list(zip(range(len(replies)), questions, replies, strict=True))
        with self._asking:
            if self._process.poll() is not None or self._owner != os.getpid():
                self._stop()
                self._start()
            grades = self._answers(asked)
        return [grades[number] for number, *_ in asked]

    def _answers(self, asked: Sequence[PendingReply]) -> dict[int, Grade]:
        """The grades by number. No more is sent than is worked at, so that sending waits for no function."""
        waiting = iter(asked)
        grades: dict[int, Grade] = {}
        begun: dict[int, float] = {}  # For each reply under way, when it was sent.
        try:
            while len(grades) < len(asked):
                for item in islice(waiting, self._threads - len(begun)):
                    begun[item[0]] = time.monotonic()
                    with contextlib.suppress(OSError):  # What it said before it ended is still to be read.
                        self._link.send(item)
                self._await(asked, begun)
                number, said = self._link.recv()
                if isinstance(said, NeuromasError):
                    raise said
                begun.pop(number)
                grades[number] = said
        except (EOFError, OSError) as error:
            raise TaskError(
                f"{self._named(asked[min(begun)])} ended its process ({self._end()}); mend the function"
            ) from error
        except BaseException:
            self._stop()
            raise
        return grades

    def _await(self, asked: Sequence[PendingReply], begun: dict[int, float]) -> None:
        """Wait for the next word of the process. Raises `TaskError` where a reply takes longer than it may."""
        if self._seconds is None:
            return
        first = min(begun, key=lambda number: begun[number])
        if not self._link.poll(max(0.0, begun[first] + self._seconds - time.monotonic())):
            self._process.kill()
            limit = f"took more than {self._seconds:g} s; raise the limit or mend the function"
            raise TaskError(f"{self._named(asked[first])} {limit}")

    def _named(self, asked: PendingReply) -> str:
        _, question, reply = asked
        return f"{reward_of(self._task, question)} for {shortened(reply)}"

    def _start(self) -> None:
        self._link, theirs = Pipe()
        known = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        known["PYTHONUNBUFFERED"] = "1"  # What the function prints is seen though the process ends at once.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), *self._how],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=os.environ | known,
        )
        theirs.close()
        self._owner = os.getpid()
        self._stop = weakref.finalize(self, _stop, self._process, self._link)
        try:
            refused = self._link.recv()
        except (EOFError, OSError) as error:
            place = self._how[1]
            raise TaskError(f"grader {place!r}: its file ended its process ({self._end()}); correct it") from error
        if refused is not None:
            raise refused

    def _end(self) -> str:
        """End the process, where it has not ended; its exit status or signal, in words."""
        self._stop()
        status = self._process.returncode
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _stop(process: "subprocess.Popen[bytes]", link: Connection) -> None:
    """End the process: it ends by itself when nobody can ask it any more."""
    link.close()
    try:
        process.wait(_WAIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# -- in the process -----------------------------------------------------------------------------------------


def _serve(link: Connection, task: str, place: str, folder: str, threads: str) -> None:
    """Answer what is asked at the link, until it is closed, which ends even a function that hangs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks.
    try:
        reward = load_reward(place, Path(folder))
    except TaskError as error:
        link.send(error)
        return
    waiting: SimpleQueue[PendingReply] = SimpleQueue()
    sending = threading.Lock()
    link.send(None)

    def read() -> None:
        try:
            while True:
                waiting.put(link.recv())
        except (EOFError, OSError):
            os._exit(0)

    def send(answer: Any) -> None:
        with sending:
            link.send(answer)

    def work() -> None:
        while True:
            number, question, reply = waiting.get()
            send((number, _grade(SimpleNamespace(name=task), reward, question, reply)))

    for target in [read] + [work] * (int(threads) - 1):
        threading.Thread(target=target, daemon=True).start()
    work()


def _grade(task: SimpleNamespace, reward: Reward, question: Question, reply: str) -> Grade | TaskError:
    try:
        return judged(task, question, reward(question, reply), parsed_as(reply))
    except NeuromasError as error:
        return TaskError(str(error))
    except BaseException as error:
        return not_had(task, question, error)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), *sys.argv[2:])
