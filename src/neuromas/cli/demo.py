"""`neuromas demo`: a comparison on the embedded backbone, in minutes, shown in its own way.

A small network learns beside the controls that keep it honest: one model with as many trainable parameters, the same
spending the network's calls on a vote, and one model that writes to itself as often as the network's nodes write (a
scratchpad: same calls, same tokens, same parameters, no organisation).
"""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from neuromas.cli.options import Positive
from neuromas.cli.show import console, grid, percent, print_trace, sparkline
from neuromas.errors import ConfigError
from neuromas.files import write_json
from neuromas.markup import say
from neuromas.network.drawing import to_text
from neuromas.network.topology import Topology
from neuromas.recipe import TomlTable
from neuromas.results import ComparisonRow, StepMetrics

if TYPE_CHECKING:
    from neuromas.compare.spec import Spec
    from neuromas.compare.work import Trial

TITLE = "A network of language models learns from its final reward"
TOPOLOGY, DEPTH, RANK, NODES = "2", 2, 8, 3  # depth of the expressions
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_VOTE = f"control_params, vote of {NODES}"
_SYSTEMS = {  # key of the summary and of the curves → row of the comparison
    "untrained": "trained, untrained",
    "trained": "trained",
    "control_params": "control_params",
    "control_vote": _VOTE,
    "control_scratchpad": "control_scratchpad",
}
_VARIANTS = {"sampled": ", sampled", "last": ", last checkpoint", "messages_blanked": ", blanked"}
_FIGURES = (  # those of summary.json, in its order
    *("accuracy", "ci95", "n", "seeds", "by_seed", "calls", "sequential_calls", "generated_tokens"),
    *("sequential_tokens", "prompt_tokens", "trainable_parameters", "parse_rate", "floors"),
)
_LABELS = {
    "untrained": "untrained network",
    "control_params": "one model",
    "control_vote": "one model, vote",
    "control_scratchpad": "one model, scratchpad",
    "trained": "trained network",
}
_WRITTEN = re.compile(  # every file of a demonstration's folder
    r"""(.+/)?\.[^/]+\.tmp | \.lock | \.workers | (spec|summary)\.json | (cells|answers)\.jsonl | \.?curve\.png
    | runs/(trained|control_params|control_scratchpad)/compositional/lr[^/]+/ (
        \.owner | (config|done|task|failed-step-\d+)\.json | (metrics|samples)\.jsonl | best | tensorboard/events[^/]+
        | checkpoints/[^/]+/ ((topology|state)\.json | optimizer\.safetensors | nodes/[^/]+/adapter_[^/]+)
    )""",
    re.VERBOSE,
)


def main(
    out: Path = Path("runs/demo"),
    seeds: Positive = 3,
    steps: Positive = 40,
    test: Positive = 512,
    workers: Positive = 2,
) -> None:
    """Train a network of three nodes from its final reward, beside its controls, and show what it learned.

    Args:
        out: Folder for the runs, summary.json and curve.png; one that was interrupted goes on, another is replaced.
        seeds: Training runs of each system.
        steps: Updates of each run.
        test: Held-out questions.
        workers: Processes; each uses one core.
    """
    import time

    from neuromas.cli.compare import run_with_bar
    from neuromas.compare.spec import Spec
    from neuromas.evaluate import table
    from neuromas.run.folder import read_metrics
    from neuromas.run.plots import compare_curves

    spec = Spec.make(settings(seeds, steps, test))
    start = time.perf_counter()
    if not _interrupted(spec, out):
        _replace(out)
    console.print(f"[bold]{TITLE}[/]\n")
    console.print(to_text(Topology.parse(TOPOLOGY)), markup=False, highlight=False)
    console.print(
        f"\nTask: expressions of {2**DEPTH} digits, modulo 10. Every node is the same frozen model with "
        "an adapter of its own.\nA node is told where it stands, never what to do. "
        "The only reward: is the final answer right?\n"
    )
    run_with_bar(spec, out, workers, threads=1)
    rows = {row.system: row for row in table.rows(table.read_cells(out))}
    seconds = time.perf_counter() - start
    summary = {key: _summary(key, row, rows) for key, row in _SYSTEMS.items()}

    trials = _trials(spec, out, rows)
    curves = {name: [read_metrics(trial.folder) for trial in trials[name]] for name in trials}
    picture = compare_curves(curves, _LABELS, out / "curve.png", "Validation accuracy while training (greedy)")
    console.print(_table(rows))
    console.print(_notes(rows), highlight=False, markup=False)
    _show_curves(curves)
    _show_traces(trials["trained"][0])
    write_json(out / "summary.json", summary | {"seconds": round(seconds, 1)})
    places = f"Figures: {out / 'summary.json'}; curves: {picture}; runs: {out / 'runs'}"
    console.print(f"\n{seconds:.0f} s. {places}", markup=False)
    run = trials["trained"][0].folder
    say(
        "now try:",
        f'  neuromas ask {run} "(a(3+5)*b(2*7))"   # every message on the way',
        f"  neuromas serve {run}   # OpenAI's API, and a page that shows it think",
        f"  neuromas inspect {run}   # what each node is worth",
        "  neuromas init data.csv   # from a table of yours to a network for it",
    )


def settings(seeds: int, steps: int, test: int) -> TomlTable:
    """The demonstration as the spec of a comparison.

    Every trained system has as many trainable parameters as the others, and draws as many samples.
    """
    further = [{"decoding": "sampled"}, {"checkpoint": "last"}]
    untrained = [{"checkpoint": "untrained", **way} for way in ({}, {"decoding": "sampled"}, {"delivery": "blanked"})]
    wide = RANK * NODES
    return {
        "title": TITLE,
        "seeds": range(seeds),
        "learning_rates": [5e-4, 1e-3, 2e-3, 4e-3],
        # No setting was chosen on questions of seed 1; those of seed 0 had been looked at.
        "tasks": [{"name": "compositional", "options": {"depth": DEPTH, "seed": 1}, "questions": test}],
        "adapter": {"rank": RANK, "targets": ALL_LINEAR},
        "sampling": {"message_tokens": 12},
        "train": {"steps": steps, "checkpoint_every": 10, "micro_tokens": 32768},
        "systems": {
            "trained": {"topology": TOPOLOGY, "variants": [*further, *untrained]},
            "control_params": {"topology": "single", "adapter": {"rank": wide}, "variants": further},
            "control_scratchpad": {
                "topology": "-".join("1" * (NODES - 1)) + "+skip",
                "adapter": {"rank": wide, "tied": True},
                "variants": further,
                "controls": ["blanked"],
            },
        },
    }


def _interrupted(spec: "Spec", out: Path) -> bool:
    """True where this very demonstration has begun and not ended."""
    from neuromas.compare.store import SPEC

    begun = (out / SPEC).is_file() and not (out / "summary.json").exists()
    return begun and json.loads((out / SPEC).read_text(encoding="utf-8")) == spec.model_dump(mode="json")


def _replace(out: Path) -> None:
    """Delete an earlier demonstration, file by file.

    Raises ConfigError where `out` holds a file that no demonstration writes, or another one is at work there.
    """
    from neuromas.compare.store import SPEC, lock

    paths = [Path(folder) / name for folder, _, names in os.walk(out) for name in names]
    paths += [path for path in out.rglob("*") if path.is_symlink() and path not in paths]
    if not paths:
        return
    strange = [path for path in paths if not _WRITTEN.fullmatch(path.relative_to(out).as_posix())]
    made = (out / SPEC).is_file() and f'"title": {json.dumps(TITLE)}' in (out / SPEC).read_text(encoding="utf-8")
    if strange or not made:
        example = strange[0] if strange else paths[0]
        raise ConfigError(f"{out} holds {example.name!r}, which no demonstration wrote; choose another --out")
    held = lock(out)
    for path in sorted(paths, key=lambda path: path.name == SPEC):  # last the proof of whose folder it is
        path.unlink()
    for folder in sorted((path for path in out.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    held.close()


def _summary(key: str, name: str, rows: dict[str, ComparisonRow]) -> TomlTable:
    """A system's figures over its seeds, with the accuracy of each variant, as summary.json holds them."""
    row = rows[name].to_dict()
    figures = {field: row[field] for field in _FIGURES}
    for variant, label in _VARIANTS.items():
        if name + label in rows:
            figures[f"accuracy_{variant}"] = rows[name + label].accuracy
    if row["learning_rate"] is not None:
        figures["learning_rate"] = row["learning_rate"]
    if key == name:  # a training of its own
        figures["validation_by_rate"] = row["validation_by_rate"]
    return figures


def _trials(spec: "Spec", out: Path, rows: dict[str, ComparisonRow]) -> dict[str, list["Trial"]]:
    """System → its training runs at the learning rate chosen, one for each seed."""
    from neuromas.compare.plan import make_plan
    from neuromas.compare.work import Trial

    return {
        contender.name: [
            Trial(out, contender, spec.tasks[0], seed, rows[contender.name].learning_rate) for seed in spec.seeds
        ]
        for contender in make_plan(spec).contenders
    }


def _table(rows: dict[str, ComparisonRow]) -> Table:
    table = grid("test accuracy", "greedy [95 %]", "each seed", "sampled", "silent", "calls", "tokens")
    for key, label in _LABELS.items():
        name = _SYSTEMS[key]
        row, variants = rows[name], (rows.get(name + _VARIANTS[which]) for which in ("sampled", "messages_blanked"))
        table.add_row(
            f"[bold]{label}[/]" if key == "trained" else label,
            percent(row.accuracy, row.ci95, digits=0),
            " ".join(f"{a * 100:.0f}" for a in row.by_seed),
            *(f"{variant.accuracy:.1%}" if variant else "–" for variant in variants),
            f"{row.calls:g}",
            f"{row.generated_tokens:.0f}",
        )
    return table


def _notes(rows: dict[str, ComparisonRow]) -> str:
    row = rows["trained"]
    floors, worst = row.floors, min(rows[name].parse_rate for name in _SYSTEMS.values())
    return (
        f"n = {row.n} held-out questions; seeds: {row.seeds}, each on all of them; the interval is that of n.\n"
        "silent: the same network with every message blanked.\n"
        "vote: the calls of the network. scratchpad: one adapter that writes to itself as\noften as the nodes write.\n"
        f"Every trained system has {row.trainable_parameters:,} trainable parameters, the same\nnumber of samples, "
        "and its own learning rate, chosen on validation.\n"
        f"floors: chance {floors.chance:.0%}, best constant answer ({floors.constant_answer}) "
        f"{floors.best_constant:.0%}. Parse rate: at least {worst:.0%}.\n"
    )


def _show_curves(curves: dict[str, list[list[StepMetrics]]]) -> None:
    from neuromas.run.plots import smooth

    console.print("reward while training (sampled, mean of the seeds; the bar's height is 0 to 1)")
    for name, runs in curves.items():
        rewards = [[step.reward for step in run if step.reward is not None] for run in runs]
        mean = smooth([sum(seeds) / len(seeds) for seeds in zip(*rewards, strict=False)], 0.5)
        console.print(f"  {sparkline(mean, 40)} {mean[-1]:.2f}  {_LABELS[name]}", highlight=False)


def _show_traces(trial: "Trial") -> None:
    """The first test question that the untrained network gets wrong: its trace before and after."""
    from neuromas.run.build import build, load_run
    from neuromas.tasks.reward import graded

    before, task = build(trial.contender.config(trial.task, trial.seed, trial.rate))
    after, _, _ = load_run(trial.folder, "best", before.backbone)
    questions = task.questions("test")[:64]
    traces = before.answer(questions)
    grades = graded(task, questions, [trace.answer for trace in traces])
    wrong = [number for number, grade in enumerate(grades) if grade.reward == 0]
    pick = wrong[0] if wrong else 0
    question = questions[pick]
    console.print(f"\n[bold]Before training[/], the first test question{' that it gets wrong' if wrong else ''}")
    print_trace(question, traces[pick], grades[pick])
    answered = after.answer([question])[0]
    console.print("\n[bold]After training[/]")
    print_trace(question, answered, task.grade(question, answered.answer))
