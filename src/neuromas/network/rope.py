"""Rotary frequencies that depend on the longest row of a pass (`longrope`, `dynamic`).

transformers picks them from the largest position of the whole pass. A row therefore is what it would be alone only
where all of its pass lies on one side of the length at which they change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Rope:
    """kind: "longrope" has two sets of frequencies, "dynamic" one for each length above `switch`; None: they are fixed.

    switch: the length [tokens] up to which the first set holds."""

    kind: str | None = None
    switch: int = 0

    @classmethod
    def of(cls, config: Any) -> "Rope":
        """From a text config. Where several kinds of layers have such frequencies, the shortest length counts."""
        told = getattr(config, "rope_parameters", None) or {}
        each = [p for p in (told, *told.values()) if isinstance(p, Mapping)]
        found: list[Rope] = []
        for parameters in each:
            if parameters.get("rope_type") == "longrope":
                found.append(cls("longrope", parameters["original_max_position_embeddings"]))
            elif parameters.get("rope_type") == "dynamic":  # at that very length itself the old frequencies may linger
                found.append(cls("dynamic", config.max_position_embeddings - 1))
        return min(found, key=lambda rope: (rope.kind or "", rope.switch), default=cls())

    def fits(self, tokens: int) -> bool:
        """True where rows of up to `tokens` tokens may be in one pass."""
        return self.kind is None or tokens <= self.switch

    def steady(self, start: int, end: int) -> bool:
        """True where the states of a row's first `start` tokens hold until it has `end`."""
        return self.fits(end) or (self.kind == "longrope" and start > self.switch)

    def ends(self, tokens: int) -> list[int]:
        """The lengths of the passes in which each token of a row of `tokens` is the model's at its own place."""
        if self.fits(tokens):
            return [tokens]
        return [self.switch, *(range(self.switch + 1, tokens + 1) if self.kind == "dynamic" else [tokens])]

    def reset(self, model: nn.Module) -> None:
        """Forget the longest row so far, on which `dynamic` frequencies depend until a short one comes."""
        if self.kind != "dynamic":
            return
        for module in model.modules():
            names = [name for name in vars(module) if name.endswith("max_seq_len_cached")]
            for name in names:
                prefix = name.removesuffix("max_seq_len_cached")
                setattr(module, name, module.original_max_seq_len)
                getattr(module, f"{prefix}inv_freq").copy_(getattr(module, f"{prefix}original_inv_freq"))
