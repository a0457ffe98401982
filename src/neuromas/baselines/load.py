"""Builds a frozen baseline from its name, and tells the options of any."""

import inspect
from collections.abc import Callable
from typing import Any

from neuromas.baselines import BASELINES, names, nearest
from neuromas.baselines.chat import Chat
from neuromas.baselines.endpoint import EndpointChat
from neuromas.errors import ConfigError
from neuromas.network.backbone import Frozen
from neuromas.network.endpoint import Endpoint
from neuromas.network.forward import Limits
from neuromas.network.sampling import Decoding
from neuromas.network.wording import Words
from neuromas.prompt_config import PromptConfig
from neuromas.tasks.base import Task
from neuromas.types import System


def options_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A baseline's options with their defaults: those it is made with, and those of its `fit`."""
    entry = BASELINES[name]
    if entry.trained:
        return entry.load(entry.settings).model_fields[entry.table].default.model_dump(), {}
    factory = entry.load(entry.factory)
    fitting = _defaults(factory.fit, skip=("self", "task", "seed", "progress")) if entry.fitted else {}
    return _defaults(factory, skip=("chat", "parse", "choices")), fitting


def load_baseline(
    name: str,
    backbone: Frozen,
    task: Task,
    limits: Limits,
    decoding: Decoding | None = None,
    prompt: PromptConfig | None = None,
    **options: Any,
) -> System:
    """The frozen baseline called `name` on `backbone`, unfitted. A baseline that votes reads answers as `task` does.

    prompt: the words of a network, for an untrained one; None: the default words.
    Raises ConfigError for an unknown name or option, for a trained baseline, and for `logit` on an endpoint.
    """
    if name not in BASELINES:
        raise ConfigError(f"{name!r} is no baseline; {nearest(name, names(trained=False))}")
    if BASELINES[name].trained:
        raise ConfigError(
            f"{name!r} is trained before it answers: run `neuromas train --method {name}` and name the run's folder"
        )
    valid, _ = options_of(name)
    for option in options:
        if option not in valid:
            raise ConfigError(f"baseline {name!r} has no option {option!r}; its options: {', '.join(valid) or 'none'}")
    make = BASELINES[name].load(BASELINES[name].factory)
    if "parse" in inspect.signature(make).parameters:
        options["parse"] = task.parse
    if "choices" in inspect.signature(make).parameters:
        options["choices"] = task.choices
    if not isinstance(backbone, Endpoint):
        words = Words.of(prompt, backbone.template.style)
        return make(Chat(backbone, limits, decoding, words=words, environment=task), **options)
    check_endpoint(name, backbone.name)
    if task.turns > 1:
        raise ConfigError(
            f"task {task.name!r} answers calls while they are written, which the endpoint {backbone.name!r} cannot do; "
            "name a folder or a hub id as the backbone"
        )
    return make(EndpointChat(backbone, limits, decoding, Words.of(prompt, "chat")), **options)


def check_endpoint(name: str, backbone: str) -> None:
    """Raises ConfigError where the baseline `name` needs log-probabilities, which no endpoint gives."""
    if BASELINES[name].listed:
        raise ConfigError(
            f"{name} needs the log-probabilities of given text, which the endpoint {backbone!r} does not give; name a "
            "folder or a hub id, or choose another baseline"
        )


def _defaults(function: Callable[..., Any], skip: tuple[str, ...]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in skip}
