"""The registry of baselines: everything that a network is compared with, frozen or trained, as plain data.

A new baseline is one file in this package and one entry here. Reading the registry imports none of those files.
"""

import difflib
import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from neuromas.errors import ConfigError


@dataclass(frozen=True)
class RegistryEntry:
    """One baseline.

    A frozen baseline answers with the bare backbone. A trained one is a method of `neuromas train`: it has `settings`,
    `training` and a `table`, which a frozen one has not.
    """

    module: str  # the file within this package, with a dot for a folder
    factory: str  # frozen: takes a `Chat`, the task's `parse` or `choices` if it wants them, and options. Trained: a
    # subclass of `Team` whose `create` takes the run's settings, the backbone and the task
    about: str  # one line for a table of all baselines
    calls: str  # LLM calls for one question, as a formula in its options, with the number by default
    source: str  # the paper that it comes from
    fitted: bool = False  # it reads the training split before it answers
    repeats: bool = False  # every seed gives the same answers in greedy evaluation
    listed: bool = False  # it can answer only questions whose possible answers can be listed
    settings: str = ""  # the class of its settings, a subclass of `TeamRunConfig`
    training: str = ""  # the class that trains it: takes (settings, run folder, system, task) and is a `Method`
    table: str = ""  # the table of its own settings in a recipe

    @property
    def trained(self) -> bool:
        """True for a method of `neuromas train`, which answers from a run folder alone."""
        return bool(self.training)

    def load(self, name: str) -> Any:
        """The object called `name` in the baseline's file, which is imported."""
        return getattr(importlib.import_module(f"neuromas.baselines.{self.module}"), name)


BASELINES: dict[str, RegistryEntry] = {
    "direct": RegistryEntry("direct", "direct", "the bare backbone", "1", "-", repeats=True),
    "untrained": RegistryEntry(
        "direct", "untrained", "a network before any training", "the topology's (3)", "arXiv 2605.16757", repeats=True
    ),
    "logit": RegistryEntry(
        "logit",
        "Logit",
        "the bare backbone's most likely option, no generation",
        "1",
        "arXiv 2009.03300",
        repeats=True,
        listed=True,
    ),
    "self-consistency": RegistryEntry(
        "vote", "self_consistency", "the majority of sampled answers", "votes (5)", "Wang et al., arXiv 2203.11171"
    ),
    "self-refine": RegistryEntry(
        "self_refine",
        "SelfRefine",
        "answer, then criticise and revise",
        "1 + rounds (2); fused=false: 1 + 2·rounds",
        "Madaan et al., arXiv 2303.17651",
        repeats=True,
    ),
    "self-check": RegistryEntry(
        "self_check", "SelfCheck", "solve, check, revise", "3", "after Miao et al., arXiv 2308.00436", repeats=True
    ),
    "self-check-steps": RegistryEntry(
        "self_check",
        "StepwiseSelfCheck",
        "every step worked out again; solutions vote by confidence",
        "samples·2 + 4 a step, at most samples·(2 + 4·steps) (54)",
        "Miao et al., arXiv 2308.00436",
    ),
    "moa": RegistryEntry(
        "moa",
        "MixtureOfAgents",
        "rounds of proposals, one synthesis",
        "rounds·agents + 1 (4)",
        "Wang et al., arXiv 2406.04692",
    ),
    "goa": RegistryEntry(
        "goa",
        "GraphOfAgents",
        "agents score each other and refine along the ranking",
        "4·agents - 1 (11); pool=max: 3·agents; fewer where answers drop out",
        "arXiv 2604.17148",
    ),
    "agentnet": RegistryEntry(
        "agentnet",
        "AgentNet",
        "agents route questions, and remember what went well",
        "2 to 2·min(agents, hops) - 1 (5)",
        "Yang et al., arXiv 2504.00587",
        fitted=True,
    ),
    "gptswarm": RegistryEntry(
        "gptswarm",
        "GPTSwarm",
        "agents on a graph with learned edges, then a decision",
        "agents + 1 (11); decide=vote: agents",
        "Zhuge et al., arXiv 2402.16823",
        fitted=True,
    ),
    "malt": RegistryEntry(
        "trained.malt",
        "Malt",
        "a generator, a verifier and a refiner, trained from a search tree",
        "3",
        "Motwani et al., arXiv 2412.01928",
        settings="MaltRunConfig",
        training="MaltTraining",
        table="malt",
    ),
    "collm-cc": RegistryEntry(
        "trained.collm",
        "Collm",
        "parallel actors with a centralised critic, then a vote",
        "actors (3)",
        "Liu et al., arXiv 2601.21972",
        settings="CollmRunConfig",
        training="CollmTraining",
        table="collm",
    ),
}


NETWORK = "neuromas"  # the method that trains networks, which are this library's own and no baseline


def trained_entry(method: str) -> RegistryEntry:
    """The trained baseline of a recipe's `method`. Raises ConfigError where there is none."""
    entry = BASELINES.get(method)
    if entry is None or not entry.trained:
        raise ConfigError(f"method is {method!r}, which is none; {nearest(method, [NETWORK, *names(trained=True)])}")
    return entry


def names(*, trained: bool) -> list[str]:
    """The names of the trained, or of the frozen, baselines."""
    return [name for name, entry in BASELINES.items() if entry.trained == trained]


def nearest(name: str, valid: Collection[str]) -> str:
    """A hint for a wrong `name`: the one that was probably meant, else all valid ones."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(valid)}"
