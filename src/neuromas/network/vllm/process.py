"""A process that answers a line of JSON on its stdin with a line of JSON on its stdout."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from neuromas.errors import EngineError

_PATIENCE = 10  # seconds that a process has to end by itself


class Child:
    """The process, from its start to its end. What it writes to stderr goes to the file `log`.

    It has a session of its own, so that an interrupt from the keyboard reaches this process alone, which then closes
    it; where this process is killed, the end of its stdin tells it to end.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            try:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    encoding="utf-8",
                    env=_environment(command[0]),
                    start_new_session=True,
                )
            except OSError as error:
                raise EngineError(
                    f"{command[0]} cannot be started ({error}); name the Python that has vLLM in NEUROMAS_VLLM_PYTHON"
                ) from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._answers = self._process.stdin, queue.Queue[str | None]()
        threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()
        self.close = weakref.finalize(self, _end, self._process)  # also when this is forgotten, or Python ends

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, seconds: float, **request: Any) -> Any:
        """The answer to one request. Raises `EngineError` when the process refuses, dies, or takes too long; after the
        latter two it is gone."""
        try:
            self._stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._stdin.flush()
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            _signal(self._process, signal.SIGKILL)  # it is busy or stuck: asking would take long, and it has no state
            self.close()
            raise EngineError(
                f"the engine did not answer {do!r} within {seconds:g} seconds and was stopped; raise "
                f"vllm.start_seconds or vllm.call_seconds, or ask for less at once.{self._last_words()}"
            ) from None
        except (OSError, ValueError):  # its end of the pipe is closed, or ours
            line = None
        if line is None:
            self.close()
            raise EngineError(
                f"the engine's process has ended ({_fate(self._process.returncode)}) before it answered {do!r}; if "
                "memory was short, lower vllm.gpu_share or vllm.cache_gib, then continue the run with --resume."
                f"{self._last_words()}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(f"the engine could not do {do!r}: {answer['error']}.{self._last_words()}")
        return answer["ok"]

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return " Its log ends:\n" + "\n".join(lines[-8:]) if lines else ""


def _environment(python: str) -> dict[str, str]:
    """This process's, without the paths that are meant for its own interpreter."""
    mine = {} if python == sys.executable else {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in mine}


def _listen(stdout: IO[str], answers: "queue.Queue[str | None]") -> None:
    with stdout:
        for line in stdout:
            answers.put(line)
    answers.put(None)


def _end(process: "subprocess.Popen[str]") -> None:
    """Ask the process to end, and make it end with all that it started."""
    assert process.stdin is not None
    with suppress(OSError, ValueError):  # it has ended already
        process.stdin.write('{"do": "close"}\n')
        process.stdin.close()
    for sign in (None, signal.SIGTERM, signal.SIGKILL):
        if sign is not None:
            _signal(process, sign)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        break


def _signal(process: "subprocess.Popen[str]", sign: signal.Signals) -> None:
    """To the process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


def _fate(status: int | None) -> str:
    if status is not None and status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"
