"""A team: a baseline whose roles each have an adapter on the one frozen backbone; and the parts of its training.

Legend: L token (all rows concatenated).
"""

import copy
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from pydantic import model_validator
from torch import Tensor, nn

from neuromas.baselines.chat import Baseline, Chat, Dialogue, converse
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits
from neuromas.network.sampling import Decoding, stream_key
from neuromas.network.turns import replay_each
from neuromas.network.wording import Words
from neuromas.prompt_config import PROMPT_VERSION
from neuromas.tasks.base import Task
from neuromas.train.update import check_finite
from neuromas.types import Question, Trace, Utterance

T = TypeVar("T")


class TeamRunConfig(RunConfig):
    """Settings of a run that trains a team; a subclass adds the table of its method."""

    paper: ClassVar[dict[str, dict[str, float]]] = {}  # defaults of the method's own paper: table -> setting -> value

    @property
    @abstractmethod
    def calls(self) -> int:
        """LLM calls of one answer."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_paper(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Put the paper's values where the recipe says nothing."""
        for table, values in cls.paper.items():
            given = data.get(table, {})
            if isinstance(given, dict):
                data = data | {table: values | given}
        return data

    def check(self) -> None:
        """Raises `ConfigError` for settings of networks: a team has a shape and an objective of its own."""
        plain = RunConfig()
        ignored: dict[str, tuple[object, object]] = {
            name: (getattr(self, name), getattr(plain, name)) for name in ("topology", "stages")
        }
        ignored["prompt"] = self.prompt.model_copy(update={"version": PROMPT_VERSION}), plain.prompt
        ignored["adapter.tied"] = self.adapter.tied, False
        ignored["sampling.engine"] = self.sampling.engine, "built-in"
        for name in (
            "estimator",
            "alternatives",
            "warm_start",
            "drop_solved",
            "resample",
            "kl",
            "entropy",
            "node_dropout",
        ):
            ignored[f"train.{name}"] = getattr(self.train, name), getattr(plain.train, name)
        for name, (value, default) in ignored.items():
            if value != default:
                raise ConfigError(f"{name} is {value!r}, which method {self.method!r} does not use; leave it out")


class Team(Baseline):
    """A system of roles with an adapter each; the `role` of a request in its `dialogue` says who speaks."""

    method: ClassVar[str]  # its name in the registry and in recipes
    votes: ClassVar[int] = 1  # answers of a vote that the paper reports too; 1: it reports none

    def __init__(self, chat: Chat, roles: Sequence[str]) -> None:
        """The chat's bank has an adapter for each role, and perhaps for helpers of the training, who never answer."""
        super().__init__(chat)
        assert chat.bank is not None and set(roles) <= set(chat.bank.index), "an adapter for each role"
        self.adapters, self.roles = chat.bank, tuple(roles)
        self.backbone, self.decoding = chat.backbone, chat.decoding
        self.extras: dict[str, nn.Parameter] = {}  # further trained tensors by name, which answering does not need

    @property
    def trainable_parameters(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The parameters of the roles that answer."""
        return self.adapters.parameters_per_adapter * len(self.roles)

    @property
    def limits(self) -> Limits:
        """The limits on what the roles write."""
        return self.chat.limits

    @limits.setter
    def limits(self, value: Limits) -> None:
        self.chat.limits = value

    @property
    def shape(self) -> dict[str, str | list[str]]:
        """The part of a checkpoint's identity that adapters' sizes do not say."""
        return {"method": self.method, "roles": list(self.adapters.names)}

    def sample(self, dialogues: Sequence[tuple[Question, int, Dialogue]], seed: int, step: int) -> list[Trace]:
        """Run (question, rollout, dialogue) triples for training: on policy, that is without top-p.

        Raises `DivergenceError` where a log-probability is not finite.
        """
        chat = copy.copy(self.chat)
        chat.decoding = replace(self.decoding, top_p=1.0)
        traces = converse(chat, dialogues, greedy=False, seed=seed)
        check_finite(traces, step)
        return traces


def create_adapters(roles: Sequence[str], config: RunConfig, backbone: Backbone, task: Task) -> Chat:
    """A chat on `backbone` with an untrained adapter for each of `roles`.

    Raises ConfigError for a task that answers calls while they are written: a team's losses know no such tokens.
    """
    if task.turns > 1:
        raise ConfigError(
            f"method {config.method!r} does not train on task {task.name!r}, which answers calls while they are "
            "written; train a network, or a task with turns = 1"
        )
    a = config.adapter
    bank = AdapterBank(
        {role: role for role in roles},
        backbone.adapter_shapes(a.targets),
        rank=a.rank,
        alpha=2.0 * a.rank if a.alpha is None else a.alpha,
        seed=config.seed,
        device=backbone.device,
    )
    limits = Limits.from_config(config.sampling, task.max_answer_tokens)
    words = Words.of(config.prompt, backbone.template.style)
    return Chat(backbone, limits, Decoding.from_config(config.sampling), bank=bank, words=words)


def score(team: Team, examples: Sequence[Utterance], temperature: float = 1.0) -> list[Tensor]:
    """Log-probabilities (nats) of the completion's tokens, [tokens] of each example; differentiable in the adapters.

    Prompts that begin alike are read once.
    """
    numbered = sorted(enumerate(examples), key=lambda member: member[1].prefix_ids)
    return replay_each(team.backbone, team.adapters, numbered, temperature)


def drawn(items: Sequence[T], size: int, k: int, *address: object) -> list[T]:
    """The k-th batch (from 1) of `size` items, or of all where there are fewer.

    Every epoch is a new permutation, a function of (address, epoch), so that a resumed run draws the same.
    """
    n, size = len(items), min(size, len(items))
    out: list[T] = []
    orders: dict[int, list[int]] = {}
    for place in range((k - 1) * size, k * size):
        epoch, index = divmod(place, n)
        if epoch not in orders:
            orders[epoch] = list(range(n))
            random.Random(stream_key(*address, epoch)).shuffle(orders[epoch])
        out.append(items[orders[epoch][index]])
    return out
