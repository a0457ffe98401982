"""AdamW for a bank of adapters, each with a learning rate and a count of steps of its own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from neuromas.errors import CheckpointError
from neuromas.network.adapters import AdapterBank

_FIELDS = ("step", "exp_avg", "exp_avg_sq")


class NodeAdamW(torch.optim.AdamW):
    """torch's AdamW, with a parameter group for every adapter: nodes that came later start as a new optimiser would.

    The bank's tensors hold all adapters; a parameter here is one adapter's slice of one of them, and shares its memory.
    `extras` are further parameters, by name, in the last group. Groups have a `name`.
    """

    def __init__(self, bank: AdapterBank, extras: Mapping[str, nn.Parameter] | None = None, **settings: Any) -> None:
        self._stacks = bank.stacks()
        self.named: dict[str, list[nn.Parameter]] = {
            name: [nn.Parameter(stack.detach()[n]) for stack in self._stacks] for n, name in enumerate(bank.names)
        }
        self._slices = list(self.named.values())  # before the extras come in
        if extras:
            self.named[""] = list(extras.values())
        groups = [{"params": parameters, "name": name} for name, parameters in self.named.items()]
        super().__init__(groups, fused=True, **settings)  # one small kernel for each slice

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for stack in self._stacks:
            stack.grad = None

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for n, slices in enumerate(self._slices):
            for stack, part in zip(self._stacks, slices, strict=True):
                part.grad = None if stack.grad is None else stack.grad[n]
        return super().step(closure)

    def set_rates(self, rate: float, scales: Mapping[str, float]) -> None:
        """The learning rate of the next step: `rate`, times an adapter's scale where it has one."""
        for group in self.param_groups:
            group["lr"] = rate * scales.get(group["name"], 1.0)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state of every parameter that has one, as "adapter|number of the tensor|field"."""
        return {
            f"{place}|{field}": torch.as_tensor(value).detach().cpu().contiguous()
            for place, parameter in self._places()
            for field, value in self.state.get(parameter, {}).items()
        }

    @torch.no_grad()
    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over the state of parameters that `tensors` names; what it says of adapters unknown here is left alone.

        Raises `CheckpointError` where a name or a shape makes no sense.
        """
        mine = dict(self._places())
        for key, value in tensors.items():
            if key.partition("|")[0] not in self.named:
                continue
            place, _, field = key.rpartition("|")
            parameter = mine.get(place)
            if parameter is None or field not in _FIELDS or value.shape != (parameter.shape if field != "step" else ()):
                raise CheckpointError(
                    f"optimiser state {key!r} does not fit; the checkpoint is damaged, choose another"
                )
            self.state[parameter][field] = value.to(parameter.device, copy=True)

    def _places(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameters in self.named.items():
            yield from ((f"{name}|{i}", parameter) for i, parameter in enumerate(parameters))
