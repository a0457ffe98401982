"""Copy finished runs into docs/results and write its README: the table, the curves, and the floors.

usage: python tools/publish_results.py RUN [RUN …]    (run folders of `neuromas train`)
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuromas.evaluate.figure import save_figure
from neuromas.files import read_json_lines, write_text
from neuromas.run.folder import read_metrics
from neuromas.run.plots import curve_figure

TARGET = Path(__file__).parents[1] / "docs" / "results"
KEPT = ("config.json", "metrics.jsonl", "samples.jsonl", "answers.jsonl", "final.json")


def main(runs: list[Path]) -> None:
    for run in runs:
        if not (run / "final.json").is_file():
            sys.exit(
                f"{run} has no final.json: the run is not finished; continue it with neuromas train --resume --out "
                f"{run}"
            )
        (TARGET / run.name).mkdir(parents=True, exist_ok=True)
        generated = json.loads((run / "config.json").read_text(encoding="utf-8"))["task"]["name"].startswith(
            "reasoning-gym"
        )
        for name in KEPT:
            if (run / name).is_file() and (generated or name != "samples.jsonl"):
                shutil.copyfile(run / name, TARGET / run.name / name)
        if not generated:
            drop_messages(TARGET / run.name / "answers.jsonl")
        save_figure(curve_figure(read_metrics(run), run.name), TARGET / run.name / "curve.png")
    finals = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(TARGET.glob("*/final.json"))]
    notes = TARGET / "notes.md"
    text = [
        "# Results",
        "",
        "Studies, and comparisons of many systems, each with a report, raw lines and plots:",
        "",
        *(
            f"- [{report.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}]({report.parent.name}/report.md)"
            for report in sorted(TARGET.glob("*/report.md"))
        ),
        "",
        "## Single trainings on a real language model",
        "",
        (
            "Written by `python tools/publish_results.py` from the raw files in the folders here: `answers.jsonl` "
            "(every question), `metrics.jsonl` (every step), `config.json`, `final.json`. What nodes wrote about "
            "benchmark questions is left out, since it may quote them. Test questions are never trained on; what was "
            "chosen with a look at some of them is said below. Accuracy with its 95 % Wilson interval; one seed "
            "each, so differences between runs carry the luck of that seed too. *silent*: the same network with "
            "every message blanked."
        ),
        "",
        *([notes.read_text(encoding="utf-8").strip(), ""] if notes.is_file() else []),
        *table(finals),
    ]
    for final in finals:
        text += ["", f"## {final['run']}", "", *details(final)]
    (TARGET / "README.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print(f"wrote {TARGET / 'README.md'} ({len(finals)} runs)")


def drop_messages(answers: Path) -> None:
    """Leave out what nodes wrote about a benchmark's questions: it may quote them, and they are not ours to spread."""
    records = [r | {"messages": None} for r in read_json_lines(answers)]
    write_text(answers, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def table(finals: list[dict[str, Any]]) -> list[str]:
    lines = [
        (
            "| run | network | decoding | untrained | last | best on validation | silent | floor (best constant) | n |"
            " parsed | calls | tokens | trainable | steps |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for final in finals:
        for decoding in ("greedy", "sampled"):
            rows = {(r["checkpoint"], r["delivery"]): r for r in final["results"] if r["decoding"] == decoding}
            best = rows["best", "as sent"]
            floor = best["floors"]["best_constant"]
            cell = lambda *key, rows=rows: accuracy(rows[key]) if key in rows else "–"
            last = cell("last", "as sent") if ("last", "as sent") in rows else "= best"
            end = rows.get(("last", "as sent"), best)
            cost = (
                both(end, best, field)
                for field in (
                    lambda r: f"{r['parse_rate']:.0%}",
                    lambda r: f"{r['calls']:g}",
                    lambda r: f"{r['generated_tokens']:.1f}",
                    lambda r: f"{r['trainable_parameters']:,}",
                )
            )
            lines.append(
                f"| [{final['run']}]({final['run']}) | {topologies(final['config'])} | {decoding} "
                f"| {cell('untrained', 'as sent')} | {last} | **{accuracy(best)}** | {cell('best', 'blanked')} "
                f"| {floor:.1%} | {best['n']} | {' | '.join(cost)} | {final['steps']} |"
            )
    return lines


def topologies(config: dict[str, Any]) -> str:
    """The topology that a run begins with, and those that it grows to."""
    named = [config["topology"], *(stage["topology"] for stage in config.get("stages", []) if stage["topology"])]
    return " → ".join(dict.fromkeys(name or "single" for name in named))


def both(last: dict[str, Any], best: dict[str, Any], cost: Callable[[dict[str, Any]], str]) -> str:
    """Cost of the last checkpoint, and of the best one where that is another network: one before a growth."""
    same = last["trainable_parameters"] == best["trainable_parameters"]
    return cost(best) if same else f"{cost(last)} (best: {cost(best)})"


def accuracy(row: dict[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{row['accuracy']:.1%} [{low * 100:.0f}, {high * 100:.0f}]"


def details(final: dict[str, Any]) -> list[str]:
    first = final["results"][0]
    floors = first["floors"]
    out = [
        (
            f"`neuromas train recipes/{final['run']}.toml` · {first['task']} · seed {final['config']['seed']}. Floors "
            f"on its {first['n']} test questions: chance {floors['chance']:.1%}, majority of training answers "
            f"{floors['majority']:.1%}, best constant ({floors['constant_answer']}) {floors['best_constant']:.1%}."
        ),
        "",
        f"![learning curve]({final['run']}/curve.png)",
    ]
    for row in final["results"]:
        if row["delivery"] == "as sent" and row["decoding"] == "greedy":
            top = row["top_answer"]
            out += ["", f"- {row['checkpoint']}: commonest answer {top['answer']!r}, {top['share']:.0%} of all."]
    return [*out, *(f"- Warning: {w}" for w in final["warnings"])]


if __name__ == "__main__":
    main([Path(arg) for arg in sys.argv[1:]])
