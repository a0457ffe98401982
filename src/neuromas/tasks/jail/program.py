"""The process that runs the generated code. Once it has loaded it, nothing it says is trusted.

It holds no test and no expected value: they are never in its memory. It is asked to call functions of the program, and
answers with plain data (`wire`). Whatever it does to itself, it can only change those answers.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

from neuromas.tasks.jail import wire


def serve(read: int, write: int, layers: list[str]) -> None:
    """Report the active layers, then load the program and answer requests until the checker has gone."""
    wire.send(write, {"layers": layers, "lacking": ""})
    module = types.ModuleType("program")
    sys.modules[module.__name__] = module  # Dataclasses and pickle look a class's module up by name.
    objects: list[Any] = []

    def name(value: Any) -> int:
        objects.append(value)
        return len(objects) - 1

    def find(reference: Any) -> Any:
        return getattr(module, reference) if isinstance(reference, str) else objects[reference]

    while True:
        try:
            request = wire.receive(read)
        except EOFError:
            return
        try:
            args: Any = [wire.decode(arg, find) for arg in request["args"]]
            reply = {"value": wire.encode(_OPERATIONS[request["op"]](module, *args), name)}
            data = wire.pack(reply)
        except BaseException as error:  # The program may raise SystemExit and KeyboardInterrupt too.
            data = wire.pack({"error": [type(error).__name__, _text(error)]})
        wire.write(write, data)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return "an error without a readable message"


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "load": lambda module, source: exec(compile(source, "<program>", "exec"), module.__dict__),
    "call": lambda module, target, args, kwargs: target(*args, **kwargs),
    "get": lambda module, target, attribute: getattr(target, attribute),
    "set": lambda module, target, attribute, value: setattr(target, attribute, value),
    "list": lambda module, target: list(target),
    "len": lambda module, target: len(target),
    "item": lambda module, target, key: target[key],
    "bool": lambda module, target: bool(target),
}
