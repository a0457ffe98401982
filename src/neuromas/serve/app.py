"""The server's routes: OpenAI's chat, completions and responses, models, health, metrics, and the page."""
# pyright: reportUnusedFunction=false

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from neuromas.errors import NeuromasError
from neuromas.serve import schema
from neuromas.serve.batcher import Batcher
from neuromas.serve.config import BODY_BYTES, ListenConfig, ServeConfig
from neuromas.serve.faults import Fault, Responses, of_error, of_validation
from neuromas.serve.guard import Guard
from neuromas.serve.metrics import Metrics
from neuromas.serve.record import Record
from neuromas.serve.request import Asking, submit
from neuromas.serve.responder import Responder
from neuromas.serve.responses_schema import ResponseBody, ResponsesRequest
from neuromas.serve.site import page_routes

log = logging.getLogger("neuromas.serve")
_STREAM = "Server-sent events: chunks of the answer, then [DONE]."
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}


def create_app(
    responder: Responder, model: str, created: int, record: Record | None = None, config: ServeConfig | None = None
) -> FastAPI:  # fmt: skip
    """The server of one system. model: its id. created: Unix time of its weights. record: what the page shows."""
    config, metrics = config or ServeConfig(), Metrics()
    batcher = Batcher(responder, config.queue, config.batch_rows or responder.batch_rows, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.close()

    app = FastAPI(
        title="neuromas", version="1", docs_url=None, redoc_url=None, lifespan=lifespan,
        description="A network of language-model nodes behind OpenAI's API.",
    )  # fmt: skip
    app.state.metrics = metrics
    app.include_router(_api(batcher, model, created, config.seconds))
    record = record or Record(model, None, model, responder.topology)
    return _finished(app, record, metrics, config.key, config.body_bytes)


def watch_app(record: Record, config: ListenConfig | None = None) -> FastAPI:
    """The page alone, of a run that nobody can ask."""
    app = FastAPI(title="neuromas", version="1", docs_url=None, redoc_url=None)
    return _finished(app, record, Metrics(), (config or ListenConfig()).key, BODY_BYTES)


def _finished(app: FastAPI, record: Record, metrics: Metrics, key: str | None, body_bytes: int) -> FastAPI:
    """Adds the page, faults in the API's form, an exact schema, and the guard."""
    app.include_router(page_routes(record, _FAULTS))
    _answer_faults(app)
    _refine_schema(app, record.model, key is not None)
    app.add_middleware(Guard, key=key, body_bytes=body_bytes, metrics=metrics)
    return app


def _api(batcher: Batcher, model: str, created: int, seconds: float) -> APIRouter:
    api = APIRouter()

    async def answer(body: Asking, client: Request) -> Response:
        check_model(body.model)
        pending = submit(body, batcher, model, seconds)
        if not body.stream:
            return JSONResponse(await pending.whole(client))
        events = pending.stream(await pending.next())
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    def check_model(id: str) -> None:
        if id != model:
            raise Fault(
                404, f"model {id[:100]!r} does not exist; this server has {model!r}", "model_not_found", "model"
            )

    json = [Depends(_check_type)]

    @api.post("/v1/chat/completions", responses=_asked(schema.ChatCompletion), response_model=None, dependencies=json)
    async def chat(body: schema.ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        return await answer(body, request)

    @api.post("/v1/completions", responses=_asked(schema.TextCompletion), response_model=None, dependencies=json)
    async def complete(body: schema.CompletionRequest, request: Request) -> Response:
        """Answer each prompt as a question."""
        return await answer(body, request)

    @api.post("/v1/responses", responses=_asked(ResponseBody), response_model=None, dependencies=json)
    async def respond(body: ResponsesRequest, request: Request) -> Response:
        """Answer a text, or a conversation, as a response."""
        return await answer(body, request)

    card = schema.ModelCard(id=model, object="model", created=created, owned_by="neuromas")

    @api.get("/v1/models", responses=_FAULTS)
    async def models() -> schema.ModelList:
        """The only model."""
        return schema.ModelList(object="list", data=[card])

    @api.get("/v1/models/{id}", responses=_FAULTS)
    async def one_model(id: str) -> schema.ModelCard:
        """The model's id and date."""
        check_model(id)
        return card

    @api.get("/healthz", responses=_FAULTS)
    async def health() -> schema.Health:
        """200 while the server takes questions."""
        if batcher.closing:
            raise Fault(503, "the server is shutting down", "shutting_down", retry_after=5)
        return schema.Health(status="ok", model=model)

    @api.get("/metrics", responses=_FAULTS | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def prometheus() -> Response:
        """Figures for Prometheus; docs/serving.md explains each."""
        return Response(batcher.metrics.text(), media_type="text/plain; version=0.0.4")

    return api


def _check_type(request: Request) -> None:
    """Refuse what web pages of others can send (another type, or none), whatever this FastAPI makes of it."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind.strip().lower() != "application/json":
        raise Fault(400, "the body is no JSON; send Content-Type: application/json", "invalid_content_type")


def _answer_faults(app: FastAPI) -> None:
    """Give every answer other than 200 the API's error form."""

    @app.exception_handler(Fault)
    async def on_fault(_: Request, fault: Fault) -> Response:
        return fault.response()

    @app.exception_handler(RequestValidationError)
    async def on_validation(_: Request, error: RequestValidationError) -> Response:
        return of_validation(list(error.errors())).response()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}; /openapi.json lists what there is"
        codes = {404: "unknown_url", 405: "method_not_allowed", 413: "body_too_large"}
        return Fault(error.status_code, message, codes.get(error.status_code, "bad_request")).response(error.headers)

    @app.exception_handler(NeuromasError)
    async def on_error(_: Request, error: NeuromasError) -> Response:
        log.warning("a request failed: %s", error)
        return of_error(error).response()

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return Fault(500, "the server failed; its log says why", "internal").response()


def _fault(text: str, *headers: str) -> dict[str, Any]:
    named = {"headers": {name: {"schema": {"type": "string"}} for name in headers}} if headers else {}
    return {"description": text, "model": schema.ErrorBody, **named}


_FAULTS: Responses = {
    401: _fault("The key is missing or wrong.", "WWW-Authenticate"),
    403: _fault("Asked under a name that is not this machine's."),
    404: _fault("There is no such model."),
    405: _fault("Not with this method.", "Allow"),
    503: _fault("Shutting down, or the time limit is over.", "Retry-After"),
}


def _asked(answer: type[BaseModel]) -> Responses:
    """The possible responses of a route that asks the network."""
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


def _refine_schema(app: FastAPI, model: str | None, locked: bool) -> None:
    """Make /openapi.json say exactly what this server takes: its model, no 422, and the key where one is needed."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            spec = FastAPI.openapi(app)
            for path in spec["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            parts = spec["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                parts.pop(name, None)
            for name in ("ChatRequest", "CompletionRequest", "ResponsesRequest") if model is not None else ():
                parts[name]["properties"]["model"] |= {"enum": [model]}
            if locked:
                spec["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                for path, operations in spec["paths"].items():
                    for operation in operations.values():
                        operation["security"] = [] if path == "/healthz" else [{"key": []}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi
