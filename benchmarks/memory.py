"""Measures what an update keeps as messages get longer: python -m benchmarks.memory --help

One replay with its backward pass of two nodes side by side, two rows of one question each, prompts of 256 random ids,
on the random six-layer model of `benchmarks.length`. Every length runs in a process of its own; what is counted is the
peak resident memory of the update less what was resident before it (Linux). Writes OUT/memory.jsonl and OUT/memory.png.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import launch
from benchmarks.items.measure import peak_bytes, resident_bytes
from benchmarks.length import save_model
from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.generate import replay
from neuromas.network.packed import Group

LENGTHS = (64, 128, 256, 512, 1024, 2048)
PROMPT, ROWS = 256, 2


def update(folder: Path, tokens: int) -> dict[str, Any]:
    """The peak of one update in this process."""
    backbone = Backbone.load(str(folder), dtype="float32")
    bank = AdapterBank({"1": "1", "2": "2"}, backbone.adapter_shapes(), rank=8, alpha=8, seed=0)
    drawn = random.Random(0)
    ids = lambda n: [drawn.randrange(256) for _ in range(n)]
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = time.process_time()
    groups = [Group(node, ids(PROMPT), [[] for _ in range(ROWS)]) for node in (0, 1)]
    logprobs, _ = replay(backbone, bank, groups, [ids(tokens) for _ in range(2 * ROWS)], 1.0)
    logprobs.sum().backward()
    return {
        "tokens": tokens,
        "rows": 2 * ROWS,
        "prompt": PROMPT,
        "update_bytes": peak_bytes() - (before or 0),
        "update_cpu_seconds": round(time.process_time() - began, 2),
        "torch": torch.__version__,
    }


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """The peak over the length, and the straight line through the two longest."""
    import matplotlib.pyplot as plt

    x, y = [line["tokens"] for line in lines], [line["update_bytes"] / 1e9 for line in lines]
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    axes.plot([0, x[-1]], [y[-1] - slope * x[-1], y[-1]], color="0.7", linestyle="--", label="a straight line")
    axes.plot(x, y, marker="o", label="measured")
    axes.set(xlabel="tokens of a message", ylabel="memory of an update, GB", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("lengths", nargs="*", type=int, default=LENGTHS, help="tokens of a message")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # measure in this process, with the model there
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(1)
        print(json.dumps(update(args.one, args.lengths[0])))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        save_model(Path(scratch), layers=6)
        for tokens in args.lengths:
            command = [sys.executable, "-m", "benchmarks.memory", str(tokens), "--one", scratch]
            lines.append(launch.run(command, threads=1))
            print(json.dumps(lines[-1]), flush=True)
    (args.out / "memory.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot(lines, args.out / "memory.png")


if __name__ == "__main__":
    main()
