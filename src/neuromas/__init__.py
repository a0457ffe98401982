"""A neural network whose neurons are language-model agents; NeuroMAS, arXiv 2605.16757.

    import neuromas as nm

    run = nm.train("recipes/tiny_compositional_2.toml", steps=40, out="runs/first")
    print(run.evaluate("test", limit=200))

The names below are imported when they are first used, so that `import neuromas` is quick.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuromas.api.run import Run, StepTable
    from neuromas.api.verbs import compare, evaluate, load, train
    from neuromas.config import RunConfig
    from neuromas.network.backbone import Backbone
    from neuromas.network.forward import Limits, Network
    from neuromas.network.sampling import Decoding
    from neuromas.network.topology import Topology
    from neuromas.results import Result, StepMetrics
    from neuromas.run.build import load_run
    from neuromas.tasks import load_task, register
    from neuromas.tasks.base import Task
    from neuromas.types import Grade, Question, Trace

_NAMES = {  # by the module that has them
    "neuromas.api.run": ("Run", "StepTable"),
    "neuromas.api.verbs": ("compare", "evaluate", "load", "train"),
    "neuromas.config": ("RunConfig",),
    "neuromas.network.backbone": ("Backbone",),
    "neuromas.network.forward": ("Limits", "Network"),
    "neuromas.network.sampling": ("Decoding",),
    "neuromas.network.topology": ("Topology",),
    "neuromas.results": ("Result", "StepMetrics"),
    "neuromas.run.build": ("load_run",),
    "neuromas.tasks": ("load_task", "register"),
    "neuromas.tasks.base": ("Task",),
    "neuromas.types": ("Grade", "Question", "Trace"),
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Backbone",
    "Decoding",
    "Grade",
    "Limits",
    "Network",
    "Question",
    "Result",
    "Run",
    "RunConfig",
    "StepMetrics",
    "StepTable",
    "Task",
    "Topology",
    "Trace",
    "compare",
    "evaluate",
    "load",
    "load_run",
    "load_task",
    "register",
    "train",
]


_ROOMS = {"train", "evaluate", "compare"}  # packages whose name is a verb too


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"neuromas.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'neuromas' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__


class _Verb(ModuleType):
    """A package that can be called: `neuromas.train(…)` beside `neuromas.train.step`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The verb of the package's name in `neuromas.api.verbs`."""
        return getattr(import_module("neuromas.api.verbs"), self.__name__.rpartition(".")[2])(*args, **options)


class _Package(ModuleType):
    """This package: a room that is set here when it is imported becomes its verb."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ROOMS and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
