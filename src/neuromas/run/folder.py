"""The files of a run besides its checkpoints: settings, lines of metrics, sampled traces, failed batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, DivergenceError
from neuromas.evaluate.run import Evaluation
from neuromas.files import (
    append_json_line,
    keep_json_lines,
    of_a_step,
    read_json_lines,
    read_object,
    read_record,
    write_json,
)
from neuromas.recipe import Section, TomlTable, read_recipe
from neuromas.results import StartRecord, StepMetrics
from neuromas.run import checkpoint
from neuromas.run.progress import Progress
from neuromas.train.step import StepResult
from neuromas.types import Question

OnStep = Callable[[StepMetrics], object]  # called with the metrics of every step, 0 included; False stops the run

LOGS = ("metrics.jsonl", "samples.jsonl", "trees.jsonl", "right.jsonl", "visits.jsonl")  # one record or more a step
START = "start.json"  # what the run started from


@dataclass(frozen=True)
class Resumption:
    """Options of taking up a run again."""

    step: int | None = None  # at the checkpoint of this step; None: at the newest
    accept_changes: bool = False  # though its questions or its reward are others now


NEWEST = Resumption()
_LENGTH = ("train.steps", "train.stop_after_seconds", "train.patience")  # settings that a resumed run may change
_SETTLED = ("adapter.targets", "prompt.date")  # settings that are settled as a run begins, where they are left open
_SAMPLES = 2  # traces of the step, and of the validation, kept each time a validation is made


def saved_config(run: Path) -> RunConfig:
    """The settings of a run. Raises `CheckpointError` when `run` is no run folder."""
    if not (run / "config.json").is_file():
        inside = runs_in(run)
        remedy = f"it holds the runs {', '.join(inside)}; name one" if inside else "make one with: neuromas train"
        raise CheckpointError(f"{run} is not a run folder (no config.json); {remedy}")
    return RunConfig.saved(read_object(run / "config.json"))


def runs_in(folder: Path, most: int = 20) -> list[str]:
    """The run folders below a folder, such as that of a comparison; those best on validation first."""
    found = [file.parent for depth in range(1, 6) for file in folder.glob("/".join("*" * depth) + "/config.json")]
    runs = [run for run in found if (run / "checkpoints").is_dir()]
    best = {run: max((m.validation.accuracy for m in read_metrics(run) if m.validation), default=0.0) for run in runs}
    return [str(run) for run in sorted(runs, key=lambda run: (-best[run], str(run)))][:most]


def recipe_data(recipe: Path | None, resumed: Path | None) -> TomlTable:
    """The data of a recipe, else of the run that is resumed, else none. Raises `ConfigError` for a faulty recipe."""
    if recipe is not None:
        return read_recipe(recipe)
    if resumed is not None and (resumed / "config.json").is_file():
        return saved_config(resumed).model_dump(mode="json")
    return {}


def read_metrics(run: Path) -> list[StepMetrics]:
    """The metrics of every step of a run so far; [] before the first. Raises ValueError where a line is damaged."""
    return read_json_lines(run / "metrics.jsonl", _metrics)


def _metrics(line: TomlTable) -> StepMetrics:
    if "trace" in line:
        raise ValueError("it is a line of samples.jsonl")
    return StepMetrics.from_dict(line)


def read_start(run: Path) -> StartRecord | None:
    """The report of what a run started from; None where there is none. Raises `CheckpointError` where it is damaged."""
    return read_record(run / START, StartRecord.from_dict) if (run / START).exists() else None


def check_questions(now: Mapping[str, str], newest: Path, accept: bool) -> list[str]:
    """Differences of the task's fingerprint from that of a checkpoint; [] where that has none.

    Raises `CheckpointError` where something does, unless that is accepted.
    """
    saved = checkpoint.questions_of(newest)
    parts = [part for part in {**saved, **now} if saved and saved.get(part) != now.get(part)]
    differ = [f"{part} was {saved.get(part, 'none')}, is {now.get(part, 'none')}" for part in parts]
    if differ and not accept:
        raise CheckpointError(
            f"what the run learns from has changed since {newest.name}: {'; '.join(differ)}; put it back, or accept it "
            "with --accept-changes, which the run notes"
        )
    return differ


def dotted(config: RunConfig) -> TomlTable:
    """The settings by their dotted names, as JSON knows their values."""
    settings: TomlTable = {}
    for name, value in config.model_dump(mode="json").items():
        is_table = isinstance(getattr(config, name), Section)
        settings |= {f"{name}.{key}": part for key, part in value.items()} if is_table else {name: value}
    return settings


def as_begun(config: RunConfig, out: Path) -> RunConfig:
    """The settings with which the run in `out` goes on: those that were left open are as it began with them."""
    saved = saved_config(out)
    for name in _SETTLED:
        section, _, key = name.partition(".")
        if getattr(getattr(config, section), key) is None:
            config = config.with_settings(section, **{key: getattr(getattr(saved, section), key)})
    return config


def check_same(config: RunConfig, out: Path) -> None:
    """Refuse to continue a run under other settings; only its length may change, and what was left open need not be
    said."""
    mine, theirs = dotted(config), dotted(saved_config(out))
    differ = [
        f"{name} was {theirs[name]!r}, is {value!r}"
        for name, value in mine.items()
        if name in theirs and theirs[name] != value and name not in _LENGTH and not (name in _SETTLED and value is None)
    ]
    if differ:
        raise CheckpointError(
            f"the run in {out} has other settings: {'; '.join(differ)}; resume with its own (neuromas train --resume "
            f"--out {out}), or start another run in another folder"
        )


def continued(config: RunConfig, out: Path, resume: bool, step: int | None = None) -> Path | None:
    """The checkpoint to go on from: that of `step`, else the newest.

    Raises `CheckpointError` where `out` holds what may not be continued.
    """
    found = checkpoint.saved_in(out / "checkpoints")
    if found and not resume:
        raise CheckpointError(f"{out} already holds a run; continue it with --resume, or choose another --out")
    if not found and (done := max((m.step for m in read_metrics(out)), default=0)):
        raise CheckpointError(
            f"{out} has the logs of {done} steps and no checkpoint; put its folder checkpoints/ back, or choose "
            "another --out"
        )
    newest = found[-1] if found else None
    if step is not None:
        steps = [checkpoint.number(path) for path in found]
        if step not in steps:
            raise CheckpointError(f"{out} has no checkpoint of step {step} (it has {steps}); name one of those")
        newest = found[len(steps) - 1 - steps[::-1].index(step)]
    if newest is not None:
        check_same(config, out)
        if (done := checkpoint.step_of(newest)) > config.train.steps:
            raise CheckpointError(
                f"{out} has done {done} steps, and train.steps is {config.train.steps}; ask for {done} or more, or "
                "choose another --out"
            )
    return newest


def prepare(config: RunConfig, out: Path, progress: Progress, newest: Path | None, wording: Mapping[str, Any]) -> None:
    """Make the folder ready for a run that goes on from its checkpoint `newest`, or for a new one.

    wording: how its task asks, for task.json.
    """
    if newest is None:  # new, or killed before its first step was saved
        for old in (*LOGS, START):
            (out / old).unlink(missing_ok=True)
    else:
        read_start(out)
        read_metrics(out)
        if (out / "tensorboard").is_file():
            raise CheckpointError(f"{out / 'tensorboard'} is a file where TensorBoard needs a folder; move it away")
        for keep in (False, True):  # all are read before any is cut
            for file in LOGS:
                keep_json_lines(out / file, progress.step) if keep else read_json_lines(out / file, of_a_step)
        if progress.is_best:  # killed after the checkpoint was saved and before it was marked
            checkpoint.mark_best(out, newest)
        checkpoint.set_aside(out / "checkpoints", newest)
    write_json(out / "config.json", config.model_dump(mode="json"))
    write_json(out / "task.json", wording)
    checkpoint.clean(out / "checkpoints")


def saved(error: DivergenceError, out: Path, step: int) -> DivergenceError:
    """The same error, once the offending batch is on disk."""
    file = out / f"failed-step-{step}.json"
    write_json(file, {"error": str(error), "traces": [trace.to_dict() for trace in error.traces]})
    newest = checkpoint.newest(out / "checkpoints")
    return DivergenceError(f"{error}. The batch is in {file}, the last good state in {newest}", error.traces)


def keep_samples(out: Path, step: int, result: StepResult) -> None:
    """Append the first traces of a step to samples.jsonl."""
    for trace, grade in list(zip(result.traces, result.grades, strict=True))[:_SAMPLES]:
        record = {"step": step, "split": "train", "reward": grade.reward, "trace": trace.to_dict()}
        append_json_line(out / "samples.jsonl", record)


def keep_validated(out: Path, step: int, asked: Sequence[Question], evaluation: Evaluation) -> None:
    """Append the first traces of a validation to samples.jsonl: of the same questions each time."""
    for question, graded, trace in list(zip(asked, evaluation.records, evaluation.traces, strict=False))[:_SAMPLES]:
        record = {"step": step, "split": "validation", "question": question.text, "reward": graded.reward}
        append_json_line(out / "samples.jsonl", record | {"trace": trace.to_dict()})


class Logger:
    """Writes the metrics of each step to metrics.jsonl and TensorBoard, and hands them to `on_step`; or is silent."""

    def __init__(self, out: Path, on_step: OnStep | None, silent: bool = False, done: int = -1) -> None:
        """done: the last step that is logged already; TensorBoard drops what it has of later ones."""
        self._file, self._on_step = None if silent else out / "metrics.jsonl", on_step
        self._board = None
        if silent:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # TensorBoard is not installed: the JSON lines hold everything
            pass
        else:
            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=done + 1)
            if done < 0:
                settings = (out / "config.json").read_text(encoding="utf-8")
                self._board.add_text("settings", "    " + settings.replace("\n", "\n    "))  # a block of Markdown

    def log(self, metrics: StepMetrics) -> object:
        """Write and hand on the metrics of a step; returns what `on_step` says."""
        if self._file is None:
            return None
        line = metrics.to_dict()
        append_json_line(self._file, line)
        if self._board is not None:
            for name, value in tags(line).items():
                self._board.add_scalar(name, value, metrics.step)
        return None if self._on_step is None else self._on_step(metrics)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def tags(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics for a tracker: those of nodes lie side by side, as "entropy/1.1"."""
    found = {name: value for name, value in flat(line).items() if not name.startswith("nodes/") and name != "step"}
    for node, numbers in (line.get("nodes") or {}).items():
        found |= {f"{name}/{node}": value for name, value in flat(numbers).items()}
    return found


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested record by their path, "nodes/1.1/entropy"."""
    out: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            out[prefix + key] = float(value)
    return out
