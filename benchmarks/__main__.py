"""Measures the speed of one joint step, beside the floor and other libraries: python -m benchmarks --help."""

import argparse
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import launch, report
from benchmarks.work import Work

WORKLOADS = ("W", "W-3", "W-7", "W-tiny", "W-small")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--workloads", nargs="+", default=["W"], choices=WORKLOADS)
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--items", nargs="+", default=list(launch.ITEMS), choices=list(launch.ITEMS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1, help="repeats that are run first and not reported")
    parser.add_argument(
        "--peer-matmul", default="highest", help="float32 matmul precision of the peers; `medium` is what neuromas sets"
    )
    parser.add_argument("--micro-tokens", type=int, default=8192, help="train.micro_tokens of neuromas")
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file too")
    return parser.parse_args()


def main() -> None:
    args = options()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for workload in args.workloads:
            for dtype in args.dtypes:
                path = Path(scratch) / f"{workload}-{dtype}.json"
                launch.write_workload(workload, dtype, path, args.threads)
                lines += step_lines(args, path)
    report.table(lines)


def step_lines(args: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    """Measure every item on one workload; each line is printed as soon as it is known."""
    work = Work.load(path)
    about = {
        "workload": work.name,
        "dtype": work.dtype,
        "threads": args.threads,
        "rows": work.rows,
        "prompt_tokens": work.prompt_tokens,
        "sampled_tokens": work.sampled_tokens,
    }
    extra = ["--repeats", str(args.repeats), "--warmup", str(args.warmup)]
    lines: list[dict[str, Any]] = []
    for name in args.items:
        peer = launch.ITEMS[name].module not in ("ours", "floor")
        options = ["--matmul", args.peer_matmul] if peer else ["--micro-tokens", str(args.micro_tokens)]
        figures = launch.measure(launch.ITEMS[name], path, args.threads, extra + options)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"item": name, **about, **figures, "machine": platform.machine(), "at": when}
        lines.append(report.with_ratios(line, lines))
        report.emit(lines[-1], args.out)
    return lines


if __name__ == "__main__":
    main()
