"""`neuromas serve`: a run as a server that speaks OpenAI's API."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from neuromas.cli.options import SystemOptions
from neuromas.markup import say
from neuromas.serve.config import ServeConfig, require_packages

if TYPE_CHECKING:
    from neuromas.cli.systems import Loaded
    from neuromas.serve.responder import Responder

# The number of kernels that oneDNN, and torch on top of it, cache by batch shape. Their default of 1024 takes hundreds
# of megabytes, since every batch has another shape; one pass needs few.
_KERNELS = "32"


def main(
    system: Annotated[str, tyro.conf.Positional],
    source: SystemOptions,
    config: Annotated[ServeConfig, tyro.conf.arg(name="")],
) -> None:
    """Serve a system: OpenAI's API under /v1, and a page at / that shows it think.

    Args:
        system: A run folder, an export on the hub (OWNER/NAME), or a baseline (see `neuromas baselines`).
        source: Options of the system.
        config: Options of the server.
    """
    require_packages()
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # read when torch first multiplies
        os.environ.setdefault(cache, _KERNELS)
    from neuromas.baselines import BASELINES
    from neuromas.cli.systems import load_system
    from neuromas.run.checkpoint import chosen, step_of
    from neuromas.run.export import found
    from neuromas.serve.app import create_app
    from neuromas.serve.record import Record
    from neuromas.serve.server import announce, listen, run

    bound = listen(config)
    loaded = load_system(system, source)
    responder = _responder(loaded, system)
    model = config.name or (Path(system).resolve() if Path(system).exists() else Path(system)).name
    folder = None if system in BASELINES else found(system)
    weights = folder and chosen(folder, source.checkpoint)
    record = Record(
        model,
        folder if weights else None,
        model,
        responder.topology,
        loaded.task,
        step_of(weights) if weights else None,
    )
    created = int(weights.stat().st_mtime) if weights else 0
    app = create_app(responder, model, created, record, config)
    announce(bound, f"{model}: {{0}}/ (page), {{0}}/v1 (OpenAI's API)", config)
    run(app, bound, config)
    say(app.state.metrics.summary())


def _responder(loaded: "Loaded", system: str) -> "Responder":
    """The system as the server asks it, with the wording of `neuromas ask`."""
    from neuromas.errors import ConfigError
    from neuromas.network.backbone import Backbone
    from neuromas.serve.responder import responder_of

    if system == "logit":
        raise ConfigError("logit scores a task's options and writes nothing; serve `direct` or a run folder")
    if not isinstance(loaded.backbone, Backbone):
        raise ConfigError(
            f"the backbone of {loaded.system.name} is an endpoint, whose context window and tokens a server here does "
            "not know; ask it with `neuromas ask`, or ask the endpoint itself"
        )
    return responder_of(loaded.system, loaded.backbone, loaded.asked(""))
