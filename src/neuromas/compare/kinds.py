"""Kinds of trained systems by name. A new one is an entry in `KINDS`; the rest of a comparison knows nothing of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.errors import DivergenceError
from neuromas.network.backbone import Backbone
from neuromas.train.finish import validation_score
from neuromas.train.loop import load_run, train
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
    gives the system of a folder whose training has ended. Both take (config, the kind's own options, folder, backbone).
    """

    train: Callable[[RunConfig, dict[str, Any], Path, Backbone], Training]
    load: Callable[[RunConfig, dict[str, Any], Path, Backbone], System]
    samples: Callable[[RunConfig, dict[str, Any]], int]  # rollouts that a whole training draws
    options: dict[str, Any] = field(default_factory=dict[str, Any])  # its own options, with their defaults


def _train_network(config: RunConfig, options: dict[str, Any], folder: Path, backbone: Backbone) -> Training:
    try:
        train(config, folder, resume=True, backbone=backbone)
    except DivergenceError as error:  # this rate is too high for it; the best checkpoint before stays
        return Training(0.0, str(error))
    return Training(validation_score(folder))


def _load_network(config: RunConfig, options: dict[str, Any], folder: Path, backbone: Backbone) -> System:
    return load_run(folder, "best", backbone)[0]


def _samples(config: RunConfig, options: dict[str, Any]) -> int:
    return config.train.steps * config.train.questions * config.train.rollouts


KINDS: dict[str, Kind] = {"network": Kind(_train_network, _load_network, _samples)}
