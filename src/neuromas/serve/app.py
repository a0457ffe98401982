"""The server's routes: OpenAI's chat and completions, models, health, metrics, and the page."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from neuromas.serve import schema
from neuromas.serve.batcher import Batcher, Room
from neuromas.serve.engine import Engine
from neuromas.serve.exchange import open_exchange
from neuromas.serve.faults import Fault, of_validation
from neuromas.serve.guard import Guard, Rules
from neuromas.serve.metrics import Metrics
from neuromas.serve.record import Record
from neuromas.serve.render import Kind
from neuromas.serve.site import page_routes

log = logging.getLogger("neuromas.serve")
_STREAM = "Server-sent events: chunks of the answer, then [DONE]."
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}


@dataclass(frozen=True)
class Limits:
    """What the server lets anyone have."""

    body_bytes: int = 1 << 20
    seconds: float = 120.0  # from a request to the end of its answer
    room: Room = field(default_factory=Room)


def create_app(
    engine: Engine,
    model: str,
    created: int,
    *,
    record: Record | None = None,
    key: str | None = None,
    local: bool = True,
    limits: Limits | None = None,
) -> FastAPI:
    """The server of one system. model: its id. created: Unix time of its weights. local: see `guard.Rules`.

    record: what the page tells of it.
    """
    limits, metrics = limits or Limits(), Metrics()
    batcher = Batcher(engine, limits.room, metrics)
    engine.backbone.template.cached_tokens = 100_000

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.close()

    app = FastAPI(
        title="neuromas", version="1", docs_url=None, redoc_url=None, lifespan=life,
        description="A network of language-model nodes behind OpenAI's API. How: docs/serving.md.",
    )  # fmt: skip
    app.state.batcher, app.state.metrics = batcher, metrics
    app.include_router(_api(engine, batcher, metrics, model, created, limits))
    told = record or Record(model, None, model, engine.network and engine.network.topology)
    return _finished(app, told, metrics, Rules(key, local, limits.body_bytes))


def watch_app(record: Record, *, key: str | None = None, local: bool = True) -> FastAPI:
    """The page alone, of a run that nobody can ask."""
    app = FastAPI(title="neuromas", version="1", docs_url=None, redoc_url=None)
    return _finished(app, record, Metrics(), Rules(key, local, 1 << 20))


def _finished(app: FastAPI, record: Record, metrics: Metrics, rules: Rules) -> FastAPI:
    """With the page, faults in the API's shape, a true schema, and the guard."""
    app.include_router(page_routes(record, _FAULTS))
    answer_faults(app)
    _tell_truth(app, record.model, rules.key is not None)
    app.add_middleware(Guard, rules=rules, metrics=metrics)
    return app


def _api(
    engine: Engine, batcher: Batcher, metrics: Metrics, model: str, created: int, limits: Limits
) -> APIRouter:  # fmt: skip
    api = APIRouter()

    async def answer(kind: Kind, body: schema.ChatRequest | schema.CompletionRequest, request: Request) -> Response:
        if body.model != model:
            message = f"model {body.model!r} does not exist; this server has {model!r}"
            raise Fault(404, message, "model_not_found", "model")
        exchange = open_exchange(kind, body, engine, batcher, model, limits.seconds)
        if not body.stream:
            return JSONResponse(await exchange.whole(request))
        first = await exchange.next()
        return StreamingResponse(
            exchange.stream(first), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @api.post("/v1/chat/completions", responses=_asked(schema.ChatCompletion), response_model=None)
    async def chat(body: schema.ChatRequest, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Answer a conversation."""
        return await answer("chat", body, request)

    @api.post("/v1/completions", responses=_asked(schema.Completion), response_model=None)
    async def complete(body: schema.CompletionRequest, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Answer each prompt as a question."""
        return await answer("completion", body, request)

    me = {"id": model, "object": "model", "created": created, "owned_by": "neuromas"}

    @api.get("/v1/models", responses=_FAULTS, response_model=schema.ModelList)
    async def models() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """The one model there is."""
        return {"object": "list", "data": [me]}

    @api.get("/v1/models/{id}", responses=_FAULTS, response_model=schema.Model)
    async def one_model(id: str) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """What is known of a model."""
        if id != model:
            raise Fault(404, f"model {id!r} does not exist; this server has {model!r}", "model_not_found", "model")
        return me

    @api.get("/healthz", responses=_FAULTS, response_model=schema.Health)
    async def health() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        """Whether it is there and takes questions."""
        if batcher.closing:
            raise Fault(503, "the server is shutting down", "shutting_down", retry_after=5)
        return {"status": "ok", "model": model}

    @api.get("/metrics", responses=_FAULTS | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def prometheus() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Figures for Prometheus; docs/serving.md explains each."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return api


def answer_faults(app: FastAPI) -> None:
    """Every answer other than 200 has the API's error shape."""

    async def on_fault(_: Request, error: Any) -> Response:
        return JSONResponse(error.body(), error.status, error.headers())

    async def on_validation(_: Request, error: Any) -> Response:
        fault = of_validation(list(error.errors()))
        return JSONResponse(fault.body(), fault.status)

    async def on_http(request: Request, error: Any) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}; /openapi.json lists what there is"
        codes = {404: "unknown_url", 405: "method_not_allowed", 413: "body_too_large"}
        fault = Fault(error.status_code, message, codes.get(error.status_code, "bad_request"))
        return JSONResponse(fault.body(), fault.status, error.headers)

    async def on_bug(_: Request, error: Any) -> Response:
        log.error("a request failed", exc_info=error)
        return JSONResponse(Fault(500, "the server failed; its log says why", "internal").body(), 500)

    app.add_exception_handler(Fault, on_fault)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)


def _fault(text: str, *headers: str) -> dict[str, Any]:
    named = {name: {"schema": {"type": "string"}} for name in headers}
    return {"description": text, "model": schema.ErrorBody, **({"headers": named} if named else {})}


_FAULTS: dict[int | str, dict[str, Any]] = {
    401: _fault("The key is missing or wrong.", "WWW-Authenticate"),
    403: _fault("Asked under a name that is not this machine's."),
    404: _fault("There is no such model."),
    405: _fault("Not with this method.", "Allow"),
    503: _fault("Shutting down, or the time limit is over.", "Retry-After"),
}


def _asked(answer: type[schema.Completed]) -> dict[int | str, dict[str, Any]]:
    """What a route that asks the network may answer."""
    return _FAULTS | {
        200: {
            "description": "The answer; with stream, " + _STREAM,
            "model": answer,
            "content": {"text/event-stream": {"itemSchema": _EVENT}},
        },
        400: _fault("The request is wrong; the message says where, and what to do."),
        413: _fault("The body is too large."),
        429: _fault("The queue is full.", "Retry-After"),
    }


def _tell_truth(app: FastAPI, model: str | None, locked: bool) -> None:
    """Make /openapi.json say what this server takes: its model, no 422, and the key where one is needed."""
    made = FastAPI.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            spec = made(app)
            for path in spec["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            parts = spec["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                parts.pop(name, None)
            for name in ("ChatRequest", "CompletionRequest") if model is not None else ():
                parts[name]["properties"]["model"] |= {"enum": [model]}
            if locked:
                spec["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                for path, operations in spec["paths"].items():
                    for operation in operations.values():
                        operation["security"] = [] if path == "/healthz" else [{"key": []}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi
