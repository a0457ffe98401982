"""The page at /: its files, and the routes that tell it of the run. docs/serving.md shows it."""
# pyright: reportUnusedFunction=false

from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from neuromas.serve.faults import Fault, Responses
from neuromas.serve.page_schema import GradeView, MetricLines, RunView, Samples
from neuromas.serve.record import Record

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FRESH = {"Cache-Control": "no-cache"}
_DRAWN = {"gradient_norm", "entropy", "length"}  # metrics of nodes that the page draws
_LINE = {"step": True, "reward": True, "accuracy": True, "validation": True, "nodes": {"__all__": _DRAWN}}
After = Annotated[int, Query(description="Only what came after this step.")]


def page_routes(record: Record, faults: Responses) -> APIRouter:
    """faults: the other possible responses of any route, for the schema."""
    site = APIRouter()
    contents = {f.name: f.read_bytes() for f in files("neuromas.serve").joinpath("page").iterdir() if _type(f.name)}

    @site.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in contents:
            raise Fault(404, f"the page has no file {name!r}", "unknown_url")
        return Response(contents[name], media_type=_type(name), headers=_FRESH)

    @site.get("/", include_in_schema=False)
    async def page() -> Response:
        return await file("index.html")

    since = faults | {400: {"description": "`after` is no number.", "model": faults[404]["model"]}}

    @site.get("/run", responses=faults, response_model=RunView)
    def run() -> Response:
        """The run that is served: topology, progress, growth, what nodes are worth, test figures, its comparison."""
        return _json(record.run())

    @site.get("/run/metrics", responses=since, response_model=MetricLines)
    def metrics(after: After = -1) -> Response:
        """The metrics that the curves show."""
        return _json(record.lines(after), {"lines": {"__all__": _LINE}})

    @site.get("/run/samples", responses=since, response_model=Samples)
    def samples(after: After = -1) -> Response:
        """The messages that nodes sent while they were trained."""
        return _json(record.samples(after))

    ungraded = {"description": "The answer cannot be graded; the message says why.", "model": faults[404]["model"]}

    @site.get("/run/grade", responses=faults | {400: ungraded}, response_model=GradeView)
    def grade(example: Annotated[int, Query(ge=0)], answer: str) -> Response:
        """The verdict of the run's task on an answer to one of the examples of /run, counted from 0."""
        try:
            return _json(record.grade(example, answer))
        except IndexError:
            raise Fault(404, f"the run has no example {example}", "unknown_url") from None

    return site


def _type(name: str) -> str | None:
    """The media type of a file of the page, None for others."""
    return _TYPES.get(name.rpartition(".")[2])


def _json(model: BaseModel, include: Any = None) -> Response:
    """The model as it is: FastAPI would validate everything a second time."""
    return Response(model.model_dump_json(include=include), media_type="application/json", headers=_FRESH)
