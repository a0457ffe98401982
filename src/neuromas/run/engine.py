"""The engine that samples a run's rollouts, where it is another than this library's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from neuromas.config import RunConfig
from neuromas.network.forward import Network
from neuromas.network.generate import Engine
from neuromas.network.vllm.engine import VllmEngine, VllmSettings
from neuromas.run.checkpoint import Trained
from neuromas.run.stages import stages_of


class Running(Protocol):
    """A run, whose network may be another one later, when it grows; that takes the engine along."""

    config: RunConfig
    network: Trained


@contextmanager
def engaged(run: Running) -> Iterator[None]:
    """The run's network samples by the engine of its settings; afterwards by this library itself again."""
    if run.config.sampling.engine == "built-in":
        yield
        return
    assert isinstance(run.network, Network)
    engine = run.network.engine = open_engine(run.config, run.network)
    try:
        yield
    finally:
        run.network.engine = None
        engine.close()


def open_engine(config: RunConfig, network: Network) -> Engine:
    """Open the engine that `sampling.engine` names, with room for every stage of the run."""
    shapes = [stage.topology for stage in stages_of(config)]
    settings = VllmSettings(
        adapters=1 if config.adapter.tied else max(len(shape.nodes) for shape in shapes),
        at_once=1 if config.adapter.tied else max(len(layer) for shape in shapes for layer in shape.layers),
        rank=config.adapter.rank,
        rows=config.sampling.batch_rows,
        **config.vllm.model_dump(),
    )
    return VllmEngine(network.backbone, settings)
