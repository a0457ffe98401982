"""`neuromas train`: train a network from a recipe, from options, or both."""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from neuromas.cli import goes_on
from neuromas.cli.options import Amount, Natural, Positive, use_threads
from neuromas.config import RunConfig
from neuromas.files import write_json
from neuromas.markup import say
from neuromas.recipe import override
from neuromas.results import StepMetrics

if TYPE_CHECKING:
    from neuromas.run.final import FinalRecord
    from neuromas.run.folder import Resumption
    from neuromas.scale.train import ClusterConfig


def main(
    recipe: Annotated[Path | None, tyro.conf.Positional] = None,
    method: str | None = None,
    task: str | None = None,
    topology: str | None = None,
    backbone: str | None = None,
    steps: Positive | None = None,
    learning_rate: Amount | None = None,
    seed: Natural | None = None,
    out: Path | None = None,
    resume: bool = False,
    from_step: Annotated[Natural | None, tyro.conf.arg(name="from")] = None,
    accept_changes: bool = False,
    json: Path | None = None,
    test_limit: Positive | None = None,
    threads: Positive | None = None,
    track: str | None = None,
    project: str = "neuromas",
    workers: Positive = 1,
    address: str | None = None,
    restarts: Natural = 10,
) -> None:
    """Train a network of language-model nodes from its final reward, then measure it on the test split.

    Args:
        recipe: A TOML file; options given here override it. Published ones are in recipes/.
        method: Train a baseline in place of a network; see `neuromas baselines`.
        task: Task to learn; see `neuromas tasks`.
        topology: Hidden widths such as 2-2, or a file; see `neuromas draw`.
        backbone: The frozen language model; see `neuromas backbones`.
        steps: Updates.
        learning_rate: Learning rate of AdamW.
        seed: Seed of everything random.
        out: The run's folder; by default runs/<recipe or task>_<topology>_s<seed>.
        resume: Continue the run in the folder `out`, to the same numbers as if it had not stopped.
        from_step: With --resume, go on from the checkpoint of this step; later ones are set aside.
        accept_changes: With --resume, go on though questions or reward have changed; the run notes it.
        json: Write the final figures to this file too (they are always in OUT/final.json).
        test_limit: Measure on the first TEST_LIMIT test questions only.
        threads: CPU threads; by default all cores, or 1 of each worker.
        track: Send every line to this tracker too: wandb, trackio, mlflow, swanlab … (extra `track`).
        project: The tracker's project.
        workers: Processes that share the questions of every step, over Ray; on GPUs one each.
        address: Address of the Ray cluster they run on; by default one on this machine alone.
        restarts: How often the workers may be started again, from the last checkpoint, after one has died.
    """
    from neuromas.cli.training import print_final, print_warnings
    from neuromas.run.folder import Resumption, recipe_data
    from neuromas.run.owner import owned
    from neuromas.run.stages import growth_remarks
    from neuromas.run.tracking import known
    from neuromas.scale.train import ClusterConfig

    options = {
        "method": method,
        "task.name": task,
        "topology": topology,
        "backbone.name": backbone,
        "train.steps": steps,
        "train.learning_rate": learning_rate,
        "seed": seed,
    }
    config = RunConfig.make(override(recipe_data(recipe, out if resume else None), options))
    if track is not None:
        known(track)  # before anything is written
    folder = out or _default_folder(config, recipe)
    say(f"run folder: {folder}")
    print_warnings([*config.remarks(), *growth_remarks(config)])
    tracker = None if track is None else (track, project)
    use_threads(threads)
    cluster = None if (workers, address) == (1, None) else ClusterConfig(workers, address, threads or 1, restarts)
    how = Resumption(from_step, accept_changes)
    goes_on(lambda: _advice(folder))
    with owned(folder, resume=resume) if cluster is None else nullcontext():
        final = _train(config, folder, resume, how, test_limit, tracker, cluster)
    if json is not None:
        write_json(json, final.to_dict())
    print_final(final)


def _train(
    config: RunConfig,
    folder: Path,
    resume: bool,
    how: "Resumption",
    test_limit: int | None,
    track: tuple[str, str] | None,
    cluster: "ClusterConfig | None",
) -> "FinalRecord":
    from neuromas.cli.training import TrainingView
    from neuromas.run.final import evaluate_run
    from neuromas.run.loop import train
    from neuromas.run.tracking import Tracker
    from neuromas.scale import train as scaled

    board = None if track is None else Tracker(*track, folder, config)
    with TrainingView(config.train.steps) as view:

        def on_step(metrics: StepMetrics) -> None:
            view(metrics)
            if board is not None:
                board(metrics)

        if cluster is not None:
            final = scaled.train(
                config,
                folder,
                cluster,
                resume=resume,
                test_limit=test_limit,
                on_step=on_step,
                on_start=view.begins,
                how=how,
            )
        else:
            network, loaded = train(config, folder, resume=resume, on_step=on_step, on_start=view.begins, how=how)
            final = evaluate_run(folder, network, loaded, test_limit, on_progress=view.measures)
    if board is not None:
        board.finish(final)
    return final


def _advice(folder: Path) -> str:
    """The words for a person who has interrupted a training."""
    if not (folder / "config.json").exists():
        return " before anything was written; the same command begins again"
    return f"; to go on from its last checkpoint: neuromas train --resume --out {shlex.quote(str(folder))}"


def _default_folder(config: RunConfig, recipe: Path | None) -> Path:
    if recipe is not None:
        return Path("runs") / f"{recipe.stem}_s{config.seed}"
    trained = config.method
    if trained == "neuromas":
        trained = (Path(config.topology).stem if isinstance(config.topology, str) else "custom") or "single"
    return Path("runs") / f"{config.task.name}_{trained}_s{config.seed}".replace("/", "-")
