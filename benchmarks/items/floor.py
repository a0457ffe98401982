"""The machine's floor on a workload: how fast the model's own shapes of weights can be multiplied here."""

import time
from collections import Counter

import torch
from transformers import AutoModelForCausalLM

from benchmarks import floor
from benchmarks.items import measure
from benchmarks.work import Work
from neuromas.network.backbone import Backbone

TOKENS = (96, 512, 2048)  # rows of the product; the best rate counts


def shapes(folder: str) -> list[floor.Shape]:
    """Every linear weight of the model, equal ones counted together."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    counts = Counter((m.out_features, m.in_features) for m in linear)
    return [
        *(floor.Shape(out, inp, count) for (out, inp), count in counts.items()),
        floor.Shape(head.out_features, head.in_features, 1, head=True),
    ]


def best_rate(shape: floor.Shape, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """The highest FLOP/s seen for x [tokens, inp] @ weight.T, over TOKENS and at least 3 repeats of each."""
    weight = torch.randn(shape.out, shape.inp, dtype=dtype)
    best = 0.0
    for tokens in TOKENS:
        x = torch.randn(tokens, shape.inp, dtype=dtype)
        torch.nn.functional.linear(x, weight)
        began, runs = time.perf_counter(), 0
        while runs < 3 or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            best = max(best, 2 * shape.out * shape.inp * tokens / (time.perf_counter() - start))
            runs += 1
    return best


@torch.no_grad()
def main() -> None:
    args = measure.options()
    work: Work = args.work
    Backbone.load("tiny", device="cpu")  # sets the precision of float32 products as the library does
    found = shapes(work.model)
    laps, rates = measure.Laps(), list[float]()
    for _ in range(args.warmup + args.repeats):
        pairs = [(shape, best_rate(shape, getattr(torch, work.dtype))) for shape in found]
        seconds = floor.rollout_seconds(work, pairs)
        laps.rollout.append(seconds)
        laps.update.append(2 * seconds)
        rates.append(floor.rollout_flops(work, found) / seconds)
    measure.report(
        laps,
        args,
        gflops=round(max(rates) / 1e9, 1),
        rollout_gflop=round(floor.rollout_flops(work, found) / 1e9, 1),
        update_gflop=round(floor.update_flops(work, found) / 1e9, 1),
    )


if __name__ == "__main__":
    main()
