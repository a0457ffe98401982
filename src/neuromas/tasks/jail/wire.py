"""Messages between checker and program: length-prefixed JSON, and plain values as JSON.

A value that crosses the pipe is plain data and nothing else: a subclass arrives as the built-in type it extends, so no
method of the program's own (an `__eq__` that is always true) ever runs in the checker. What is not data stays where it
is and is named by a handle.
"""

import json
import os
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

LIMIT = 8 << 20  # Bytes of the longest message.
_HEADER = 4  # Bytes of a message's length, big-endian.
_HUGE = 1 << 63  # Integers beyond it travel in hexadecimal, since Python limits decimal digits.
_CONTAINERS: dict[str, Any] = {"l": list, "t": tuple, "s": set, "f": frozenset}  # By the key of their JSON form.


def send(fd: int, message: Any) -> None:
    """Write one message. Raises ValueError when it is too long, OSError when nobody reads."""
    write(fd, pack(message))


def pack(message: Any) -> bytes:
    """A message as it travels. Raises ValueError when it is too long."""
    data = json.dumps(message).encode("ascii")
    if len(data) > LIMIT:
        raise ValueError(f"a message of {len(data)} bytes is over the limit of {LIMIT}")
    return len(data).to_bytes(_HEADER, "big") + data


def write(fd: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError when nobody reads."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int) -> Any:
    """Read one message. Raises EOFError when the other side has gone, ValueError for what is no message."""
    size = int.from_bytes(_exactly(fd, _HEADER), "big")
    if size > LIMIT:
        raise ValueError(f"a message of {size} bytes is over the limit of {LIMIT}")
    return json.loads(_exactly(fd, size).decode("ascii"))


def _exactly(fd: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.read(fd, min(size, 1 << 16))
        if not part:
            raise EOFError("the other side has closed the pipe")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def encode(value: Any, handle: Callable[[Any], Any]) -> Any:
    """A value as JSON. `handle` gives the name of what is not plain data, or raises TypeError."""
    encoded = lambda items: [encode(item, handle) for item in items]
    match value:
        case None | bool():
            return value
        case int():
            return int(value) if -_HUGE < value < _HUGE else {"i": hex(value)}
        case float():
            return float(value)
        case str():
            return str.__str__(value)
        case dict():
            return {"d": [encoded(pair) for pair in dict.items(value)]}
        case bytes() | bytearray():
            return {"b": bytes(value).hex(), "m": isinstance(value, bytearray)}
        case complex():
            return {"c": [value.real, value.imag]}
        case range():
            return {"r": encoded((value.start, value.stop, value.step))}
        case Fraction():
            return {"q": encoded((value.numerator, value.denominator))}
        case Decimal():
            return {"D": str(value)}
        case _:
            for key, container in _CONTAINERS.items():
                if isinstance(value, container):
                    return {key: encoded(container.__iter__(value))}
            return {"h": handle(value)}


def decode(data: Any, handle: Callable[[Any], Any]) -> Any:
    """The value that `encode` was given; `handle` resolves names. Raises ValueError or TypeError for what is none."""
    if not isinstance(data, dict):
        if isinstance(data, list):
            raise ValueError("a bare list is no encoded value")
        return data
    decoded = lambda items: [decode(item, handle) for item in items]
    key = next(iter(data), "")
    body: Any = data.get(key)
    if key in _CONTAINERS:
        return _CONTAINERS[key](decoded(body))
    match key:
        case "i":
            return int(body, 16)
        case "d":
            return {decode(key, handle): decode(value, handle) for key, value in body}
        case "b":
            return bytearray.fromhex(body) if data.get("m") else bytes.fromhex(body)
        case "c":
            return complex(*map(float, body))
        case "r":
            return range(*decoded(body))
        case "q":
            return Fraction(*decoded(body))
        case "D":
            return Decimal(body)
        case "h":
            return handle(body)
        case _:
            raise ValueError(f"{key!r} names no kind of value")
