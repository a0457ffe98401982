"""Measures parallel efficiency: a training step by 2 workers on 2 cores beside 1 worker on 1 core, same questions.

    python -m benchmarks.parallel --backbones tiny smollm2-135m --out benchmarks/results/parallel.jsonl

A worker is a process with one thread, pinned to a core of its own. Workers talk over gloo as under Ray Train, which
starts them and takes no part in a step. Blocks of 1 and of 2 workers take turns, so that other work on the machine
disturbs both alike; the first steps of a block are not reported. Efficiency is the median seconds of a step by 1
worker, divided by 2 × those by 2. With --weak each of the 2 has as many questions as the 1, and efficiency is the
seconds by 1 divided by those by 2.

Bytes of a step: those that a worker hands over (the gradients; the pickled metrics), and those that all programs of
this machine send over its loopback interface meanwhile, an upper bound of the traffic between the workers.
"""

import argparse
import json
import os
import pickle
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from benchmarks.items.ours import Alternating
from benchmarks.report import emit
from benchmarks.workloads import SPECS, Spec, network, questions
from neuromas.config import TrainConfig
from neuromas.train.step import train_step
from neuromas.workers import Workers

WORKLOADS = {
    "tiny": Spec(**{**vars(SPECS["W-tiny"]), "name": "P-tiny", "questions": 32}),
    "smollm2-135m": Spec("P-smollm2", "1-1", questions=8),
}
Line = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parallel", description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--cores", nargs=2, type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=5, help="reported steps of a block")
    parser.add_argument("--warmup", type=int, default=1, help="steps of a block before them")
    parser.add_argument("--blocks", type=int, default=3, help="of each number of workers")
    parser.add_argument("--weak", action="store_true", help="as many questions for each worker")
    parser.add_argument("--questions", type=int, help="of a step by 1 worker, in place of the workload's")
    parser.add_argument("--micro-tokens", type=int, default=1024)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file too")
    args = parser.parse_args()
    for backbone in args.backbones:
        blocks: list[Line] = []
        for _, n in product(range(args.blocks), (1, 2)):
            blocks.append(block(backbone, n, args))
            emit(blocks[-1], args.out)
        emit(summary(blocks), args.out)


def block(backbone: str, workers: int, args: argparse.Namespace) -> Line:
    """Run some steps by `workers` processes; returns the measurements of the first one."""
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(backbone, rank, workers, Path(folder), args) for rank in range(workers)]
        processes = [spawn.Process(target=work, args=a) for a in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode != 0 for process in processes):
            raise SystemExit(f"a worker ended with {[process.exitcode for process in processes]}")
        return json.loads((Path(folder) / "block.json").read_text(encoding="utf-8"))


def work(backbone: str, rank: int, size: int, folder: Path, args: argparse.Namespace) -> None:
    """Run the steps of one worker; the first one writes block.json."""
    os.sched_setaffinity(0, {args.cores[rank]})
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=(folder / "store").as_uri(), rank=rank, world_size=size)
    workers, spec = Workers.joined(), WORKLOADS[backbone]
    many = (args.questions or spec.questions) * (size if args.weak else 1)
    spec = replace(spec, questions=many)
    net, batch, task = network(spec, args.dtype), questions(spec), Alternating()
    optimizer = torch.optim.AdamW(net.adapters.stacks(), lr=1e-6, weight_decay=0.0)
    settings: Line = {"questions": many, "rollouts": spec.rollouts, "micro_tokens": args.micro_tokens}
    config, sent = TrainConfig(**settings), counted()
    steps: list[dict[str, float]] = []
    for step in range(1, args.warmup + args.steps + 1):
        sent.clear()
        distributed.barrier()
        start, loopback, busy = time.perf_counter(), loopback_bytes(), time.process_time()
        done = train_step(net, optimizer, task, batch, config, step=step, seed=0, workers=workers)
        seconds, cpu = time.perf_counter() - start, time.process_time() - busy
        distributed.barrier()
        bytes_sent = {"gradient_bytes": sum(sent.get("gradients", [])), "figure_bytes": sum(sent.get("figures", []))}
        bytes_sent["loopback_bytes"] = loopback_bytes() - loopback
        steps.append({"seconds": seconds, "cpu_seconds": cpu, **done.metrics.seconds, **bytes_sent})
    if workers.first:
        line = {"backbone": backbone, "workers": size, "cores": args.cores[:size], "dtype": args.dtype}
        line |= {"topology": spec.topology, "weak": args.weak, **settings}
        line |= {"adapter_bytes": 4 * net.adapters.trainable_parameters, "steps": steps[args.warmup :]}
        (folder / "block.json").write_text(json.dumps(line), encoding="utf-8")
    distributed.barrier()


def counted() -> dict[str, list[int]]:
    """Start to count the bytes that this process hands over for each sum of gradients and each exchange."""
    sent: dict[str, list[int]] = {}
    reduce, gather = distributed.all_reduce, distributed.all_gather_object

    def all_reduce(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sent.setdefault("gradients", []).append(tensor.numel() * tensor.element_size())
        return reduce(tensor, *args, **kwargs)

    def all_gather_object(gathered: list[Any], mine: Any, *args: Any, **kwargs: Any) -> Any:
        sent.setdefault("figures", []).append(len(pickle.dumps(mine)))
        return gather(gathered, mine, *args, **kwargs)

    distributed.all_reduce, distributed.all_gather_object = all_reduce, all_gather_object
    return sent


def loopback_bytes() -> int:
    """Bytes that programs of this machine have sent over its loopback interface so far; 0 where unknown."""
    table = Path("/proc/net/dev")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    return next((int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:")), 0)


def summary(blocks: list[Line]) -> Line:
    """Efficiency over all blocks, and of each pair of neighbours, which shows its spread."""
    of = lambda lines, field: [step[field] for line in lines for step in line["steps"]]
    one, two = ([line for line in blocks if line["workers"] == n] for n in (1, 2))
    median = lambda lines, field: statistics.median(of(lines, field))
    work = two[0]["questions"] / one[0]["questions"]  # 2 with --weak
    gain = lambda a, b: work * median(a, "seconds") / (2 * median(b, "seconds"))
    pairs = [gain([a], [b]) for a, b in zip(one, two, strict=True)]
    busy = lambda lines: sum(of(lines, "cpu_seconds")) / sum(of(lines, "seconds"))
    return {
        "backbone": blocks[0]["backbone"],
        "weak": blocks[0]["weak"],
        "questions": one[0]["questions"],
        "efficiency": gain(one, two),
        "efficiency_by_pair": pairs,
        "seconds": {"1": median(one, "seconds"), "2": median(two, "seconds")},
        "busy": {"1": busy(one), "2": busy(two)},  # share of its core's time that the first worker used
        "exchange_seconds": median(two, "exchange"),  # waiting for the slower worker included
        "adapter_bytes": two[0]["adapter_bytes"],
        **{field: median(two, field) for field in ("gradient_bytes", "figure_bytes", "loopback_bytes")},
    }


if __name__ == "__main__":
    main()
