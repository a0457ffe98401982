"""The page at /: its files, and what it is told of the run. docs/serving.md shows it."""

from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from neuromas.serve import facts
from neuromas.serve.faults import Fault
from neuromas.serve.record import Record

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FRESH = {"Cache-Control": "no-cache"}
After = Annotated[int, Query(description="Only what came after this step.")]


def page_routes(record: Record, faults: dict[int | str, dict[str, Any]]) -> APIRouter:
    """faults: what any route may answer besides, for the schema."""
    site = APIRouter()
    found = {f.name: f.read_bytes() for f in files("neuromas.serve").joinpath("page").iterdir() if _kind(f.name)}

    def file(name: str) -> Response:
        if name not in found:
            raise Fault(404, f"the page has no file {name!r}", "unknown_url")
        return Response(found[name], media_type=_TYPES[_kind(name)], headers=_FRESH)

    @site.get("/", include_in_schema=False)
    async def page() -> Response:  # pyright: ignore[reportUnusedFunction]
        return file("index.html")

    @site.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return file(name)

    asked = faults | {400: {"description": "`after` is no number.", "model": faults[404]["model"]}}

    @site.get("/run", responses=faults, response_model=facts.Run)
    def run() -> Response:  # pyright: ignore[reportUnusedFunction]
        """The run that is served: topology, progress, growth, what nodes are worth, test figures, its comparison."""
        return _told(record.run())

    @site.get("/run/metrics", responses=asked, response_model=facts.Lines)
    def metrics(after: After = -1) -> Response:  # pyright: ignore[reportUnusedFunction]
        """What the curves show."""
        return _told(record.lines(after))

    @site.get("/run/samples", responses=asked, response_model=facts.Samples)
    def samples(after: After = -1) -> Response:  # pyright: ignore[reportUnusedFunction]
        """What nodes said while they were trained."""
        return _told(record.samples(after))

    return site


def _kind(name: str) -> str:
    """The ending of a file of the page, "" for others."""
    ending = name.rpartition(".")[2]
    return ending if ending in _TYPES else ""


def _told(model: BaseModel) -> Response:
    """Not through FastAPI, which would validate everything a second time."""
    return Response(model.model_dump_json(), media_type="application/json", headers=_FRESH)
