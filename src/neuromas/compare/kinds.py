"""Kinds of trained systems by name. A new one is an entry in `KINDS`; the rest of a comparison knows nothing of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuromas.config import CollmConfig, MaltConfig, RunConfig
from neuromas.errors import DivergenceError
from neuromas.network.backbone import Backbone
from neuromas.run.build import load_run
from neuromas.run.final import validation_score
from neuromas.run.loop import train
from neuromas.run.stages import stages_of
from neuromas.types import System


@dataclass(frozen=True)
class Training:
    """What a comparison needs to know of a training that has ended."""

    validation: float  # accuracy on the validation split, by which the learning rate is chosen
    note: str = ""  # what a reader of the table must know, e.g. that it diverged


@dataclass(frozen=True)
class Kind:
    """How one kind of system is trained and read back. Seed and learning rate stand in the config.

    `train` continues what a kill left in the folder, to the same numbers; it is called until it returned once. `load`
    gives the system of a folder whose training has ended. Both take (config, folder, backbone). Rollouts are counted
    by the calls that an answer takes, so a tree of 39 calls is 13 of a system that answers with 3.
    """

    train: Callable[[RunConfig, Path, Backbone], Training]
    load: Callable[[RunConfig, Path, Backbone], System]
    samples: Callable[[RunConfig], int]  # rollouts that a whole training draws
    calls: Callable[[RunConfig], int]  # of one answer
    options: dict[str, Any] = field(default_factory=dict[str, Any])  # its own, with their defaults
    recipe: Callable[[dict[str, Any]], dict[str, Any]] = lambda options: {}  # what those are in a recipe
    shaped: bool = False  # takes a topology


def _train(config: RunConfig, folder: Path, backbone: Backbone) -> Training:
    try:
        train(config, folder, resume=True, backbone=backbone)
    except DivergenceError as error:  # this rate is too high for it; the best checkpoint before stays
        return Training(0.0, str(error))
    return Training(validation_score(folder))


def _load(config: RunConfig, folder: Path, backbone: Backbone) -> System:
    return load_run(folder, "best", backbone)[0]


def _rollouts(config: RunConfig) -> int:
    return config.train.steps * config.train.questions * config.train.rollouts


def _trees(config: RunConfig) -> int:
    b = config.malt.branching
    return config.malt.search * config.train.questions * (b + b**2 + b**3) // _MALT_CALLS


_MALT_CALLS = 3

KINDS: dict[str, Kind] = {
    "network": Kind(
        _train, _load, _rollouts, calls=lambda config: len(stages_of(config)[-1].topology.nodes), shaped=True
    ),
    "malt": Kind(
        _train,
        _load,
        _trees,
        calls=lambda config: _MALT_CALLS,
        options=MaltConfig().model_dump(),
        recipe=lambda options: {"method": "malt", "malt": options},
    ),
    "collm-cc": Kind(
        _train,
        _load,
        _rollouts,
        calls=lambda config: config.collm.actors,
        options=CollmConfig().model_dump(),
        recipe=lambda options: {"method": "collm-cc", "collm": options},
    ),
}
