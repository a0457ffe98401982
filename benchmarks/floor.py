"""The least time that a workload's arithmetic can take on this machine.

Counted are the products with the frozen weights, at 2 FLOPs per weight and token:

    tokens through the decoder = unique prompt tokens + sampled tokens - rows   (nothing is read after a row's last)
    rollout = 2 × decoder weights × that + 2 × head weights × sampled tokens
    update  = 2 × rollout          the same forward again, and as much for the gradients of the activations

Frozen weights need no gradient of their own, so the backward pass is one forward's worth and not two. Left out, so
that the floor stays below any program: attention scores, norms, the adapters, sampling, the optimiser.

`rollout_seconds` divides by the fastest rate at which each shape of weight was ever multiplied here, in the dtype used.

With long prompts attention is no longer small. Its products are counted apart, 2 × 2 FLOPs per query, key seen, head
and channel forwards, and twice that backwards:

    keys seen = prefix tokens × (prefix tokens + 1) / 2 for each prefix + (own tokens × tokens before them) for each row
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


def attention_flops(work: Work, layers: int, heads: int, channels: int) -> int:
    """FLOPs of attention's products in one forward pass over prefixes and the rows that continue them."""
    seen = 0
    for node in work.nodes:
        lengths = [len(ids) for ids in node.prefix_ids]
        seen += sum(n * (n + 1) // 2 for n in lengths)
        for row, own in enumerate(node.own_ids):
            n, more = lengths[row // work.rollouts], len(own) + node.tokens - 1  # nothing is read after the last token
            seen += more * n + more * (more + 1) // 2
    return 4 * seen * layers * heads * channels


def rollout_seconds(work: Work, rates: list[tuple[Shape, float]]) -> float:
    """rates: FLOP/s at which each shape can be multiplied."""
    return sum(rollout_flops(work, [shape]) / rate for shape, rate in rates)
