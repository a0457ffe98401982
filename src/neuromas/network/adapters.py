"""Every node's LoRA, stacked: one matrix multiplication serves the rows of many nodes.

For target module `key` with weight [out, in] the bank holds `A[N, rank, in]` and `B[N, out, rank]`; node n computes
`W x + (alpha / rank) B[n] A[n] x` (Hu et al. 2021, arXiv 2106.09685). A starts random and B zero, so an untrained
node is the bare backbone.

Legend: N adapter, M token of the packed stream.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuromas.errors import CheckpointError, ConfigError
from neuromas.network import peft

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Route:
    """The adapter of each contiguous block of one pass's token stream."""

    weights: Mapping[str, tuple[Tensor, Tensor]]  # key -> A[n, rank, in], scaled B[n, out, rank]; n = len(counts)
    counts: tuple[int, ...]  # tokens of each block, in stream order
    slots: tuple[int, ...]  # the row of `weights` for each block

    def apply(self, key: str, x: Tensor, y: Tensor) -> Tensor:
        """`y` plus the contribution of the adapters, for x [1, M, in] or [M, in], and y alike; of any shape where one
        adapter serves all."""
        A, B = self.weights[key]
        if A.dtype != x.dtype:  # of a model whose products are computed in a wider dtype
            return self.apply(key, x.to(A.dtype), y.to(A.dtype)).to(y.dtype)
        if len(self.counts) == 1:
            return y + F.linear(F.linear(x, A[self.slots[0]]), B[self.slots[0]])
        if x.shape[:-1].numel() != sum(self.counts):
            raise ConfigError(f"{key} does not see every token of a pass once, in order")
        if len(self.counts) == len(A) and len(set(self.counts)) == 1:  # equal blocks: one batched product
            x_NMI = x.view(len(A), self.counts[0], -1)
            low = torch.bmm(x_NMI, A.transpose(1, 2))
            add = torch.baddbmm if torch.is_grad_enabled() else torch.Tensor.baddbmm_  # in place: no copy of y
            return add(y.view(len(A), self.counts[0], -1), low, B.transpose(1, 2)).view(y.shape)
        blocks = zip(self.slots, x.flatten(0, -2).split(self.counts), strict=True)
        return y + torch.cat([F.linear(F.linear(x_M, A[n]), B[n]) for n, x_M in blocks]).view(y.shape)


class Router:
    """Holds the route of the pass under way; `RoutedLinear` reads it. None: the bare backbone."""

    active: Route | None = None
    called: set[str] | None = None  # where one looks which modules are called: their keys


class RoutedLinear(nn.Module):
    """A frozen linear layer that adds the contribution of the routed adapters."""

    def __init__(self, base: nn.Module, key: str, out: int, router: Router) -> None:
        super().__init__()
        self.base, self.key, self._out, self._router = base, key, out, router

    def __getattr__(self, name: str) -> Any:
        """Anything that a model reads off the layer itself, such as its weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        route = self._router.active
        if self._router.called is not None and y.shape == (*x.shape[:-1], self._out):  # else it is no plain product
            self._router.called.add(self.key)
        return y if route is None or self.key not in route.weights else route.apply(self.key, x, y)


class AdapterBank(nn.Module):
    """Stacked LoRA adapters.

    names: one per adapter, usually the node ids. nodes: node id -> adapter name; several nodes may share one.
    shapes: target module key -> (out_features, in_features).
    """

    def __init__(
        self,
        nodes: Mapping[str, str],
        shapes: Mapping[str, tuple[int, int]],
        *,
        rank: int,
        alpha: float,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ConfigError(f"adapter rank {rank}: a LoRA adapter needs rank 1 or more")
        self.nodes = dict(nodes)
        self.names = list(dict.fromkeys(nodes.values()))
        self.index = {node: self.names.index(name) for node, name in self.nodes.items()}
        self.rank, self.alpha, self.shapes = rank, alpha, dict(shapes)
        self.A, self.B = nn.ParameterDict(), nn.ParameterDict()
        for key, (out, inp) in self.shapes.items():
            stack = torch.stack([_init_A(rank, inp, seed, name, key) for name in self.names])
            self.A[_attr(key)] = nn.Parameter(stack.to(device))
            self.B[_attr(key)] = nn.Parameter(torch.zeros(len(self.names), out, rank, device=device))

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def parameters_per_adapter(self) -> int:
        return sum(self.rank * (out + inp) for out, inp in self.shapes.values())

    @property
    def trainable_parameters(self) -> int:
        return self.parameters_per_adapter * len(self.names)

    def stacks(self) -> list[nn.Parameter]:
        """Every trainable tensor; its first axis is the adapter."""
        return [*self.A.values(), *self.B.values()]

    def weights(self, adapters: Sequence[int], dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
        """Per target key the stacks of `adapters` in `dtype`, B scaled; gradients flow back to the bank."""
        pick = list(adapters)
        whole = pick == list(range(len(self.names)))
        out: dict[str, tuple[Tensor, Tensor]] = {}
        for key in self.shapes:
            A, B = self.pair(key)
            if not whole:
                A, B = A[pick], B[pick]
            out[key] = A.to(dtype), (B * self.scale).to(dtype)
        return out

    def pair(self, key: str) -> tuple[nn.Parameter, nn.Parameter]:
        """The stacks A [N, rank, in] and B [N, out, rank] of a target module."""
        return self.A[_attr(key)], self.B[_attr(key)]

    def gradient_norms(self) -> Tensor:
        """L2 norm of each adapter's gradient [N]; 0 where none has arrived."""
        squares = [p.grad.flatten(1).square().sum(1) for p in self.stacks() if p.grad is not None]
        return torch.stack(squares).sum(0).sqrt() if squares else torch.zeros(len(self.names))

    # -- PEFT's format ------------------------------------------------------------------------------------

    def export_peft(self, name: str, base_model: str) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Adapter `name` as (state dict, adapter_config) in the form that PEFT's `save_pretrained` writes."""
        n = self.names.index(name)
        state: dict[str, Tensor] = {}
        for key in self.shapes:
            for x, stack in zip("AB", self.pair(key), strict=True):
                state[f"{peft.PREFIX}{key}.lora_{x}.weight"] = stack[n].detach().cpu().contiguous()
        config: dict[str, object] = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "inference_mode": True,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "use_rslora": False,
            "fan_in_fan_out": False,
            "target_modules": sorted({key.rsplit(".", 1)[-1] for key in self.shapes}),
        }
        return state, config

    @torch.no_grad()
    def import_peft(self, name: str, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        """Overwrite adapter `name` with a PEFT state dict. Raises `CheckpointError` when it does not fit."""
        theirs = peft.scale(config, f"the adapter of node {name}")
        for field, mine, found in (("r", self.rank, config["r"]), ("lora_alpha / r", self.scale, theirs)):
            if found != mine:
                raise CheckpointError(f"adapter of node {name}: {field} is {found}, this bank has {mine}")
        want = {f"{peft.PREFIX}{key}.lora_{x}.weight" for key in self.shapes for x in "AB"}
        if set(state) != want:
            odd = sorted(set(state) ^ want)[:3]
            raise CheckpointError(f"adapter of node {name} has other modules than this bank, for instance {odd}")
        n = self.names.index(name)
        for key in self.shapes:
            for x, stack in zip("AB", self.pair(key), strict=True):
                new, mine = state[f"{peft.PREFIX}{key}.lora_{x}.weight"], stack[n]
                if new.shape != mine.shape:
                    raise CheckpointError(
                        f"adapter of node {name}: {key}.lora_{x} is {tuple(new.shape)}, expected {tuple(mine.shape)}"
                    )
                mine.copy_(new)


def _attr(key: str) -> str:
    return key.replace(".", "|")  # ParameterDict keys may not hold dots


def _init_A(rank: int, inp: int, seed: int, name: str, key: str) -> Tensor:
    """Kaiming-uniform as PEFT does; a function of (seed, adapter, module), so growth and order change nothing."""
    digest = hashlib.blake2b(f"{seed}/{name}/{key}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    bound = math.sqrt(6 / ((1 + 5) * inp))
    return (torch.rand(rank, inp, generator=generator) * 2 - 1) * bound
