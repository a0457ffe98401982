"""Baselines by name: what each is, where it comes from, and how many calls a question costs."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuromas.errors import ConfigError

if TYPE_CHECKING:
    from neuromas.network.backbone import Frozen
    from neuromas.network.forward import Limits
    from neuromas.network.sampling import Decoding
    from neuromas.tasks.base import Task
    from neuromas.types import System


@dataclass(frozen=True)
class Entry:
    """One baseline; reading it imports nothing."""

    module: str  # within this package
    factory: str  # a class that takes a `Chat`, the task's `parse` or `choices` if it wants them, and its options
    about: str
    calls: str  # LLM calls for one question, as a formula in its options
    source: str
    fitted: bool = False  # reads the training split before it answers
    repeats: bool = False  # in greedy evaluation every seed gives the same answers
    listed: bool = False  # only for questions whose possible answers can be listed


BASELINES: dict[str, Entry] = {
    "direct": Entry("direct", "direct", "the bare backbone", "1", "-", repeats=True),
    "untrained": Entry(
        "direct", "untrained", "a network before any training", "the topology's (3)", "arXiv 2605.16757", repeats=True
    ),
    "logit": Entry(
        "logit",
        "logit",
        "the bare backbone's most likely option, no generation",
        "1",
        "arXiv 2009.03300",
        repeats=True,
        listed=True,
    ),
    "self-consistency": Entry(
        "vote", "self_consistency", "the majority of sampled answers", "votes (5)", "Wang et al., arXiv 2203.11171"
    ),
    "self-refine": Entry(
        "self_refine",
        "SelfRefine",
        "answer, then criticise and revise",
        "1 + rounds (2); fused=false: 1 + 2·rounds",
        "Madaan et al., arXiv 2303.17651",
        repeats=True,
    ),
    "self-check": Entry(
        "self_check", "SelfCheck", "solve, check, revise", "3", "after Miao et al., arXiv 2308.00436", repeats=True
    ),
    "self-check-steps": Entry(
        "self_check",
        "StepwiseSelfCheck",
        "every step worked out again; solutions vote by confidence",
        "samples·2 + 4 a step, at most samples·(2 + 4·steps) (54)",
        "Miao et al., arXiv 2308.00436",
    ),
    "moa": Entry(
        "moa",
        "MixtureOfAgents",
        "rounds of proposals, one synthesis",
        "rounds·agents + 1 (4)",
        "Wang et al., arXiv 2406.04692",
    ),
    "goa": Entry(
        "goa",
        "GraphOfAgents",
        "agents score each other and refine along the ranking",
        "4·agents - 1 (11); pool=max: 3·agents; fewer where answers drop out",
        "arXiv 2604.17148",
    ),
    "agentnet": Entry(
        "agentnet",
        "AgentNet",
        "agents route questions, and remember what went well",
        "2 to 2·min(agents, hops) - 1 (5)",
        "Yang et al., arXiv 2504.00587",
        fitted=True,
    ),
    "gptswarm": Entry(
        "gptswarm",
        "GPTSwarm",
        "agents on a graph with learned edges, then a decision",
        "agents + 1 (11); decide=vote: agents",
        "Zhuge et al., arXiv 2402.16823",
        fitted=True,
    ),
}


def options_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A baseline's options with their defaults: those it is made with, and those of its `fit`."""
    factory = _factory(name)
    own = _defaults(factory, skip=("chat", "parse", "choices"))
    return own, _defaults(factory.fit, skip=("self", "task", "seed", "progress")) if BASELINES[name].fitted else {}


def load_baseline(
    name: str,
    backbone: "Frozen",
    task: "Task",
    limits: "Limits",
    decoding: "Decoding | None" = None,
    **options: Any,
) -> "System":
    """The baseline called `name` on `backbone`, unfitted. The task serves to read answers where a baseline votes.

    Raises ConfigError for an unknown name or option, and for `logit` on an endpoint.
    """
    from neuromas.baselines.chat import Chat
    from neuromas.baselines.endpoint import EndpointChat
    from neuromas.network.endpoint import Endpoint

    if name not in BASELINES:
        close = difflib.get_close_matches(name, BASELINES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(BASELINES)}"
        raise ConfigError(f"{name!r} is no baseline; {hint}")
    valid, _ = options_of(name)
    for option in options:
        if option not in valid:
            raise ConfigError(f"baseline {name!r} has no option {option!r}; its options: {', '.join(valid) or 'none'}")
    make = _factory(name)
    if "parse" in inspect.signature(make).parameters:
        options["parse"] = task.parse
    if "choices" in inspect.signature(make).parameters:
        options["choices"] = task.choices
    if not isinstance(backbone, Endpoint):
        return make(Chat(backbone, limits, decoding), **options)
    check_endpoint(name, backbone.name)
    return make(EndpointChat(backbone, limits, decoding), **options)


def check_endpoint(name: str, backbone: str) -> None:
    """Raises ConfigError where the baseline `name` needs more of a model than that it writes."""
    if BASELINES[name].listed:
        raise ConfigError(
            f"{name} needs the log-probabilities of given text, which the endpoint {backbone!r} does not tell; name a "
            "folder or a hub id, or choose another baseline"
        )


def _factory(name: str) -> Any:
    entry = BASELINES[name]
    return getattr(importlib.import_module(f"neuromas.baselines.{entry.module}"), entry.factory)


def _defaults(function: Callable[..., Any], skip: tuple[str, ...]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in skip}
