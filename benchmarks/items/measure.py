"""What all items share: reading the work, timing, peak memory, and the one line of JSON that they print."""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.work import Work


@dataclass
class Laps:
    """Seconds of every repeat, by phase."""

    rollout: list[float] = field(default_factory=list[float])
    update: list[float] = field(default_factory=list[float])

    def timed(self, phase: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        getattr(self, phase).append(time.perf_counter() - start)
        return result


def options() -> argparse.Namespace:
    """Every item takes the same ones; sets the number of threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1, help="repeats that are not reported")
    parser.add_argument("--matmul", default="highest", help="torch's float32 matmul precision, for peers on CPU")
    parser.add_argument("--variant", default="", help="for items that come in several")
    parser.add_argument("--micro-tokens", type=int, default=8192, help="tokens of one forward and backward (ours)")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(args.matmul)
    torch.manual_seed(0)
    args.work = Work.load(args.work)
    return args


def peak_bytes() -> int:
    """Peak resident memory of this process. Not ru_maxrss where /proc exists: that one counts the parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(laps: Laps, args: argparse.Namespace, **more: Any) -> None:
    """Print the item's figures: the median and every repeat that counts."""
    work: Work = args.work
    line: dict[str, Any] = {}
    for phase in ("rollout", "update"):
        kept = getattr(laps, phase)[args.warmup :]
        if kept:
            line[f"{phase}_seconds"] = statistics.median(kept)
            line[f"{phase}_repeats"] = [round(x, 4) for x in kept]
    if laps.rollout:
        line["generated_tokens_per_second"] = work.sampled_tokens / line["rollout_seconds"]
    if laps.update:
        line["trained_sequences_per_second"] = work.rows / line["update_seconds"]
    print(json.dumps({**line, "peak_bytes": peak_bytes(), **more}), flush=True)


def padded(rows: list[list[int]], fill: int) -> tuple[Any, Any]:
    """Ids and attention mask [B, T], padded on the left."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[fill] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def advantages(count: int) -> Any:
    """Arbitrary, none of them zero [count]."""
    import torch

    return torch.tensor([1.0, -1.0]).repeat(count // 2 + 1)[:count]
