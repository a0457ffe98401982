"""Measures the mismatch between the sampler's probabilities and the trainer's, and corrects for it.

An engine such as vLLM samples from μ, and the trainer differentiates π: the same weights, rounded otherwise, or not the
same weights, where an adapter went astray. Of each token that is replayed, both log-probabilities are known. The
difference is reported, corrected by truncated importance sampling, and refused above a bound. The library's own sampler
is held to the same bound; nothing is corrected there.

Legend: L replayed token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromas.errors import EngineError
from neuromas.results import EngineMetrics
from neuromas.train.objectives import kl_to_base, truncated_ratios


def usual_bound(dtype: torch.dtype) -> float:
    """KL in nats a token that rounding stays below: in float32 it gives about 1e-10 and an update 1e-5 or more, so that
    an adapter of the step before is found; in 16 bits rounding alone may hide one."""
    return 1e-6 if dtype == torch.float32 else 0.02


@dataclass
class Mismatch:
    """Sums over the tokens of a step, in as many parts as they are replayed."""

    cap: float | None = None  # of the ratios π / μ; None: the trainer itself has sampled, and nothing is corrected
    tokens: int = 0
    gap: float = 0.0  # largest |log π - log μ|
    kl: float = 0.0
    ratios: float = 0.0
    largest: float = 0.0  # ratio
    capped: int = 0

    def weights(self, own_L: Tensor, sampled_L: Tensor) -> Tensor | float:
        """Note log π and log μ of some tokens (no gradient); what their advantages are to be multiplied with."""
        self.tokens += len(own_L)
        self.gap = max(self.gap, (own_L - sampled_L).abs().max().item())
        self.kl += kl_to_base(sampled_L, own_L).sum().item()
        if self.cap is None:
            return 1.0
        ratios_L = (own_L - sampled_L).exp()
        self.ratios += ratios_L.sum().item()
        self.largest = max(self.largest, ratios_L.max().item())
        self.capped += int((ratios_L > self.cap).sum())
        return truncated_ratios(own_L, sampled_L, self.cap)

    def add(self, other: "Mismatch") -> None:
        """Count another worker's tokens too."""
        self.cap = other.cap
        self.gap, self.largest = max(self.gap, other.gap), max(self.largest, other.largest)
        self.tokens, self.capped = self.tokens + other.tokens, self.capped + other.capped
        self.kl, self.ratios = self.kl + other.kl, self.ratios + other.ratios

    def check(self, bound: float, step: int) -> None:
        """Raise `EngineError` where KL(μ ‖ π) is above `bound` nats a token or no number."""
        if self.kl <= bound * self.tokens:
            return
        who, else_ = ("the engine", 'use sampling.engine = "built-in"')
        if self.cap is None:
            who, else_ = "the sampler", "see what `neuromas backbones FOLDER --check` says of this model"
        raise EngineError(
            f"step {step}: {who} sampled from another policy than the trainer's: KL {self.kl / self.tokens:.3g} "
            f"nats a token over {self.tokens} tokens (largest difference {self.gap:.3g}), allowed are {bound:g} "
            "(train.max_mismatch). Nothing was changed. If both use the same weights and the precision explains it, "
            f'raise the bound or use backbone.dtype = "float32"; else {else_}'
        )

    def metrics(self) -> EngineMetrics | None:
        """The mismatch over all tokens; None where the trainer itself has sampled."""
        if self.cap is None:
            return None
        n = max(1, self.tokens)
        return EngineMetrics(
            tokens=self.tokens,
            kl=self.kl / n,
            ratio_mean=self.ratios / n,
            ratio_max=self.largest,
            capped=self.capped / n,
        )
