"""The least time that a workload's arithmetic can take on this machine.

Counted are the products with the frozen weights, at 2 FLOPs per weight and token:

    tokens through the decoder = unique prompt tokens + sampled tokens - rows   (nothing is read after a row's last)
    rollout = 2 × decoder weights × that + 2 × head weights × sampled tokens
    update  = 2 × rollout          the same forward again, and as much for the gradients of the activations

Frozen weights need no gradient of their own, so the backward pass is one forward's worth and not two. Left out, so
that the floor stays below any program: attention scores, norms, the adapters, sampling, the optimiser.

`seconds` divides by the fastest rate at which each shape of weight was ever multiplied here, in the dtype used.
"""

from dataclasses import dataclass

from benchmarks.work import Work


@dataclass(frozen=True)
class Shape:
    """A weight of shape [out, inp] that the model holds `count` times."""

    out: int
    inp: int
    count: int
    head: bool = False  # the output layer, run on sampled positions only

    def flops(self, tokens: int) -> int:
        return 2 * self.out * self.inp * self.count * tokens


def decoder_tokens(work: Work) -> int:
    return work.prompt_tokens + work.sampled_tokens - work.rows


def rollout_flops(work: Work, shapes: list[Shape]) -> int:
    """FLOPs of the forward pass that sampling cannot avoid."""
    return sum(s.flops(work.sampled_tokens if s.head else decoder_tokens(work)) for s in shapes)


def update_flops(work: Work, shapes: list[Shape]) -> int:
    return 2 * rollout_flops(work, shapes)


def rollout_seconds(work: Work, rates: list[tuple[Shape, float]]) -> float:
    """rates: FLOP/s at which each shape can be multiplied."""
    return sum(rollout_flops(work, [shape]) / rate for shape, rate in rates)
