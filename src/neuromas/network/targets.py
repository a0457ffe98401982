"""The layers of a model that get adapters: those that are named, or its attention projections as it calls them."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from neuromas.errors import ConfigError
from neuromas.network.adapters import ATTENTION_TARGETS, RoutedLinear, Router

# Of a layer's path: the parts of a model in which tokens meet.
_MIXING = re.compile(r"attn|attention|mixer|mamba|conv|rwkv|temporal|recurrent|ssm", re.IGNORECASE)


def install(
    model: nn.Module,
    decoder: nn.Module,
    head: nn.Module,
    targets: Sequence[str],
    router: Router,
    run: Callable[[], Any],
) -> dict[str, tuple[int, int]]:
    """Wrap every linear layer of `decoder` named in `targets`; returns its key in `model` -> (out, in) features.

    Where a model lacks one of `ATTENTION_TARGETS`, these stand for all linear layers in which its tokens meet. run: a
    pass of the model; layers that no pass calls (an encoder of images, a part that is not in use) get no adapter.
    Idempotent: layers wrapped before keep their wrapper. Raises `ConfigError` for a target that would do nothing.
    """
    inside = {id(module) for module in decoder.modules()} - {id(head)}
    found = {key: m for key, m in model.named_modules() if id(m) in inside and _sizes(m) and not key.endswith(".base")}
    names = {_leaf(key) for key in found}
    chosen = tuple(targets) == ATTENTION_TARGETS and not names.issuperset(targets)
    if chosen:
        mixing = {_leaf(key) for key in found if _MIXING.search(key.rpartition(".")[0]) and not _fused(model, key)}
        targets = sorted(mixing or names)
    if missing := sorted(set(targets) - names):
        raise ConfigError(
            f"adapter targets {missing} match no linear layer of this backbone's decoder; it has {sorted(names)}"
        )
    wanted = {key: module for key, module in found.items() if _leaf(key) in targets}
    for key, module in wanted.items():
        if not isinstance(module, RoutedLinear) and (size := _sizes(module)):
            parent, _, leaf = key.rpartition(".")
            setattr(model.get_submodule(parent), leaf, RoutedLinear(module, key, size[0], router))
    called = _called(router, run)
    shapes = {key: size for key, m in wanted.items() if _pattern(key) in called and (size := _sizes(m))}
    idle = sorted(set(targets) - {_leaf(key) for key in shapes})
    if not shapes or (idle and not chosen):
        raise ConfigError(f"adapter targets {idle} would do nothing: no pass calls them as layers of their own")
    return shapes


def _called(router: Router, run: Callable[[], Any]) -> set[str]:
    """Patterns of the wrapped layers that a pass calls."""
    router.called = set()
    try:
        run()
        return {_pattern(key) for key in router.called}
    finally:
        router.called = None


def _sizes(module: nn.Module) -> tuple[int, int] | None:
    """(out, in) features of a linear layer of any kind, a quantised one included; None for another module."""
    if isinstance(module, RoutedLinear):
        return _sizes(module.base)
    if isinstance(module, Conv1D):
        return module.weight.shape[1], module.weight.shape[0]
    out, inp = getattr(module, "out_features", None), getattr(module, "in_features", None)
    linear = isinstance(module, nn.Linear) or "linear" in type(module).__name__.lower()
    return (out, inp) if linear and isinstance(out, int) and isinstance(inp, int) else None


def _fused(model: nn.Module, key: str) -> bool:
    """True for the last layer of a Mamba block, whose weight fused kernels read past any adapter; PEFT refuses it."""
    parent, _, leaf = key.rpartition(".")
    return leaf == "out_proj" and "mamba" in type(model.get_submodule(parent)).__name__.lower()


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _pattern(key: str) -> str:
    """A key without its numbers: layers, and experts of which a short pass calls only some."""
    return re.sub(r"\d+", "#", key)
