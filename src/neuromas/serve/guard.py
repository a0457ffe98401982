"""What stands before every route: who may ask, from where, and how much; and headers that keep browsers safe.

Plain ASGI, so that a stream passes through unbuffered.
"""

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from neuromas.serve.faults import Fault
from neuromas.serve.metrics import Metrics

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

OPEN = ("/", "/healthz", "/openapi.json", "/page/")  # need no key: nothing of the run is told
COUNTED = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/healthz", "/metrics", "/", "/run")  # or "other"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOO_LARGE = "the body is larger than {} bytes, which is the limit here; send less"
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Rules:
    """key: the bearer token, None for none. local: only names of this machine are answered to, so that no web page
    can reach the server under a name of its own (DNS rebinding)."""

    key: str | None
    local: bool
    body_bytes: int


class Guard:
    """ASGI middleware; faults that are raised here are answered here."""

    def __init__(self, app: Any, rules: Rules, metrics: Metrics) -> None:
        self.app, self.rules, self.metrics = app, rules, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = message | {"headers": [*message.get("headers", []), *more]}
            await send(message)

        try:
            self._admit(scope)
            body = _Body(receive, self.rules.body_bytes)
            await self.app(scope, body, sending)
        except Fault as fault:
            await _answer(fault, sending)
        finally:
            path = scope["path"] if scope["path"] in COUNTED else "other"
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.latency.labels(path).observe(time.perf_counter() - start)

    def _admit(self, scope: Scope) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.rules.local and not _is_loopback(headers.get("host", "")):
            message = "this server answers to localhost only; start it with a key to use other names"
            raise Fault(403, message, "host_not_allowed")
        if self.rules.key is not None and not _is_open(scope["path"]):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(token.strip().encode("latin-1"), self.rules.key.encode())
            if scheme.lower() != "bearer" or not right:
                raise Fault(401, "the key is missing or wrong; send Authorization: Bearer KEY", "invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.rules.body_bytes:
            raise Fault(413, _TOO_LARGE.format(self.rules.body_bytes), "body_too_large")


class _Body:
    """The request's body, which ends in a fault where it grows too large."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive, self.limit, self.seen = receive, limit, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        if self.seen > self.limit:
            raise HTTPException(
                413, _TOO_LARGE.format(self.limit)
            )  # FastAPI, which reads the body, lets only these out
        return message


def _is_open(path: str) -> bool:
    return any(path == name or (name == "/page/" and path.startswith(name)) for name in OPEN)


def _is_loopback(host: str) -> bool:
    name = host[: host.find("]") + 1].strip("[]") if host.startswith("[") else host.partition(":")[0]
    return name.lower() in LOOPBACK


async def _answer(fault: Fault, send: Send) -> None:
    body = json.dumps(fault.body(), ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))} | fault.headers()
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
