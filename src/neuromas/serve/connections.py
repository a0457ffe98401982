"""The bounds of connections: how many there are, and how long each may keep the server waiting.

Heads, bodies, and answers that a client does not read, have time limits; answering has `ServeConfig.seconds`.
"""

import logging
import time
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server

HEAD, BODY, ANSWER, GOODBYE = "head", "body", "answer", "goodbye"  # what a connection waits for its client to do
SECONDS = {HEAD: 30.0, BODY: 30.0, ANSWER: 30.0, GOODBYE: 10.0}  # send or read, before the connection is cut
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_AT_ONCE = 32  # connections accepted between two looks at how many there are
_OTHER_FILES = 64  # descriptors that are not connections

try:
    import resource
except ImportError:  # not on Windows
    resource = None


class Connection(H11Protocol):
    """A connection that is cut when its client keeps it waiting for too long."""

    most = 1  # connections at a time

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._resumed = 0  # how often the client has gone on reading
        self._state: tuple[object, ...] = ()
        self._since = self.loop.time()
        if len(self.connections) > self.most and not self._make_room():
            transport.write(FULL)
            transport.close()
        self._look()

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    def shutdown(self) -> None:
        """Called when the server ends: a request that is not whole yet was not accepted."""
        if self.waits_for == BODY:
            self.transport.abort()
        else:
            super().shutdown()

    @property
    def waits_for(self) -> str | None:
        """The thing that the client has to do next; None while it is the server's turn."""
        if self.transport.is_closing():
            return GOODBYE
        if self.flow.write_paused:
            return ANSWER
        if self.cycle is None or self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            return HEAD
        return BODY if self.cycle.more_body else None

    def _look(self) -> None:
        """Once a second: cut the connection where nothing has moved for too long."""
        if self not in self.connections:
            return
        state = (self.waits_for, self.cycle, self._resumed)
        if state != self._state:
            self._state, self._since = state, self.loop.time()
        if state[0] is not None and self.loop.time() - self._since > SECONDS[str(state[0])]:
            self.transport.abort()
        else:
            self.loop.call_later(1.0, self._look)

    def _make_room(self) -> bool:
        """Cut the connection that has waited longest for a request, if there is one."""
        waiting = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        oldest = min((other for other in waiting if other.waits_for == HEAD), key=lambda c: c._since, default=None)
        if oldest is not None:
            oldest.transport.abort()
            self.connections.discard(oldest)
        return oldest is not None


class BoundedServer(Server):
    """A server that never has more connections than files it may open."""

    def __init__(self, app: Any, connections: int, seconds: float) -> None:
        """seconds: the most time that an answer takes; the shutdown takes little more."""
        Connection.most = _fitting(connections)
        config = Config(
            app,
            http=Connection,
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=30,
            backlog=_AT_ONCE,
            timeout_graceful_shutdown=round(seconds + SECONDS[ANSWER] + SECONDS[GOODBYE]),
        )
        super().__init__(config)
        for name in ("asyncio", "uvicorn.error", "neuromas.serve"):
            logging.getLogger(name).addFilter(_REPETITIONS)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for bound in sockets or ():
            bound.listen(1024)  # connections that wait for the next `_AT_ONCE` are not turned away


class Repetitions(logging.Filter):
    """Lets a line of the log through once a minute, with the number of its like since then."""

    seconds = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}  # time of the last line and what was left out since

    def filter(self, record: logging.LogRecord) -> bool:
        key = (str(record.msg), repr(record.exc_info and record.exc_info[1]))
        last, left_out = self._seen.get(key, (float("-inf"), 0))
        now = time.monotonic()
        if now - last < self.seconds:
            self._seen[key] = last, left_out + 1
            return False
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = now, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more such lines were left out)", None
        return True


_REPETITIONS = Repetitions()


def _fitting(connections: int) -> int:
    """So many connections, or as many as this process may open files for; raises its limit as far as that is needed."""
    if resource is None:
        return connections
    others = _OTHER_FILES + _AT_ONCE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, connections + others)
    soft = max(soft, min(hard, connections + others))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, max(1, soft - others))
