"""What a client is told when its request cannot be served, in the shape of OpenAI's API."""

from dataclasses import dataclass
from typing import Any

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}  # others: see `Fault.body`


@dataclass
class Fault(Exception):
    """An answer other than 200. Its message says what is wrong and what to do."""

    status: int
    message: str
    code: str
    param: str | None = None  # the field of the request that is wrong
    retry_after: int | None = None  # seconds

    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        said = {"message": _encodable(self.message), "param": None if self.param is None else _encodable(self.param)}
        return {"error": {**said, "type": kind, "code": self.code}}

    def headers(self) -> dict[str, str]:
        named = {"Retry-After": None if self.retry_after is None else str(self.retry_after)}
        named["WWW-Authenticate"] = "Bearer" if self.status == 401 else None
        return {name: value for name, value in named.items() if value is not None}


def _encodable(text: str) -> str:
    """Halves of surrogate pairs, which JSON can name and UTF-8 cannot hold, spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def bad_request(message: str, code: str = "invalid_value", param: str | None = None) -> Fault:
    return Fault(400, message, code, param)


def of_validation(errors: list[Any]) -> Fault:
    """The first of pydantic's complaints as a fault; a field that does not exist is named first."""
    first = min(errors, key=lambda item: item["type"] != "extra_forbidden")
    param = ".".join(str(part) for part in first["loc"] if part != "body") or None
    if first["type"] == "extra_forbidden":
        message = f"this server does not support {param!r}; leave it out (/openapi.json lists what it supports)"
        return bad_request(message, "unsupported_parameter", param)
    if first["type"] == "json_invalid":
        return bad_request(f"the body is not valid JSON ({first['ctx']['error']}); send a JSON object", "invalid_json")
    if first["type"] == "missing":
        return bad_request(f"{param or 'the JSON body'} is missing; add it", "missing_required_parameter", param)
    return bad_request(f"{param or 'the body'}: {first['msg'].removeprefix('Value error, ')}", "invalid_value", param)
