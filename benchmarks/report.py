"""Lines of results: written as they come, with ratios, and as a table."""

import json
from pathlib import Path
from typing import Any

from neuromas.files import append_json_line

Line = dict[str, Any]


def emit(line: Line, out: Path | None) -> None:
    """Print a line of JSON, and append it to a file where one is given."""
    print(json.dumps(line), flush=True)
    if out is not None:
        append_json_line(out, line)


def with_ratios(line: Line, earlier: list[Line]) -> Line:
    """`line` with each phase's seconds divided by those of the floor and of neuromas, where `earlier` has them.

    Long prompts have two more ratios of the update: attention's products added at the rate of the other products, and
    added as the seconds that torch's fused kernel takes for them.
    """
    ratios: Line = {}
    for other, label in (("floor", "floor"), ("neuromas", "neuromas")):
        base = next((x for x in earlier if x["item"] == other and "skipped" not in x), None)
        if base is None or "skipped" in line or line["item"] in ("floor", other):
            continue
        for phase in ("rollout_seconds", "update_seconds"):
            if phase in line and phase in base:
                ratios[f"{phase.removesuffix('_seconds')}_to_{label}"] = round(line[phase] / base[phase], 3)
        if other == "floor" and "update_attention_gflop" in base and "update_seconds" in line:
            products = base["update_seconds"] * (1 + base["update_attention_gflop"] / base["update_gflop"])
            kernel = base["update_seconds"] + base["update_kernel_seconds"]
            ratios["update_to_floor_with_attention"] = round(line["update_seconds"] / products, 3)
            ratios["update_to_floor_with_kernel"] = round(line["update_seconds"] / kernel, 3)
        if step_seconds(line) and step_seconds(base):
            ratios[f"step_to_{label}"] = round(step_seconds(line) / step_seconds(base), 3)
        if other == "neuromas":
            ratios["peak_to_neuromas"] = round(line["peak_bytes"] / base["peak_bytes"], 3)
    return line | ratios


def step_seconds(line: Line) -> float:
    """Rollout and update together; 0 where one of them was not measured."""
    return line["rollout_seconds"] + line["update_seconds"] if "update_seconds" in line else 0.0


def table(lines: list[Line]) -> None:
    """Print the lines as a table."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("workload", "dtype", "item")
    phases = ("rollout s", "update s", "tokens/s", "seq/s", "peak GB")
    for title in (*phases, "rollout/floor", "update/floor", "step/ours"):
        shown.add_column(title, justify="right")
    for line in lines:
        start = [line["workload"], line["dtype"], line["item"]]
        if "skipped" in line:
            shown.add_row(*start, f"skipped: {line['skipped']}"[:60])
            continue
        number = lambda key, digits=2, line=line: f"{line[key]:.{digits}f}" if key in line else ""
        shown.add_row(
            *start,
            number("rollout_seconds"),
            number("update_seconds"),
            number("generated_tokens_per_second", 0),
            number("trained_sequences_per_second", 1),
            f"{line['peak_bytes'] / 1e9:.2f}",
            number("rollout_to_floor"),
            number("update_to_floor"),
            number("step_to_neuromas"),
        )
    Console(width=150).print(shown)
