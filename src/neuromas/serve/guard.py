"""The middleware before every route: who may ask, from where, and how much; and headers that keep browsers safe.

Plain ASGI, so that a stream passes through unbuffered.
"""

import hmac
import re
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuromas.serve.config import LOOPBACK
from neuromas.serve.faults import Fault
from neuromas.serve.metrics import Metrics

OPEN = ("/", "/healthz", "/openapi.json")  # these paths and /page/ need no key: they tell nothing of the run
# These paths are counted by name, the rest as "other".
COUNTED = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/healthz", "/metrics", "/", "/run")
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """ASGI middleware; faults that are raised here are answered here.

    key: the bearer token. None: no token is needed, and only names of this machine are answered to, so that no web
    page can reach the server under a name of its own (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, key: str | None, body_bytes: int, metrics: Metrics) -> None:
        self.app, self.key, self.body_bytes, self.metrics = app, key, body_bytes, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if scope["method"] == "HEAD":  # answered like GET; the connection leaves the body out
            scope = {**scope, "method": "GET"}
        start, status, received = time.perf_counter(), 0, 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        async def receiving() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.body_bytes:  # FastAPI, which reads the body, lets only HTTPException pass
                raise HTTPException(413, self._too_large)
            return message

        try:
            self._admit(scope)
            await self.app(scope, receiving, sending)
        except Fault as fault:
            await fault.response()(scope, receive, sending)
        finally:
            path = scope["path"] if scope["path"] in COUNTED else "other"
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.latency.labels(path).observe(time.perf_counter() - start)

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self.body_bytes} bytes, which is the limit here; send less"

    def _admit(self, scope: Scope) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.key is None and not _is_loopback(headers.get("host", "")):
            message = "this server answers to localhost only; start it with a key to use other names"
            raise Fault(403, message, "host_not_allowed")
        if self.key is not None and scope["path"] not in OPEN and not scope["path"].startswith("/page/"):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(token.strip().encode("latin-1"), self.key.encode())
            if scheme.lower() != "bearer" or not right:
                raise Fault(401, "the key is missing or wrong; send Authorization: Bearer KEY", "invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.body_bytes:
            raise Fault(413, self._too_large, "body_too_large")


def _is_loopback(host: str) -> bool:
    named = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host.lower())
    return named is not None and named[1].strip("[]") in LOOPBACK
