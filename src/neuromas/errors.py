"""Errors that a person can cause and mend. Each message names the value, the reason and the remedy."""

import importlib
from collections.abc import Sequence
from typing import Any


class NeuromasError(ValueError):
    """Root of every error that the user of the library can mend."""


class TopologyError(NeuromasError):
    """A network shape that cannot exist, such as one with a cycle, an unreachable node or a width of 0."""


class ConfigError(NeuromasError):
    """A setting that is unknown, out of range, or contradicts another one."""


class BackboneError(NeuromasError):
    """A language model that cannot be found, loaded, or driven by this library."""


class PromptError(NeuromasError):
    """A prompt that does not fit into the context window."""


class TaskError(NeuromasError):
    """An unknown task, or data that is missing or malformed."""


class CheckpointError(NeuromasError):
    """A checkpoint that is missing, damaged, or made for something else."""


class ClusterError(NeuromasError):
    """A cluster that cannot be reached, is too small, or whose workers keep dying."""


class EngineError(NeuromasError):
    """An engine for rollouts that cannot be started, has died, or does not compute what the trainer does."""


class DivergenceError(NeuromasError):
    """Training produced a NaN or an infinity; the run stopped and kept its last good state."""

    def __init__(self, message: str, traces: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.traces = traces  # The `Trace`s of the step that failed.


def require(
    module: str, purpose: str, install: str, otherwise: str = "", error: type[NeuromasError] = TaskError
) -> Any:
    """The module of an optional package, which `purpose` needs and the command `install` provides.

    Raises `error` where the package is missing; its message offers to do `otherwise` instead.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        package, remedy = module.split(".")[0].replace("_", "-"), f", or {otherwise}" if otherwise else ""
        raise error(f"{purpose} needs the package {package} ({missing}); run `{install}`{remedy}") from missing
