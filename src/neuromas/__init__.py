"""A neural network whose neurons are language-model agents; NeuroMAS, arXiv 2605.16757.

The names below are imported when they are first used, so that `import neuromas` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuromas.config import RunConfig
    from neuromas.network.backbone import Backbone
    from neuromas.network.forward import Network
    from neuromas.network.topology import Topology
    from neuromas.run.build import load_run
    from neuromas.tasks import load_task

_WHERE = {
    "Backbone": "neuromas.network.backbone",
    "Network": "neuromas.network.forward",
    "RunConfig": "neuromas.config",
    "Topology": "neuromas.network.topology",
    "load_run": "neuromas.run.build",
    "load_task": "neuromas.tasks",
}

__all__ = ["Backbone", "Network", "RunConfig", "Topology", "load_run", "load_task"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'neuromas' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)
