"""Measures how the cost of this project grows: python -m benchmarks.sweep nodes rollouts prompt layers batching

Each sweep varies one thing on SmolLM2-135M, prints a JSON line per point (appended to OUT/sweep_NAME.jsonl) and
draws OUT/sweep_NAME.png.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import launch

Line = dict[str, Any]
STATE_BYTES = 16  # of one trained parameter: itself, its gradient, AdamW's two moments, all float32


@dataclass(frozen=True)
class Sweep:
    """Points of one curve: x -> the settings that differ from `BASE`."""

    label: str  # of the x axis
    points: dict[int, Line]
    apart: bool = False  # measured node by node too


BASE: Line = {"name": "sweep", "topology": "3", "layer_only": True, "questions": 2, "rollouts": 8, "tokens": 16}
CHAINS = {1: "1", 2: "1-1", 4: "1-1-1-1"}
SWEEPS = {
    "nodes": Sweep(
        "nodes, at equal total tokens", {n: {"topology": f"{n}", "questions": 16 // n} for n in (1, 2, 4, 8, 16)}
    ),
    "rollouts": Sweep("rollouts a question (G)", {g: {"rollouts": g} for g in (1, 2, 4, 8, 16)}),
    "prompt": Sweep("prompt tokens, about", {t: {"prompt_tokens": t} for t in (64, 128, 256, 512)}),
    "layers": Sweep("hidden layers of one node", {d: {"topology": t, "layer_only": False} for d, t in CHAINS.items()}),
    "batching": Sweep(
        "rows per node, 4 nodes", {r: {"topology": "4", "questions": 1, "rollouts": r} for r in (1, 2, 4, 8, 32)}, True
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(SWEEPS))
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--backbone", default="smollm2-135m", choices=["smollm2-135m", "tiny"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        lines = list[Line]()
        for x in SWEEPS[name].points:
            lines += point(name, x, args)
        if name == "nodes":
            lines.append(memory(lines))
            print(json.dumps(lines[-1]), flush=True)
        file = args.out / f"sweep_{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        draw(name, lines, args.out / f"sweep_{name}.png")


def point(name: str, x: int, args: argparse.Namespace) -> list[Line]:
    """One point of a sweep: the floor, this project, and this project node by node where that is compared."""
    sweep = SWEEPS[name]
    items = {"floor": launch.Item("floor"), "neuromas": launch.Item("ours")}
    if sweep.apart:
        items["node by node"] = launch.Item("ours", "apart")
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "work.json"
        spec = json.dumps(BASE | {"backbone": args.backbone} | sweep.points[x])
        launch.write_workload(spec, args.dtype, path, args.threads)
        for label, item in items.items():
            repeats = ["--repeats", str(args.repeats), "--warmup", str(args.warmup)]
            about = {"sweep": name, "x": x, "item": label, "dtype": args.dtype, "threads": args.threads}
            lines.append(about | launch.measure(item, path, args.threads, repeats))
            print(json.dumps(lines[-1]), flush=True)
    return lines


def memory(lines: list[Line]) -> Line:
    """Memory per added node, by least squares, beside that of its adapter, gradient and optimiser state.

    held: after the update, with gradients and optimiser state; peak: the highest during the step.
    """
    ours = [line for line in lines if line["item"] == "neuromas" and "skipped" not in line]
    state = STATE_BYTES * ours[0]["parameters_per_node"]
    per_node: Line = {"sweep": "nodes", "item": "memory", "state_bytes_per_node": state}
    for label, key in (("held", "resident_bytes"), ("peak", "peak_bytes")):
        if all(line[key] for line in ours):
            per_node[f"{label}_bytes_per_node"] = round(slope([(line["x"], line[key]) for line in ours]))
    return per_node


def slope(points: list[tuple[float, float]]) -> float:
    """Slope of the least-squares line through (x, y) points."""
    x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def draw(name: str, lines: list[Line], path: Path) -> None:
    """Seconds against x, rollout and update side by side; for nodes also the peak memory.

    With one thread, seconds of the processor: equal to wall time on an idle core, and fairer on a busy one.
    """
    from matplotlib.figure import Figure

    lines = [line for line in lines if "x" in line and "skipped" not in line]
    panels = {"rollout_seconds": "rollout, seconds", "update_seconds": "update, seconds"}
    if name == "nodes":
        panels["peak_bytes"] = "peak memory, GB"
    figure = Figure(figsize=(4.2 * len(panels), 3.4))
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (key, title) in zip(axes[0], panels.items(), strict=True):
        for item in dict.fromkeys(line["item"] for line in lines):
            if key == "peak_bytes" and item == "floor":
                continue
            mine = [line for line in lines if line["item"] == item]
            scale = 1e-9 if key == "peak_bytes" else 1.0
            style = "--" if item == "floor" else "o-"
            cpu = key.replace("_seconds", "_cpu_seconds")
            value = lambda line, key=key, cpu=cpu: line.get(cpu, line[key]) if line["threads"] == 1 else line[key]
            axis.plot([line["x"] for line in mine], [value(line) * scale for line in mine], style, label=item)
        axis.set_xscale("log", base=2)
        xs = sorted({line["x"] for line in lines})
        axis.set_xticks(xs, [str(x) for x in xs])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_xlabel(SWEEPS[name].label)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
