"""Carrying what a network has learned into a larger one, and how its new nodes begin."""

from typing import Literal

import torch
from torch import Tensor

from neuromas.network.adapters import AdapterBank
from neuromas.network.forward import Network
from neuromas.network.growth import Growth
from neuromas.network.sampling import stream_key

Init = Literal["fade", "copy", "zero", "noise"]


def transplant(parent: Network, growth: Growth, init: Init, seed: int) -> Network:
    """A network of the larger topology in which old nodes keep their adapters.

    New ones begin as the bare backbone (`fade`, `zero`: these differ in how training lets them speak), as a copy of
    their sibling (`copy`), or with a random B that is as wide, in each tensor, as those of the old nodes (`noise`).
    Where all nodes are tied to one adapter they use that, whatever `init` says.
    """
    old = parent.adapters
    own = all(node == name for node, name in old.nodes.items())
    bank = AdapterBank(
        {node: node if own else old.names[0] for node in growth.topology.nodes},
        old.shapes,
        rank=old.rank,
        alpha=old.alpha,
        seed=seed,
        device=parent.backbone.device,
    )
    kept = [bank.names.index(name) for name in old.names]
    new = {node: bank.index[node] for node in growth.nodes if own}
    with torch.no_grad():
        for mine, theirs in zip(bank.stacks(), old.stacks(), strict=True):
            mine[kept] = theirs
            for node, n in new.items() if init == "copy" else ():
                mine[n] = mine[bank.index[sibling(growth, node)]]
        for key, stack in bank.B.items() if init == "noise" else ():
            width = stack[kept].square().mean().sqrt()
            for node, n in new.items():
                stack[n] = width * _normal(stack[n], stream_key(seed, "noise", node, key))
    child = Network(
        growth.topology,
        parent.backbone,
        bank,
        parent.limits,
        parent.decoding,
        words=parent.words,
        environment=parent.environment,
    )
    child.extras, child.engine = parent.extras, parent.engine
    return child


def sibling(growth: Growth, node: str) -> str:
    """The old node that a new one copies: of its layer, else of the nearest that has old ones (the earlier of two).

    The new nodes of a layer copy those in turn, so that what a layer knows is copied as evenly as it can be. The output
    counts only where no message node is old.
    """
    output, layers = growth.topology.output, growth.topology.layers
    here = next(i for i, row in enumerate(layers) if node in row)
    old = [[n for n in row if n not in growth.units and n != output] for row in layers]
    near = min((i for i, row in enumerate(old) if row), key=lambda i: (abs(i - here), i), default=None)
    choice = [output] if near is None else old[near]
    return choice[[n for n in layers[here] if n in growth.units].index(node) % len(choice)]


def _normal(like: Tensor, key: int) -> Tensor:
    generator = torch.Generator().manual_seed(key)
    return torch.randn(like.shape, generator=generator).to(like.device)
