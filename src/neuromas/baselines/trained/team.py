"""A team: a baseline whose roles each have an adapter on the one frozen backbone; and what training it is made of.

Legend: L token (all rows concatenated).
"""

import copy
import math
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import torch
from pydantic import model_validator
from torch import Tensor, nn

from neuromas.baselines.chat import Baseline, Chat
from neuromas.config import RunConfig
from neuromas.errors import ConfigError, DivergenceError
from neuromas.network.adapters import AdapterBank
from neuromas.network.arithmetic import flushed
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding, stream_key
from neuromas.tasks.base import Task
from neuromas.types import NodeCall

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
        ignored["adapter.tied"] = self.adapter.tied, False
        ignored["sampling.engine"] = self.sampling.engine, "built-in"
        for name in ("estimator", "alternatives", "warm_start", "kl", "entropy", "node_dropout"):
            ignored[f"train.{name}"] = getattr(self.train, name), getattr(plain.train, name)
        for name, (value, default) in ignored.items():
            if value != default:
                raise ConfigError(f"{name} is {value!r}, which method {self.method!r} does not use; leave it out")


class Team(Baseline):
    """A system of roles. What it does is its `dialogue`; who speaks in a call is the request's `role`."""

    method: ClassVar[str]  # as `RunConfig.method` says it
    votes: ClassVar[int] = 1  # the paper also reports a vote of so many answers

    def __init__(self, chat: Chat, roles: Sequence[str]) -> None:
        """The chat's bank has an adapter for each role, and perhaps for helpers of the training, who never answer."""
        super().__init__(chat)
        assert chat.bank is not None and set(roles) <= set(chat.bank.index), "an adapter for each role"
        self.adapters, self.roles, self.label = chat.bank, tuple(roles), ""
        self.extras: dict[str, nn.Parameter] = {}  # what else is trained, by name; no part of answering

    @property
    def name(self) -> str:
        return self.label or super().name

    @name.setter
    def name(self, value: str) -> None:
        self.label = value

    @property
    def trainable_parameters(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the roles that answer."""
        return self.adapters.parameters_per_adapter * len(self.roles)

    @property
    def backbone(self) -> Backbone:
        return self.chat.backbone

    @property
    def limits(self) -> Limits:
        return self.chat.limits

    @limits.setter
    def limits(self, value: Limits) -> None:
        self.chat.limits = value

    @property
    def decoding(self) -> Decoding:
        return self.chat.decoding

    @property
    def shape(self) -> dict[str, Any]:
        """What a checkpoint must agree on besides the adapters' sizes."""
        return {"method": self.method, "roles": list(self.adapters.names)}

    def with_decoding(self, decoding: Decoding) -> Chat:
        """The team's chat under another decoding."""
        chat = copy.copy(self.chat)
        chat.decoding = decoding
        return chat


def create_adapters(roles: Sequence[str], config: RunConfig, backbone: Backbone, task: Task) -> Chat:
    """A chat on `backbone` with an untrained adapter for each of `roles`."""
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
    return Chat(backbone, limits, Decoding.from_config(config.sampling), bank=bank)


@dataclass(frozen=True)
class Example:
    """A completion of one role, to be scored or imitated."""

    role: str
    prefix_ids: list[int]
    own_ids: list[int]
    completion_ids: list[int]

    @classmethod
    def of(cls, role: str, call: NodeCall) -> Self:
        return cls(role, call.prefix_ids, call.own_ids, call.completion_ids)

    @property
    def tokens(self) -> int:
        return len(self.prefix_ids) + len(self.own_ids) + len(self.completion_ids)


def score(team: Team, examples: Sequence[Example], temperature: float = 1.0) -> list[Tensor]:
    """Log-probability (nats) of every completion token of each example, in order; differentiable in the adapters.

    Prompts that begin alike are read once.
    """
    index = team.adapters.index
    order = sorted(range(len(examples)), key=lambda i: (index[examples[i].role], examples[i].prefix_ids))
    groups: list[Group] = []
    for i in order:
        e = examples[i]
        if groups and (groups[-1].adapter, groups[-1].prefix_ids) == (index[e.role], e.prefix_ids):
            groups[-1].own_ids.append(e.own_ids)
        else:
            groups.append(Group(index[e.role], e.prefix_ids, [e.own_ids]))
    ids = [examples[i].completion_ids for i in order]
    logprobs_L, _ = replay(team.backbone, team.adapters, groups, ids, temperature)
    parts = dict(zip(order, logprobs_L.split(list(map(len, ids))), strict=True))
    return [parts[i] for i in range(len(examples))]


def drawn(items: Sequence[T], size: int, k: int, *address: object) -> list[T]:
    """The k-th batch (from 1) of `size` items, or of all where there are fewer.

    Every epoch is a new permutation, a function of (address, epoch), so that a resumed run draws the same.
    """
    n, size = len(items), min(size, len(items))
    out: list[T] = []
    orders: dict[int, list[int]] = {}
    for place in range((k - 1) * size, k * size):
        epoch, at = divmod(place, n)
        if epoch not in orders:
            orders[epoch] = list(range(n))
            random.Random(stream_key(*address, epoch)).shuffle(orders[epoch])
        out.append(items[orders[epoch][at]])
    return out


def backward(loss: Tensor, step: int) -> float:
    """Gradients of a loss, and its value. Raises `DivergenceError` when it is not finite."""
    if not torch.isfinite(loss):
        raise DivergenceError(f"step {step}: the loss is {loss.item()}; lower train.learning_rate or train.clip")
    with flushed():
        loss.backward()
    return loss.item()


def update(team: Team, optimizer: torch.optim.Optimizer, clip: float, step: int, roles: Sequence[str]) -> list[float]:
    """Clip each role's gradient on its own and step; returns the norms before, in the order of `roles`.

    Adapters of other roles stay as they are to the bit, whatever momentum the optimiser remembers of them. Raises
    `DivergenceError` before anything is changed when a gradient is not finite.
    """
    bank = team.adapters
    norms_N = bank.gradient_norms()
    mine = [bank.index[role] for role in roles]
    norms = [norms_N[n].item() for n in mine]
    others = [n for n in range(len(bank.names)) if n not in mine]
    extra = [p.grad.norm().item() for p in team.extras.values() if p.grad is not None]
    if not all(map(math.isfinite, norms + extra)):
        raise DivergenceError(f"step {step}: a gradient is not finite; lower train.learning_rate or train.clip")
    scale_N = (clip / norms_N.clamp(min=1e-12)).clamp(max=1.0)
    kept = [stack.detach()[others].clone() for stack in bank.stacks()]
    for stack in bank.stacks():
        if stack.grad is not None:
            stack.grad.mul_(scale_N.view(-1, 1, 1))
    if extra:
        nn.utils.clip_grad_norm_(team.extras.values(), clip)
    optimizer.step()
    with torch.no_grad():
        for stack, old in zip(bank.stacks(), kept, strict=True):
            stack[others] = old
    return norms
