"""`neuromas serve`: a run as a server that speaks OpenAI's API."""

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro

# Kernels that oneDNN, and torch on top of it, keep for shapes of batches seen before. Their own 1024 are hundreds of
# megabytes, which fill up since every batch has another shape; one pass needs few.
_KERNELS = "32"


def main(
    system: Annotated[str, tyro.conf.Positional],
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    api_key: str | None = None,
    checkpoint: Literal["best", "last"] = "best",
    recipe: Path | None = None,
    backbone: str | None = None,
    options: tuple[str, ...] = (),
    state: Path | None = None,
    queue: int = 256,
    batch_rows: int | None = None,
    seconds: float = 120.0,
    body_bytes: int = 1 << 20,
    threads: int | None = None,
) -> None:
    """Serve a system: OpenAI's API under /v1, and a page at / that shows it think.

    Args:
        system: A run folder, or a baseline (see `neuromas baselines`).
        host: Where to listen; other than a loopback address only with a key.
        port: 0 takes any that is free.
        name: The model's id; by default the run folder's name.
        api_key: What clients must send as bearer token. Better in NEUROMAS_API_KEY, which others cannot see.
        checkpoint: Which state of the run: best on validation, or last.
        recipe: Where a baseline takes task, backbone and sampling from.
        backbone: The model of a baseline.
        options: A baseline's own, as name=value.
        state: What a fitted baseline learned, as `neuromas eval --state` wrote it.
        queue: Questions that may wait; more are refused with 429.
        batch_rows: Rows of one batch, about; by default the run's own.
        seconds: Most time from a request to the end of its answer.
        body_bytes: Largest body of a request.
        threads: CPU threads; by default all cores.
    """
    from neuromas.cli.serving import check_address, engine_of, need_server, record_of, show_address

    need_server()
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # read when torch first multiplies
        os.environ.setdefault(cache, _KERNELS)
    key = api_key or os.environ.get("NEUROMAS_API_KEY") or None
    check_address(host, key)
    from neuromas.baselines import BASELINES
    from neuromas.cli.systems import load_system
    from neuromas.run.checkpoint import chosen
    from neuromas.serve.app import Limits, create_app
    from neuromas.serve.batcher import Room
    from neuromas.serve.server import listen, run

    bound = listen(host, port)
    loaded = load_system(system, None, recipe, backbone, checkpoint, threads, options, state)
    engine = engine_of(loaded, system, recipe)
    rows = batch_rows or (engine.network.limits.batch_rows if engine.network else Room().rows)
    limits = Limits(body_bytes, seconds, Room(queue, rows))
    model = name or Path(system).resolve().name
    weights = None if system in BASELINES else chosen(Path(system), checkpoint)
    record = record_of(loaded, system, model, engine, weights)
    created = int(weights.stat().st_mtime) if weights else 0
    app = create_app(engine, model, created, record=record, key=key, local=key is None, limits=limits)
    show_address(bound, model, key)
    run(app, bound)
    print(app.state.metrics.farewell(), flush=True)
