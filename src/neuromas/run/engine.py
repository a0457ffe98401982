"""The engine that samples a run's rollouts, where it is another than this library's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from neuromas.network.forward import Network
from neuromas.network.vllm.engine import VllmEngine, VllmSettings
from neuromas.run.session import Session


@contextmanager
def engaged(session: Session) -> Iterator[None]:
    """The run's network samples by the engine of its settings; afterwards by this library itself again.

    The engine has room for every stage of the run, and goes along when the network grows.
    """
    config, network = session.config, session.network
    if config.sampling.engine == "built-in":
        yield
        return
    assert isinstance(network, Network)
    shapes = [stage.topology for stage in session.stages]
    settings = VllmSettings(
        adapters=1 if config.adapter.tied else max(len(shape.nodes) for shape in shapes),
        at_once=1 if config.adapter.tied else max(len(layer) for shape in shapes for layer in shape.layers),
        rank=config.adapter.rank,
        rows=config.sampling.batch_rows,
        **config.vllm.model_dump(),
    )
    engine = network.engine = VllmEngine(network.backbone, settings)
    try:
        yield
    finally:
        if isinstance(session.network, Network):  # perhaps a larger one by now
            session.network.engine = None
        engine.close()
