"""The process that runs a benchmark's tests against a program in another process, and reports the verdict.

The tests call the program as if it were in the same process: each name of the program is a `Remote`, and each call goes
through the pipe. What comes back is plain data, so an assertion compares values that the program computed and nothing
of the program runs here. There is no message by which a program could claim success.
"""

import builtins
import contextlib
from collections.abc import Iterator
from typing import Any

from neuromas.tasks.jail import wire

_WHY = 500  # Characters of the longest explanation.


class ProgramError(Exception):
    """Stands for an exception of the program that is not built in."""


class Ended(BaseException):
    """The program's process has gone; no test can catch that as an exception of the program."""


class Remote:
    """A name or an object of the program. It equals only itself, whatever the object's class says."""

    def __init__(self, link: "Link", reference: "str | int") -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_reference", reference)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask("call", self, list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Copying, pickling and inspecting an object look for these.
            raise AttributeError(name)
        return self._link.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask("set", self, name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._link.ask("list", self))

    def __len__(self) -> int:
        return self._link.ask("len", self)

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("item", self, key)

    def __bool__(self) -> bool:
        return self._link.ask("bool", self) is True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and other._reference == self._reference

    def __hash__(self) -> int:
        return hash(self._reference)


class Link:
    """The pipe to the program."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write = read, write
        first = wire.receive(read)  # Sent before the program is loaded, so trusted.
        self.layers: list[str] = first["layers"]
        self.lacking: str = first["lacking"]  # Why no program can run here; empty where it can.

    def ask(self, op: str, *args: Any) -> Any:
        """The program's answer as plain data. Raises the exception that the program raised."""
        message = {"op": op, "args": [wire.encode(arg, _reference) for arg in args]}
        try:
            wire.send(self.write, message)
            reply = wire.receive(self.read)
        except (EOFError, BrokenPipeError):
            raise Ended from None
        if not isinstance(reply, dict) or not reply.keys() & {"error", "value"}:
            raise ValueError("what the program's process says is no answer")
        if "error" in reply:
            kind, text = reply["error"]
            raise _error(str(kind), str(text)) from None
        return wire.decode(reply["value"], lambda reference: Remote(self, int(reference)))


def _error(kind: str, text: str) -> Exception:
    """The program's exception as one that is built in, where it is one.

    Those that mean the end of an iteration are not: a test's own loop over calls would end early, and pass.
    """
    error: Any = getattr(builtins, kind, None)
    if isinstance(error, type) and issubclass(error, Exception):
        if issubclass(error, StopIteration | StopAsyncIteration):
            return ProgramError(f"{kind}: {text}")
        for likeness in error.__mro__:  # Some cannot be made of a text alone.
            with contextlib.suppress(TypeError):
                return likeness(text)
    return ProgramError(text)


def _reference(value: Any) -> "str | int":
    if not isinstance(value, Remote):
        raise TypeError(f"a test passes a {type(value).__name__}, which cannot be handed to another process")
    return object.__getattribute__(value, "_reference")


def check(submission: dict[str, Any], link: Link) -> tuple[str, str]:
    """The outcome and the reason: "passed", "failed", or "ended" where the program's process did before its tests.

    submission: the fields of `sandbox.Submission`.
    """
    try:
        link.ask("load", submission["program"])
    except BaseException as error:
        return _explained("program", error)
    scope: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(submission["setup"], "<setup>", "exec"), scope)
        scope |= {name: Remote(link, name) for name in submission["names"]}
        exec(compile(submission["tests"], "<tests>", "exec"), scope)
    except BaseException as error:
        return _explained("tests", error)
    return "passed", ""


def _explained(where: str, error: BaseException) -> tuple[str, str]:
    if isinstance(error, Ended):
        return "ended", f"{where}: the program ended before its tests did"
    return "failed", f"{where}: {type(error).__name__}: {error}"[:_WHY]
