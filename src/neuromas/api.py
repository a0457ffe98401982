"""The verbs of the library: `train`, `load`, `evaluate` and `compare`, and the run that they work on.

import neuromas as nm

run = nm.train(topology="2", task="compositional", steps=40, out="runs/first")
print(run.evaluate("test", limit=200))
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from neuromas.config import RunConfig, StageConfig
from neuromas.errors import ConfigError
from neuromas.evaluate.run import evaluate as measure
from neuromas.files import read_json_lines
from neuromas.markup import html_grid, svg
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.topology import Topology
from neuromas.progress import progress_bar
from neuromas.recipe import override
from neuromas.results import Result, StepMetrics
from neuromas.run.build import GIVEN, load_run
from neuromas.run.checkpoint import Trained
from neuromas.run.loop import train as train_loop
from neuromas.tasks import load_task
from neuromas.tasks.base import Split, Task
from neuromas.tasks.rows import Reward, RowsTask
from neuromas.types import Question, System, Trace

TaskLike = str | Path | Task | Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]]
_SHOWN = 10  # steps that a table in a notebook shows
OnStep = Callable[[StepMetrics], object]


class StepTable(list[StepMetrics]):
    """The metrics of a run, one row for each step, step 0 included."""

    def column(self, name: str) -> list[Any]:
        """The values of one field of `StepMetrics`, None where a step has none; raises AttributeError for no field."""
        return [getattr(row, name) for row in self]

    def _repr_html_(self) -> str:
        """The last steps."""
        head = ("step", "reward", "accuracy", "parse rate", "equal-reward groups", "validation")
        rows: list[list[str]] = []
        for step in self[-_SHOWN:]:
            checked = step.validation and step.validation.accuracy
            values = (step.reward, step.accuracy, step.parse_rate, step.equal_reward_groups, checked)
            rows.append([str(step.step), *("" if value is None else f"{value:.3f}" for value in values)])
        return html_grid(f"the last {len(rows)} of {len(self)} lines", head, rows)


@dataclass(frozen=True)
class Run:
    """A trained network, or baseline, with the folder that holds everything about it."""

    folder: Path
    network: Trained  # the checkpoint that is best on validation, or the last one
    task: Task
    config: RunConfig

    @property
    def metrics(self) -> StepTable:
        """The lines of metrics.jsonl."""
        return StepTable(map(StepMetrics.from_dict, read_json_lines(self.folder / "metrics.jsonl")))

    def evaluate(
        self, split: Split = "test", limit: int | None = None, *, greedy: bool = True, seed: int = 0
    ) -> Result:
        """Ask the first `limit` questions of a split (None: all), one answer each; raises TaskError where it has none.

        >>> run.evaluate("test", limit=16).n
        16
        """
        return evaluate(self.network, self.task, split, limit, greedy=greedy, seed=seed)

    def ask(self, question: str | Question, *, greedy: bool = True, seed: int = 0) -> Trace:
        """One question and everything the nodes say on the way.

        A text is asked as the task's questions are, with their instruction and answer prefix.

        >>> print(run.ask("(a(3+5)*b(2*7))"))  # doctest: +SKIP
        """
        if isinstance(question, str):
            like = self.task.questions("test")[0]
            question = Question("asked", question, "", like.instruction, like.answer_prefix)
        return self.network.answer([question], greedy=greedy, seed=seed)[0]

    def grow(
        self,
        topology: str | list[int] | Topology,
        out: str | Path,
        *,
        steps: int | None = None,
        init: Literal["fade", "copy", "zero", "noise"] = "fade",
        settings: Mapping[str, Any] | None = None,
        on_step: OnStep | None = None,
        progress: bool | None = None,
    ) -> "Run":
        """Train a larger network that starts from this one, in a folder of its own; returns its run.

        steps: further updates; None: as many as this run had. init: how new nodes begin. settings: others of the stage,
        e.g. {"anneal": 10, "learning_rate": 5e-4}. Raises TopologyError where the topology does not contain the run's.

        >>> run.grow("2-2", out=folder / "grown", steps=2).network.topology.name
        '2-2'
        """
        from neuromas.run.grow import grow_run

        shape = topology.to_dict() if isinstance(topology, Topology) else topology
        stage = StageConfig.model_validate({"topology": shape, "init": init, **(settings or {})})
        further = self.metrics[-1].step if steps is None else steps
        given, backbone = self._given_task(), self.network.backbone
        grow_run(
            self.folder, stage.model_dump(exclude_unset=True), Path(out), steps=further, backbone=backbone, task=given
        )
        return train(out=out, task=given, backbone=backbone, resume=True, on_step=on_step, progress=progress)

    def export(self, out: str | Path) -> Path:
        """Write the nodes as PEFT adapters with a model card; returns the folder."""
        from neuromas.run.export import export

        return export(self.folder, Path(out))

    def _given_task(self) -> Task | None:
        return self.task if self.config.task.name.startswith(GIVEN) else None

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self.network.name}, task {self.task.name}, {self.metrics[-1].step} steps)"

    def _repr_html_(self) -> str:
        """The drawing of the topology, the curves, and the last steps."""
        from neuromas.run.plots import curve_figure

        drawing = self.network.topology._repr_html_() if isinstance(self.network, Network) else ""
        curves = svg(curve_figure([step.to_dict() for step in self.metrics], self.folder.name))
        return f"<p><code>{escape(repr(self))}</code></p>{drawing}{curves}{self.metrics._repr_html_()}"


def train(
    recipe: str | Path | RunConfig | None = None,
    *,
    topology: str | list[int] | Topology | None = None,
    task: TaskLike | None = None,
    reward: Reward | None = None,
    backbone: Any = None,
    tokenizer: Any = None,
    steps: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    on_step: OnStep | None = None,
    progress: bool | None = None,
) -> Run:
    """Train a network from its final reward; everything about it goes into the folder `out`.

    recipe: a TOML file or a `RunConfig`; the other arguments override it, `settings` by dotted names, e.g.
    {"train.learning_rate": 5e-4, "adapter.rank": 16}. task: a name, a TOML file, a `Task`, rows of {question, answer},
    or a data set of the `datasets` library; with rows, `reward` may grade the replies. backbone: a name, a folder, a
    hub id, a `Backbone`, or a loaded transformers model with its `tokenizer`. out: by default runs/<recipe or task>.
    resume: continue the run in `out`, to the same numbers as if it had not stopped. on_step: called with the
    `StepMetrics` of every step; where it returns False the run stops after this step, with everything saved. progress:
    show a bar; None: in terminals and notebooks.

    Raises ConfigError for settings that contradict each other, CheckpointError where `out` holds another run, and
    DivergenceError where a loss or gradient is not finite.

    >>> run = train(topology="2", task="compositional", steps=2, out=folder / "first", settings={"train.questions": 2})
    >>> run.metrics.column("step")
    [0, 1, 2]
    """
    given = _given(task, reward)
    shared = _backbone(backbone, tokenizer)
    config = _config(recipe, out if resume else None)
    values: dict[str, Any] = dict(settings or {}) | {"train.steps": steps, "seed": seed}
    values["topology"] = topology.to_dict() if isinstance(topology, Topology) else topology
    if given is not None:
        values |= {"task.name": GIVEN + given.name, "task.options": {}}
    elif task is not None:
        values["task.name"] = str(task)
    if shared is not None:
        values["backbone.name"] = shared.name
    elif backbone is not None:
        values["backbone.name"] = str(backbone)
    config = RunConfig.make(override(config, values))
    folder = Path(out) if out is not None else Path("runs") / _name(recipe, config)
    with progress_bar(config.train.steps, progress) as bar:
        train_loop(config, folder, resume=resume, backbone=shared, task=given, watch=_watch(bar, on_step))
    return load(folder, task=given, backbone=shared)


def load(
    folder: str | Path,
    checkpoint: Literal["best", "last"] = "best",
    *,
    task: TaskLike | None = None,
    reward: Reward | None = None,
    backbone: Any = None,
    tokenizer: Any = None,
) -> Run:
    """The run in `folder`, as of the checkpoint that is best on validation, or of the last one.

    task, backbone: as in `train`, where the run was trained on objects that only the program has. Raises
    CheckpointError where there is no run.

    >>> load(folder / "first").config.train.steps
    2
    """
    given = _given(task, reward)
    network, loaded, config = load_run(Path(folder), checkpoint, _backbone(backbone, tokenizer), given)
    return Run(Path(folder), network, loaded, config)


def evaluate(
    system: System | Run,
    task: TaskLike | None = None,
    split: Split = "test",
    limit: int | None = None,
    *,
    reward: Reward | None = None,
    greedy: bool = True,
    seed: int = 0,
    **options: Any,
) -> Result:
    """Measure a network, a run, or a baseline on the first `limit` questions of a split, beside the floors.

    task: as in `train`; None: the run's own. options go to the system, e.g. `blank=["1.1"]`. Raises TaskError where the
    split has no questions.

    >>> evaluate(run, "compositional", limit=8).n
    8
    """
    if isinstance(system, Run):
        chosen, subject = system.task if task is None else task, system.network
    elif task is None:
        raise ConfigError("evaluate was given no task; name one, e.g. evaluate(network, 'compositional')")
    else:
        chosen, subject = task, system
    loaded = _given(chosen, reward) or load_task(str(chosen))
    return measure(subject, loaded, split, limit, greedy=greedy, seed=seed, **options).result


def compare(spec: str | Path | Mapping[str, Any], out: str | Path, *, workers: int = 1, threads: int = 1) -> Path:
    """Run a comparison of systems, tasks and seeds with matched controls; returns the folder with its report.

    spec: a TOML file, or its content as a mapping; see docs/settings.md. What is done in `out` already is not done
    again. Raises ConfigError for a spec that contradicts itself, or a folder of another comparison.
    """
    from neuromas.compare.run import run as run_comparison
    from neuromas.compare.spec import Spec
    from neuromas.evaluate.report import write_report

    loaded = Spec.make(dict(spec)) if isinstance(spec, Mapping) else Spec.load(Path(spec))
    run_comparison(loaded, Path(out), workers=workers, threads=threads)
    write_report(Path(out))
    return Path(out)


def _given(task: "TaskLike | None", reward: Reward | None) -> Task | None:
    """A task that only the program has; None for one that is known by its name."""
    if task is None or isinstance(task, str | Path | Task):
        if reward is not None:
            raise ConfigError("a reward function goes with rows; a Task grades by itself: override its `grade`")
        return task if isinstance(task, Task) else None
    return RowsTask(task, reward)


def _backbone(backbone: Any, tokenizer: Any) -> Backbone | None:
    """A backbone that is loaded already; None for one that is known by its name, or not given."""
    if backbone is None or isinstance(backbone, Backbone | str | Path):
        if tokenizer is not None:
            raise ConfigError("a tokenizer goes with a loaded transformers model; a named backbone brings its own")
        return backbone if isinstance(backbone, Backbone) else None
    if tokenizer is None:
        raise ConfigError(f"backbone is a loaded {type(backbone).__name__}; give its tokenizer too (tokenizer=…)")
    name = getattr(backbone.config, "_name_or_path", "") or backbone.config.model_type
    return Backbone(name, backbone, tokenizer)


def _config(recipe: str | Path | RunConfig | None, resumed: str | Path | None) -> dict[str, Any]:
    """The data of a recipe, of the run that is resumed, or none."""
    from neuromas.recipe import read_toml
    from neuromas.run.folder import saved_config

    if isinstance(recipe, RunConfig):
        return recipe.model_dump(mode="json")
    if recipe is not None:
        return read_toml(Path(recipe), "recipe")
    if resumed is not None and (Path(resumed) / "config.json").is_file():
        return saved_config(Path(resumed)).model_dump(mode="json")
    return {}


def _name(recipe: str | Path | RunConfig | None, config: RunConfig) -> str:
    stem = Path(recipe).stem if isinstance(recipe, str | Path) else config.task.name.removeprefix(GIVEN)
    return f"{stem.replace('/', '-')}_s{config.seed}"


def _watch(bar: Callable[[StepMetrics], object], on_step: OnStep | None) -> Callable[[Any], object]:
    def watch(line: Any) -> object:
        metrics = line if isinstance(line, StepMetrics) else StepMetrics.from_dict(line)
        bar(metrics)
        return None if on_step is None else on_step(metrics)

    return watch
