"""The verbs of the library: `train`, `load`, `evaluate` and `compare`, and the run that they work on.

import neuromas as nm

run = nm.train("recipes/tiny_compositional_2.toml", steps=40, out="runs/first")
print(run.evaluate("test", limit=200))
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from neuromas.api.run import Run, opened, trained
from neuromas.compare.run import run as run_comparison
from neuromas.compare.spec import Spec
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.evaluate.report import write_report
from neuromas.evaluate.run import evaluate as measure
from neuromas.network.backbone import Backbone
from neuromas.network.topology import Topology
from neuromas.recipe import override
from neuromas.results import Result
from neuromas.run.build import GIVEN
from neuromas.run.export import found
from neuromas.run.folder import OnStep, Resumption, recipe_data
from neuromas.tasks import load_task
from neuromas.tasks.base import Split, Task
from neuromas.tasks.graders import Plain
from neuromas.tasks.rows import Reward, RowsTask
from neuromas.types import System

TaskLike = str | Path | Task | Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]]


def train(
    recipe: str | Path | RunConfig | None = None,
    *,
    topology: str | list[int] | Topology | None = None,
    task: TaskLike | None = None,
    reward: Reward | Plain | None = None,
    backbone: Any = None,
    tokenizer: Any = None,
    steps: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    on_step: OnStep | None = None,
    progress: bool | None = None,
) -> Run:
    """Train a network from its final reward; everything about it goes into the folder `out`.

    recipe: a TOML file or a `RunConfig`; the other arguments override it, `settings` by dotted names, e.g.
    {"train.learning_rate": 5e-4, "adapter.rank": 16}. task: a name, a TOML file, a `Task`, rows of {question, answer},
    or a data set of the `datasets` library; with rows, `reward` grades the replies: a function, or the name of a grader
    such as "number". backbone: a name, a folder, a hub id, a `Backbone`, or a loaded transformers model with its
    `tokenizer`. out: by default runs/<recipe or task>.
    resume: continue the run in `out`, to the same numbers as if it had not stopped; accept_changes: though questions or
    reward are no longer the same, which the run notes. on_step: called with the
    `StepMetrics` of every step; where it returns False the run stops after this step, with everything saved. progress:
    show a bar; None: in terminals and notebooks.

    Raises ConfigError for settings that contradict each other, CheckpointError where `out` holds another run, and
    DivergenceError where a loss or gradient is not finite.

    >>> small = {"train.questions": 2, "train.rollouts": 2, "train.validation_questions": 4}
    >>> run = train(topology="2", task="compositional", steps=2, out=folder / "first", settings=small)
    >>> run.metrics.column("step")
    [0, 1, 2]
    """
    given = given_task(task, reward)
    shared = given_backbone(backbone, tokenizer)
    if isinstance(recipe, RunConfig):
        data = recipe.model_dump(mode="json")
    else:
        data = recipe_data(None if recipe is None else Path(recipe), Path(out) if out is not None and resume else None)
    values = {**(settings or {}), "train.steps": steps, "seed": seed}
    values["topology"] = topology.to_dict() if isinstance(topology, Topology) else topology
    if given is not None:
        values |= {"task.name": GIVEN + given.name, "task.options": {}}
    elif task is not None:
        values["task.name"] = str(task)
    if shared is not None:
        values["backbone.name"] = shared.name
    elif backbone is not None:
        values["backbone.name"] = str(backbone)
    config = RunConfig.make(override(data, values))
    folder = Path(out) if out is not None else Path("runs") / default_folder_name(recipe, config)
    how = Resumption(accept_changes=accept_changes)
    return trained(config, folder, resume, shared, given, on_step, progress, how=how)


def load(
    folder: str | Path,
    checkpoint: Literal["best", "last"] = "best",
    *,
    task: TaskLike | None = None,
    reward: Reward | Plain | None = None,
    backbone: Any = None,
    tokenizer: Any = None,
) -> Run:
    """The run in `folder`, as of the checkpoint that is best on validation, or of the last one; "owner/name" is an
    export on the hub.

    task: as in `train`, where the run's own is not here, or another is wanted. backbone: as in `train`, where the run's
    own is not here under its name. Raises CheckpointError where there is no run, or where the weights are others.

    >>> load(folder / "first").config.train.steps
    2
    """
    shared = given_backbone(backbone, tokenizer)
    if shared is None and backbone is not None:
        shared = str(backbone)
    loaded = given_task(task, reward) or (None if task is None else load_task(str(task)))
    return opened(found(folder) or Path(folder), checkpoint, shared, loaded)


def evaluate(
    system: System | Run,
    task: TaskLike | None = None,
    split: Split = "test",
    limit: int | None = None,
    *,
    reward: Reward | Plain | None = None,
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
    loaded = given_task(chosen, reward) or load_task(str(chosen))
    return measure(subject, loaded, split, limit, greedy=greedy, seed=seed, **options).result


def compare(spec: str | Path | Mapping[str, Any], out: str | Path, *, workers: int = 1, threads: int = 1) -> Path:
    """Run a comparison of systems, tasks and seeds with matched controls; returns the folder with its report.

    spec: a TOML file, or its content as a mapping; see docs/settings.md. What is done in `out` already is not done
    again. Raises ConfigError for a spec that contradicts itself, or a folder of another comparison.
    """
    loaded = Spec.make(dict(spec)) if isinstance(spec, Mapping) else Spec.load(Path(spec))
    run_comparison(loaded, Path(out), workers=workers, threads=threads)
    write_report(Path(out))
    return Path(out)


def given_task(task: TaskLike | None, reward: Reward | Plain | None) -> Task | None:
    """A task that only the program has; None for one that is known by its name."""
    if task is None or isinstance(task, str | Path | Task):
        if reward is not None:
            raise ConfigError("a reward function goes with rows; a Task grades by itself: override its `grade`")
        return task if isinstance(task, Task) else None
    return RowsTask(task, reward)


def given_backbone(backbone: Any, tokenizer: Any) -> Backbone | None:
    """A backbone that is loaded already; None for one that is known by its name, or not given."""
    if backbone is None or isinstance(backbone, Backbone | str | Path):
        if tokenizer is not None:
            raise ConfigError("a tokenizer goes with a loaded transformers model; a named backbone brings its own")
        return backbone if isinstance(backbone, Backbone) else None
    if tokenizer is None:
        raise ConfigError(f"backbone is a loaded {type(backbone).__name__}; give its tokenizer too (tokenizer=…)")
    name = getattr(backbone.config, "_name_or_path", "") or backbone.config.model_type
    return Backbone(name, backbone, tokenizer)


def default_folder_name(recipe: str | Path | RunConfig | None, config: RunConfig) -> str:
    stem = Path(recipe).stem if isinstance(recipe, str | Path) else config.task.name.removeprefix(GIVEN)
    return f"{stem.replace('/', '-')}_s{config.seed}"
