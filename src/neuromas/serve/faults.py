"""Answers to requests that cannot be served, in the form of OpenAI's API."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

from neuromas.errors import NeuromasError, PromptError, TaskError

Responses = dict[int | str, dict[str, Any]]  # possible responses by status, as FastAPI takes them

_BRANCH = re.compile(
    r"str|system|developer|user|assistant|.*[\[-].*"
)  # how pydantic names a branch of a union within a field's path
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass
class Fault(Exception):
    """An answer other than 200. Its message says what is wrong and what to do."""

    status: int
    message: str
    code: str
    param: str | None = None  # the field of the request that is wrong
    retry_after: int | None = None  # seconds

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        param = None if self.param is None else _encodable(self.param)
        return {"error": {"message": _encodable(self.message), "param": param, "type": kind, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The whole answer, with further headers."""
        headers = dict(headers or {})
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def of_error(error: NeuromasError) -> Fault:
    """An error that a person can mend, as an answer: 400 where it is about what was sent, else 503."""
    message = str(error)
    match error:
        case PromptError():
            return Fault(400, message, "context_length_exceeded", "messages")
        case TaskError():
            return Fault(400, message, "not_graded")
        case _:
            return Fault(503, message, "system_failed")


def of_validation(errors: list[Any]) -> Fault:
    """The first of pydantic's complaints as a fault; a field that does not exist is named first."""
    first = min(errors, key=lambda item: item["type"] != "extra_forbidden")
    same = [item for item in errors if item["loc"][:2] == first["loc"][:2]]  # of a union, every branch complains
    first = min([first, *same], key=lambda item: (item["type"] != "extra_forbidden", _beside(item), -len(item["loc"])))
    place = [part for part in first["loc"] if part != "body"]
    param = ".".join(str(p) for i, p in enumerate(place) if not i or not _BRANCH.fullmatch(str(p))) or None
    match first["type"]:
        case "extra_forbidden":
            message = f"this server does not support {param!r}; leave it out (/openapi.json lists what it supports)"
            return Fault(400, message, "unsupported_parameter", param)
        case "json_invalid":
            message = f"the body is not valid JSON ({first['ctx']['error']}); send a JSON object"
            return Fault(400, message, "invalid_json")
        case "string_unicode":
            message = f"{param or 'the body'} holds half of a surrogate pair, which is no character; send valid Unicode"
            return Fault(400, message, "invalid_value", param)
        case "missing":
            return Fault(400, f"{param or 'the JSON body'} is missing; add it", "missing_required_parameter", param)
        case _:
            message = f"{param or 'the body'}: {first['msg'].removeprefix('Value error, ')}"
            return Fault(400, message, "invalid_value", param)


def _beside(item: Any) -> bool:
    """True where a branch of a union complains of a value that is meant for another one."""
    kinds = {"string_type": list, "list_type": str, "none_required": object}
    return isinstance(item.get("input"), kinds.get(item["type"], ()))


def _encodable(text: str) -> str:
    """The text with halves of surrogate pairs, which JSON can name and UTF-8 cannot hold, spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
