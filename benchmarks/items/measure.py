"""Code that all items share: reading the work, timing, peak memory, and the one line of JSON that they print."""

import argparse
import ctypes
import gc
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.work import Work


@dataclass(frozen=True)
class Lap:
    """Seconds that something took."""

    wall: float = 0.0  # seconds
    cpu: float | None = 0.0  # seconds of all threads together; None where it was not measured

    def __add__(self, other: "Lap") -> "Lap":
        return Lap(self.wall + other.wall, None if None in (self.cpu, other.cpu) else self.cpu + other.cpu)

    def __sub__(self, other: "Lap") -> "Lap":
        return self + Lap(-other.wall, None if other.cpu is None else -other.cpu)


def now(pid: int | None = None) -> Lap:
    """The clock of this process; pid: a process whose processor time counts too."""
    return Lap(time.perf_counter(), time.process_time() + (cpu_seconds(pid) if pid else 0.0))


def cpu_seconds(pid: int) -> float:
    """Processor time of another process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Laps:
    """Every repeat, by phase."""

    pid: int | None = None  # a process that works for this one
    rollout: list[Lap] = field(default_factory=list[Lap])
    update: list[Lap] = field(default_factory=list[Lap])

    def timed(self, phase: str, call: Callable[[], Any]) -> Any:
        start = now(self.pid)
        result = call()
        getattr(self, phase).append(now(self.pid) - start)
        return result


def options() -> argparse.Namespace:
    """The options of every item. Sets the number of threads, matmul precision and seed of torch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1, help="repeats that are not reported")
    parser.add_argument("--matmul", default="highest", help="torch's float32 matmul precision, for peers on CPU")
    parser.add_argument("--variant", default="", help="for items that come in several")
    parser.add_argument("--micro-tokens", type=int, default=8192, help="tokens of one forward and backward (ours)")
    parser.add_argument("--rows", type=int, default=0, help="rows of one forward and backward (peft); 0: a node's")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(args.matmul)
    torch.manual_seed(0)
    args.work = Work.load(args.work)
    return args


def peak_bytes(pid: int | None = None) -> int:
    """Peak resident memory of a process, by default of this one.

    ru_maxrss, which counts the parent's too, is read only where /proc is missing.
    """
    return _status("VmHWM", pid) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int | None:
    """Memory held now, after free memory has been given back; None where /proc or glibc is missing."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim and (trim(0), _status("VmRSS"))[1]


def _status(field: str, pid: int | None = None) -> int | None:
    file = Path(f"/proc/{pid or 'self'}/status")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


def report(laps: Laps, args: argparse.Namespace, **more: Any) -> None:
    """Print the item's measurements: the median and every repeat after the warm-up.

    CPU seconds far below wall seconds times threads mean that something else used the cores.
    """
    work: Work = args.work
    line: dict[str, Any] = {}
    for phase in ("rollout", "update"):
        kept: list[Lap] = getattr(laps, phase)[args.warmup :]
        if kept:
            line[f"{phase}_seconds"] = statistics.median(lap.wall for lap in kept)
            line[f"{phase}_repeats"] = [round(lap.wall, 4) for lap in kept]
        cpu = [lap.cpu for lap in kept if lap.cpu is not None]
        if cpu:
            line[f"{phase}_cpu_seconds"] = round(statistics.median(cpu), 4)
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
    """Arbitrary advantages, none of them zero [count]."""
    import torch

    return torch.tensor([1.0, -1.0]).repeat(count // 2 + 1)[:count]
