"""Ratios and the table."""

from typing import Any

Line = dict[str, Any]


def with_ratios(line: Line, before: list[Line]) -> Line:
    """`line` with each phase's seconds divided by the floor's and by neuromas's, where `before` has them."""
    ratios: Line = {}
    for other, label in (("floor", "floor"), ("neuromas", "neuromas")):
        found = next((x for x in before if x["item"] == other and "skipped" not in x), None)
        if found is None or "skipped" in line or line["item"] in ("floor", other):
            continue
        for phase in ("rollout_seconds", "update_seconds"):
            if phase in line and phase in found:
                ratios[f"{phase.removesuffix('_seconds')}_to_{label}"] = round(line[phase] / found[phase], 3)
        if step_seconds(line) and step_seconds(found):
            ratios[f"step_to_{label}"] = round(step_seconds(line) / step_seconds(found), 3)
        if other == "neuromas":
            ratios["peak_to_neuromas"] = round(line["peak_bytes"] / found["peak_bytes"], 3)
    return line | ratios


def step_seconds(line: Line) -> float:
    """Rollout and update together; 0 where one of them was not measured."""
    return line["rollout_seconds"] + line["update_seconds"] if "update_seconds" in line else 0.0


def table(lines: list[Line]) -> None:
    """Print the lines for people."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("workload", "dtype", "item")
    for title in (
        "rollout s",
        "update s",
        "tokens/s",
        "seq/s",
        "peak GB",
        "rollout/floor",
        "update/floor",
        "step/ours",
    ):
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
