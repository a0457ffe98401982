"""Equality of expressions ("2\\sqrt{3}" and "\\sqrt{12}"), by math-verify, in a process that can be ended.

What a model writes may keep a computer algebra system busy for ever. Each question has a limit of processor time, so
the verdict does not depend on what else the machine does.
"""

import json
import os
import re
import subprocess
import sys
import threading
from typing import Any

from neuromas.errors import require
from neuromas.tasks import numerals

SECONDS = 3  # Of processor time, for one question.
_LONGEST = 400  # Characters of an expression.
_MEMORY = 4 << 30  # Bytes.
_REJECTED = re.compile(r"\W*(?:not|never|neither|isn['’]t|cannot)\b", re.IGNORECASE)
_lock = threading.Lock()
_child: "subprocess.Popen[str] | None" = None


def read(text: str) -> str | None:
    """An expression as math-verify reads it; None where it reads none.

    Raises TaskError where math-verify is not installed.
    """
    return _ask(text, None)[0]


def same(gold: str, reply: str) -> tuple[str | None, bool]:
    """The expression that a reply states, and whether it equals the gold answer.

    Read is the line behind "####", the last \\boxed{…}, what is stated ("the answer is …"), else the last line; numbers
    are compared as `numerals` does, exactly. "\\boxed{\\sqrt{12}}" equals "2\\sqrt{3}"; "6.28" is not "2\\pi".
    """
    stated = numerals.committed(reply)
    if not stated or _REJECTED.match(stated):
        return None, False
    try:
        number = numerals.only(gold)
    except ValueError:
        return _ask(gold, stated)
    said = numerals.final(reply)
    if said is not None:
        return said, numerals.equal(number, said)
    return _ask(gold, stated)


def _ask(gold: str, reply: str | None) -> tuple[str | None, bool]:
    """The reply, or without one the gold answer, as it is read, and whether both are equal; nothing if it is costly."""
    global _child
    require("math_verify", "grader 'math'", "pip install -e '.[math]'")
    if max(len(gold), len(reply or "")) > _LONGEST:
        return None, False
    with _lock:
        if _child is None or _child.poll() is not None:
            known = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            pipe = subprocess.PIPE
            command = [sys.executable, "-P", "-m", __name__]
            quiet = subprocess.DEVNULL
            _child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, text=True, env=os.environ | known)
        assert _child.stdin and _child.stdout
        try:
            print(json.dumps([gold, reply]), file=_child.stdin, flush=True)
            answer = _child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:  # It was ended by its limit.
            _child.wait()
            return None, False
    read, equal = json.loads(answer)
    return read, equal


# -- in the child -------------------------------------------------------------------------------------------


def _serve() -> None:
    """Answer the questions on standard input, line by line. A question over its limit ends the process."""
    import logging
    import resource
    import signal

    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        print(json.dumps(_verdict(*json.loads(line))), file=answers, flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)


def _verdict(gold: str, reply: str | None) -> tuple[str | None, bool]:
    import math_verify as library

    parse = lambda text: library.parse(_as_latex(text), parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    try:
        wanted = parse(gold)
        said: list[Any] = wanted if reply is None else parse(reply)
        if not said:
            return None, False
        equal = library.verify(wanted, said, float_rounding=12, timeout_seconds=None)
        return str(said[-1]), bool(wanted) and equal
    except Exception:  # A library for arbitrary text may trip over it, or run out of memory.
        return None, False


def _as_latex(text: str) -> str:
    """A text in which an expression is marked as such, unless it is already."""
    bare = text.strip().rstrip(".").strip('*`"“”').rstrip(".").strip()
    return bare if re.search(r"\$|\\\(|\\\[|\\boxed", bare) else f"${bare}$"


if __name__ == "__main__":
    _serve()
