"""The process that runs a benchmark's tests against a program in another process, and reports the verdict.

The tests call the program as if it were in the same process: each name of the program is a `Remote`, and each call goes
through the pipe. What comes back is plain data, so an assertion compares values that the program computed and nothing
of the program runs here. There is no message by which a program could claim success.
"""

import builtins
import json
from collections.abc import Iterator
from typing import Any

from neuromas.tasks.jail import wire

_WHY = 500  # Characters of the longest explanation.


class ProgramError(Exception):
    """Stands for an exception of the program that is not built in."""


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
        self.layers: list[str] = wire.receive(read)["layers"]  # Sent before the program is loaded, so trusted.

    def ask(self, op: str, *args: Any) -> Any:
        """The program's answer as plain data. Raises the exception that the program raised."""
        wire.send(self.write, {"op": op, "args": [wire.encode(arg, _reference) for arg in args]})
        reply = wire.receive(self.read)
        if not isinstance(reply, dict) or not reply.keys() & {"error", "value"}:
            raise ValueError("what the program's process says is no answer")
        if "error" in reply:
            kind, text = reply["error"]
            error: Any = getattr(builtins, str(kind), None)
            if not (isinstance(error, type) and issubclass(error, Exception)):
                error = ProgramError
            raise error(str(text)) from None
        return wire.decode(reply["value"], lambda reference: Remote(self, int(reference)))


def _reference(value: Any) -> "str | int":
    if not isinstance(value, Remote):
        raise TypeError(f"a test passes a {type(value).__name__}, which cannot be handed to another process")
    return object.__getattribute__(value, "_reference")


def check(submission: dict[str, Any], link: Link) -> tuple[str, str]:
    """The outcome, "passed" or "failed", and the reason. submission: the fields of `sandbox.Submission`."""
    try:
        link.ask("load", submission["program"])
    except BaseException as error:
        return "failed", _explain("program", error)
    scope: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(submission["setup"], "<setup>", "exec"), scope)
        scope |= {name: Remote(link, name) for name in submission["names"]}
        exec(compile(submission["tests"], "<tests>", "exec"), scope)
    except BaseException as error:
        return "failed", _explain("tests", error)
    return "passed", ""


def _explain(where: str, error: BaseException) -> str:
    if isinstance(error, EOFError) and "closed the pipe" in str(error):
        return f"{where}: the program ended before its tests did"
    return f"{where}: {type(error).__name__}: {error}"[:_WHY]


def report(fd: int, outcome: str, why: str, layers: list[str]) -> None:
    """Write the verdict as one JSON object."""
    wire.write(fd, json.dumps({"outcome": outcome, "why": why, "layers": layers}).encode())
