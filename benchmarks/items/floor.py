"""The machine's floor on a workload: the rate at which the model's shapes of weights can be multiplied here.

Where a prompt has at least `LONG` tokens, attention of prefixes is timed too, as torch's own fused kernel computes it,
forwards and backwards: what is left to win for anybody who writes no kernel.
"""

import statistics
import time
from collections import Counter

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks import floor
from benchmarks.items import measure
from benchmarks.work import Work
from neuromas.network.backbone import Backbone

TOKENS = (96, 512, 2048)  # rows of the product; the best rate counts
LONG = 1024  # prompt tokens


def shapes(folder: str) -> list[floor.Shape]:
    """Every linear weight of the model, equal ones counted together."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    head = model.get_output_embeddings()
    assert isinstance(head, torch.nn.Linear)
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    counts = Counter((m.out_features, m.in_features) for m in linear)
    return [
        *(floor.Shape(out, inp, count) for (out, inp), count in counts.items()),
        floor.Shape(head.out_features, head.in_features, 1, head=True),
    ]


def rates(shape: floor.Shape, dtype: torch.dtype, seconds: float = 0.3) -> tuple[float, float]:
    """FLOP/s of x [tokens, inp] @ weight.T at the best of TOKENS: the highest seen, and the median of the repeats."""
    weight = torch.randn(shape.out, shape.inp, dtype=dtype)
    best = typical = 0.0
    for tokens in TOKENS:
        x = torch.randn(tokens, shape.inp, dtype=dtype)
        torch.nn.functional.linear(x, weight)
        began, seen = time.perf_counter(), list[float]()
        while len(seen) < 3 or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            seen.append(2 * shape.out * shape.inp * tokens / (time.perf_counter() - start))
        best, typical = max(best, *seen), max(typical, statistics.median(seen))
    return best, typical


def attention(work: Work) -> dict[str, float]:
    """The attention of an update: its products in GFLOP, and seconds of torch's fused kernel on all prefixes.

    The kernel's seconds are the least of three, with keys and values shared by query heads as in the model.
    """
    config = AutoConfig.from_pretrained(work.model)
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    channels = getattr(config, "head_dim", None) or config.hidden_size // heads
    flops = 3 * floor.attention_flops(work, config.num_hidden_layers, heads, channels)
    seconds = 0.0
    for length, count in Counter(len(ids) for node in work.nodes for ids in node.prefix_ids).items():
        drawn = lambda n, length=length: torch.randn(
            1, n, length, channels, dtype=getattr(torch, work.dtype), requires_grad=True
        )
        q, k, v, seen = drawn(heads), drawn(shared), drawn(shared), list[float]()
        for _ in range(3):
            start = time.perf_counter()
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != shared)
            torch.autograd.grad(out, (q, k, v), out)
            seen.append(time.perf_counter() - start)
        seconds += min(seen) * count * config.num_hidden_layers
    return {"update_attention_gflop": round(flops / 1e9, 1), "update_kernel_seconds": seconds}


def is_long(work: Work) -> bool:
    return max(len(ids) for node in work.nodes for ids in node.prefix_ids) >= LONG


def main() -> None:
    args = measure.options()
    work: Work = args.work
    Backbone.load("tiny", device="cpu")  # sets the precision of float32 products as the library does
    weights = shapes(work.model)
    long = attention(work) if is_long(work) else {}
    laps, typical = measure.Laps(), list[float]()
    for _ in range(args.warmup + args.repeats):
        with torch.no_grad():
            seen = [rates(shape, getattr(torch, work.dtype)) for shape in weights]
        best, usual = (
            floor.rollout_seconds(work, [(shape, pair[i]) for shape, pair in zip(weights, seen, strict=True)])
            for i in (0, 1)
        )
        laps.rollout.append(measure.Lap(best, None))
        laps.update.append(measure.Lap(2 * best, None))
        typical.append(usual)
    measure.report(
        laps,
        args,
        gflops=round(floor.rollout_flops(work, weights) / min(lap.wall for lap in laps.rollout) / 1e9, 1),
        typical_gflops=round(floor.rollout_flops(work, weights) / statistics.median(typical) / 1e9, 1),
        rollout_gflop=round(floor.rollout_flops(work, weights) / 1e9, 1),
        update_gflop=round(floor.update_flops(work, weights) / 1e9, 1),
        **long,
    )


if __name__ == "__main__":
    main()
