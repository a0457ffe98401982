"""Computes the cost of data-parallel training with 1 to 1,024 workers and 3 to 1,000 nodes, without any training.

usage: python -m studies.scale.simulation    writes docs/results/scale/simulation.jsonl and .png

Every worker holds the backbone and all adapters, samples and replays its share of the questions, and sums its gradients
with the others' in one flat buffer (a ring). The planner computes the seconds of the passes (neuromas/plan/seconds.py).
For CPU cores its rates are fitted to benchmarks/results/sweep_rollouts.jsonl; for H100s they come from published peaks
and assumptions (neuromas/plan/devices.py). `ASSUMED` holds network, spread of lengths and cost of an optimiser's slice.

Legend: W worker, N node, P question, G rollout.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuromas.files import read_json_lines, write_json_lines
from neuromas.network.adapters import ATTENTION_TARGETS
from neuromas.plan.calibrate import fit
from neuromas.plan.devices import DEVICES, RUNTIME_BYTES, Device, stated_rates
from neuromas.plan.memory import STATE_BYTES
from neuromas.plan.model import ModelSizes
from neuromas.plan.seconds import Rates, sample_flops, sample_passes, seconds, update_flops
from neuromas.plan.work import LABEL_TOKENS, TurnWork, Work
from studies.shared import arguments

ROOT = Path(__file__).parents[2]
Line = dict[str, Any]


def _llama(
    name: str, layers: int, width: int, heads: int, kv: int, size: int, inner: int, vocabulary: int, n: int
) -> ModelSizes:
    q, k = heads * size, kv * size
    linear = {"q_proj": (q, width), "k_proj": (k, width), "v_proj": (k, width), "o_proj": (width, q)}
    linear |= {"gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)}
    return ModelSizes(name, layers, width, heads, q, k, inner, vocabulary, 2 * width, linear, n)


SMOLLM2 = _llama("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152, 134_515_008)
QWEN3 = _llama("Qwen3-0.6B", 28, 1024, 16, 8, 128, 3072, 151936, 596_049_920)
ASSUMED = {
    "cpu": {"bandwidth": 10e9 / 8, "latency": 100e-6},  # bytes/s and seconds a hop: 10 Gbit/s Ethernet
    "h100": {"bandwidth": 400e9 / 8, "latency": 10e-6},  # 400 Gbit/s InfiniBand
    "spread": 0.25,  # coefficient of variation of one question's cost
    "slice": 20e-6,  # seconds of the optimiser for one adapter's slice of one tensor; 18 to 30 µs seen here
    "write": 24,  # tokens a node writes
    "prompt": 80,  # tokens of a shared prefix
    "fan_in": 4,  # messages a node reads where the network is sparse
    "questions": 1024,  # P, of all workers together
    "rollouts": 8,  # G
}


@dataclass(frozen=True)
class Machine:
    """A kind of worker."""

    name: str
    model: ModelSizes
    dtype: str
    rates: Rates
    bandwidth: float
    latency: float


def fitted(results: Path) -> Rates:
    """Rates of one core at SmolLM2 in float32, from the ends of a sweep over rollouts (processor seconds, one run)."""
    ours = [x for x in read_json_lines(results / "sweep_rollouts.jsonl") if x["item"] == "neuromas"]
    ends = [(swept(x["x"]), x) for x in (ours[0], ours[-1])]
    passes = lambda work: len(list(work.replays()))
    sample = fit([(sample_passes(w), sample_flops(SMOLLM2, w), x["rollout_cpu_seconds"]) for w, x in ends])
    update = fit([(passes(w), update_flops(SMOLLM2, w), x["update_cpu_seconds"]) for w, x in ends])
    return Rates(*sample, *update)


def swept(rollouts: int) -> Work:
    """The workload of the sweep over rollouts: three nodes side by side, two Navigate questions, 16 tokens."""
    turns = tuple(TurnWork(f"1.{n}", 0, 79, 0, 16) for n in range(3))
    return Work(turns, 2, rollouts, 3, 8, ATTENTION_TARGETS, "float32", 8192, False, False, False)


def network(nodes: int, dtype: str, *, sparse: bool = True) -> Work:
    """A network with about as many layers as nodes in each, and an output.

    sparse: a node reads `fan_in` nodes of the layer before, else all of it.
    """
    hidden = nodes - 1
    layers = max(1, round(math.sqrt(hidden)))
    widths = [hidden // layers + (n < hidden % layers) for n in range(layers)] + [1]
    turns: list[TurnWork] = []
    for n, width in enumerate(widths):
        upstream = widths[n - 1] if n else 0
        reads = min(upstream, ASSUMED["fan_in"]) if sparse else upstream
        own = reads * (ASSUMED["write"] + LABEL_TOKENS)
        turns += [TurnWork(f"{n}.{k}", n, ASSUMED["prompt"], own, ASSUMED["write"]) for k in range(width)]
    P, G = ASSUMED["questions"], ASSUMED["rollouts"]
    return Work(tuple(turns), P, G, nodes, 8, ATTENTION_TARGETS, dtype, 8192, False, False, False)


def step(machine: Machine, work: Work, workers: int, draws: int = 200) -> Line:
    """Seconds of the parts of one step on the slowest worker, and the bytes that each worker holds and sends."""
    model, P = machine.model, work.questions
    share = replace(work, questions=max(1, round(P / workers)))
    # The planner packs every batch, which takes Python time: it computes a few questions, and the seconds are scaled.
    few = min(share.questions, 4)
    part = seconds(model, replace(share, questions=few), machine.rates)
    passes = sample_passes(share) * machine.rates.sample_pass  # the same for a batch of any number of rows
    scale = share.questions / few
    sample, update = passes + (part.sample - passes) * scale, part.update * scale
    generator = np.random.default_rng(0)
    sigma = math.sqrt(math.log1p(ASSUMED["spread"] ** 2 / share.questions))  # of a worker's mean over its questions
    slowest = np.exp(generator.normal(-(sigma**2) / 2, sigma, (draws, workers))).max(1).mean()
    parameters = work.adapters * model.adapter_parameters(work.targets, work.rank)
    size = 4 * parameters
    sent = 2 * (workers - 1) / workers * size
    exchange = sent / machine.bandwidth + 2 * (workers - 1) * machine.latency
    tensors = 2 * len(work.targets) * model.layers
    fixed = {"measure": part.measure, "exchange": exchange, "optimiser": work.adapters * tensors * ASSUMED["slice"]}
    parts = {"sample": sample, "update": update, "waiting": (slowest - 1) * (sample + update), **fixed}
    held = RUNTIME_BYTES + model.parameters * work.value_bytes + STATE_BYTES * parameters
    return {
        "machine": machine.name,
        "backbone": model.name,
        "nodes": len(work.turns),
        "workers": workers,
        "questions": share.questions * workers,
        "seconds": {name: round(value, 6) for name, value in parts.items()},
        "step": round(sum(parts.values()), 6),
        "buffer_megabytes": round(size / 1e6, 3),
        "sent_megabytes_per_worker": round(sent / 1e6, 3),
        "held_gigabytes_before_any_pass": round(held / 1e9, 3),
    }


WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NODES = (3, 7, 31, 100, 316, 1000)


def simulate(machines: list[Machine]) -> Iterator[Line]:
    """Lines of every machine, number of nodes and number of workers; efficiency is relative to one worker."""
    for machine in machines:
        for sparse in (True, False):
            for nodes in NODES:
                lines = [step(machine, network(nodes, machine.dtype, sparse=sparse), w) for w in WORKERS]
                for result in lines:
                    ideal = lines[0]["step"] / result["workers"]
                    yield {**result, "sparse": sparse, "efficiency": round(ideal / result["step"], 4)}


def draw(lines: list[Line], file: Path) -> None:
    """Shares of a step's time, efficiency, traffic and memory held."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8.5), layout="constrained")
    sparse = [x for x in lines if x["sparse"]]
    of = lambda machine, **fixed: [
        x for x in sparse if x["machine"] == machine and all(x[k] == v for k, v in fixed.items())
    ]
    for row, machine in enumerate(dict.fromkeys(x["machine"] for x in lines)):
        seven = of(machine, nodes=7)
        parts = list(seven[0]["seconds"])
        shares = [[x["seconds"][part] / x["step"] for x in seven] for part in parts]
        axes[row, 0].stackplot([x["workers"] for x in seven], shares, labels=parts)
        axes[row, 0].set(
            xscale="log", ylabel="share of a step", xlabel="workers", title=f"{machine}, 7 nodes", ylim=(0, 1)
        )
        axes[row, 0].legend(fontsize=8, loc="lower left")
        for nodes in NODES:
            curve = of(machine, nodes=nodes)
            axes[row, 1].plot(
                [x["workers"] for x in curve], [x["efficiency"] for x in curve], "o-", ms=3, label=f"{nodes} nodes"
            )
        axes[row, 1].set(xscale="log", ylim=(0, 1.05), xlabel="workers", ylabel="parallel efficiency", title=machine)
        axes[row, 1].legend(fontsize=8)
    for machine in dict.fromkeys(x["machine"] for x in lines):
        one = of(machine, workers=1024)
        label = one[0]["backbone"]
        axes[0, 2].plot(NODES, [x["buffer_megabytes"] for x in one], "o-", label=label)
        axes[1, 2].plot(NODES, [x["held_gigabytes_before_any_pass"] for x in one], "o-", label=label)
    axes[0, 2].set(xscale="log", yscale="log", xlabel="nodes", ylabel="MB", title="gradients exchanged in a step")
    axes[1, 2].set(
        xscale="log", yscale="log", xlabel="nodes", ylabel="GB", title="held by every worker before any pass"
    )
    for size in (24, 80):
        axes[1, 2].axhline(size, color="gray", lw=0.8, ls="--")
        axes[1, 2].text(NODES[0], size * 1.05, f"{size} GB", fontsize=8)
    axes[0, 2].legend(fontsize=8)
    axes[1, 2].legend(fontsize=8)
    figure.suptitle(
        f"Simulated: {ASSUMED['questions']} questions × {ASSUMED['rollouts']} rollouts a step, divided among the "
        "workers"
    )
    figure.savefig(file, dpi=110)


def machines(results: Path) -> list[Machine]:
    """A CPU core with rates fitted to a benchmark's results, and an H100 with those that are published."""
    memory, flops, bandwidth = DEVICES["h100"]
    stated = stated_rates(QWEN3, Device("h100", "cuda", int(memory), flops, bandwidth), "bfloat16")
    assert stated is not None
    return [
        Machine("one CPU core each (fitted)", SMOLLM2, "float32", fitted(results), **ASSUMED["cpu"]),
        Machine("one H100 each (assumed)", QWEN3, "bfloat16", stated, **ASSUMED["h100"]),
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "scale")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    computed = machines(args.results)
    about = {"assumed": ASSUMED, "rates": {m.name: m.rates.to_dict() for m in computed}}
    lines = list(simulate(computed))
    write_json_lines(args.out / "simulation.jsonl", [about, *lines])
    draw(lines, args.out / "simulation.png")
    print(json.dumps(about))


if __name__ == "__main__":
    main()
