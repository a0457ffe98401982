"""A trained run, as a program holds it: measured, asked, grown, exported."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Literal

from neuromas.config import RunConfig, StageConfig
from neuromas.evaluate.run import evaluate as measure
from neuromas.markup import html_grid, svg
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.topology import Topology
from neuromas.progress import progress_bar, show_start
from neuromas.results import Result, StartRecord, StepMetrics
from neuromas.run.build import GIVEN, load_run
from neuromas.run.checkpoint import Trained
from neuromas.run.export import export
from neuromas.run.folder import NEWEST, OnStep, Resumption, read_metrics, read_start, saved_config
from neuromas.run.grow import grow_run
from neuromas.run.loop import train as train_loop
from neuromas.run.plots import curve_figure
from neuromas.tasks.base import Split, Task
from neuromas.types import Question, Trace

_SHOWN = 10  # steps that a table in a notebook shows


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
        return StepTable(read_metrics(self.folder))

    @property
    def start(self) -> StartRecord | None:
        """The state before the first update; None where it was not measured.

        >>> run.start is None  # the embedded backbone
        True
        """
        return read_start(self.folder)

    def evaluate(
        self, split: Split = "test", limit: int | None = None, *, greedy: bool = True, seed: int = 0
    ) -> Result:
        """Ask the first `limit` questions of a split (None: all), one answer each; raises TaskError where it has none.

        >>> run.evaluate("test", limit=16).n
        16
        """
        return measure(self.network, self.task, split, limit, greedy=greedy, seed=seed).result

    def ask(self, question: str | Question, *, greedy: bool = True, seed: int = 0) -> Trace:
        """One question and everything the nodes say on the way.

        A text is asked as the task's questions are, with their instruction and answer prefix.

        >>> print(run.ask("(a(3+5)*b(2*7))"))  # doctest: +SKIP
        """
        if isinstance(question, str):
            question = self.task.asked(question)
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
        """Train a larger network that starts from this one, in a folder of its own; returns its last state.

        `load` gives the checkpoint that is best on validation, which may still be the smaller network.

        steps: further updates; None: as many as this run had. init: how new nodes begin. settings: others of the stage,
        e.g. {"anneal": 10, "learning_rate": 5e-4}. Raises TopologyError where the topology does not contain the run's.

        >>> run.grow("2-2", out=folder / "grown", steps=2).network.topology.name
        '2-2'
        """
        shape = topology.to_dict() if isinstance(topology, Topology) else topology
        stage = StageConfig.model_validate({"topology": shape, "init": init, **(settings or {})})
        further = self.metrics[-1].step if steps is None else steps
        folder, backbone = Path(out), self.network.backbone
        task = self.task if self.config.task.name.startswith(GIVEN) else None
        grow_run(self.folder, stage.model_dump(exclude_unset=True), folder, steps=further, backbone=backbone, task=task)
        return trained(saved_config(folder), folder, True, backbone, task, on_step, progress, "last")

    def export(self, out: str | Path) -> Path:
        """Write the nodes as PEFT adapters with a model card; returns the folder."""
        export(self.folder, Path(out), task=self.task)
        return Path(out)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self.network.name}, task {self.task.name}, {self.metrics[-1].step} steps)"

    def _repr_html_(self) -> str:
        """The drawing of the topology, the curves, and the last steps."""
        network, metrics = self.network, self.metrics
        drawing = network.topology._repr_html_() if isinstance(network, Network) else ""  # pyright: ignore[reportPrivateUsage]
        curves = svg(curve_figure(metrics, self.folder.name))
        table = metrics._repr_html_()  # pyright: ignore[reportPrivateUsage]
        return f"<p><code>{escape(repr(self))}</code></p>{drawing}{curves}{table}"


def trained(
    config: RunConfig,
    folder: Path,
    resume: bool,
    backbone: Backbone | None,
    task: Task | None,
    on_step: OnStep | None,
    progress: bool | None,
    checkpoint: Literal["best", "last"] = "best",
    how: Resumption = NEWEST,
) -> Run:
    """Train in `folder`, or continue there; returns the run as of a checkpoint."""
    with progress_bar(config.train.steps, progress) as bar:

        def listen(metrics: StepMetrics) -> object:
            bar(metrics)
            return None if on_step is None else on_step(metrics)

        begins = partial(show_start, show=progress)
        train_loop(
            config, folder, resume=resume, backbone=backbone, task=task, on_step=listen, on_start=begins, how=how
        )
    return opened(folder, checkpoint, backbone, task)


def opened(
    folder: Path, checkpoint: Literal["best", "last"], backbone: Backbone | str | None, task: Task | None
) -> Run:
    """The run in `folder`. Raises CheckpointError where there is none."""
    network, loaded, config = load_run(folder, checkpoint, backbone, task)
    return Run(folder, network, loaded, config)
