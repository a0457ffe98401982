"""`neuromas train`: train a network from a recipe, from options, or both."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from neuromas.config import RunConfig
    from neuromas.results import StepMetrics
    from neuromas.run.final import FinalRecord
    from neuromas.run.folder import OnStep
    from neuromas.scale.train import Crew


def main(
    recipe: Annotated[Path | None, tyro.conf.Positional] = None,
    method: str | None = None,
    task: str | None = None,
    topology: str | None = None,
    backbone: str | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    out: Path | None = None,
    resume: bool = False,
    json: Path | None = None,
    test_limit: int | None = None,
    threads: int | None = None,
    wandb: str | None = None,
    workers: int = 1,
    address: str | None = None,
    restarts: int = 10,
) -> None:
    """Train a network of language-model nodes from its final reward, then measure it on the test split.

    Args:
        recipe: A TOML file; options given here override it. Published ones are in recipes/.
        method: Train a baseline in place of a network; see `neuromas baselines`.
        task: What to learn; see `neuromas tasks`.
        topology: Hidden widths such as 2-2, or a file; see `neuromas draw`.
        backbone: The frozen language model; see `neuromas backbones`.
        steps: Updates.
        learning_rate: Of AdamW.
        seed: Of everything random.
        out: The run's folder; by default runs/<recipe or task>_<topology>_s<seed>.
        resume: Continue the run in the folder `out`, to the same numbers as if it had not stopped.
        json: Write the final figures to this file too (they are always in OUT/final.json).
        test_limit: Measure on the first so many test questions only.
        threads: CPU threads; by default all cores, or 1 of each worker.
        wandb: Send every line to this project of Weights & Biases too.
        workers: Processes that share the questions of every step, over Ray; on GPUs one each.
        address: Of the Ray cluster they run on; by default one on this machine alone.
        restarts: How often the workers may be started again, from the last checkpoint, after one has died.
    """
    from neuromas.cli.show import print_final
    from neuromas.files import write_json

    changes: dict[str, Any] = {
        "method": method,
        "task.name": task,
        "topology": topology,
        "backbone.name": backbone,
        "train.steps": steps,
        "train.learning_rate": learning_rate,
        "seed": seed,
    }
    config = _config(recipe, changes, out if resume else None)
    folder = out or Path("runs") / _name(config, recipe)
    print(f"run folder: {folder}")
    crew = _crew(workers, address, threads, restarts)
    final = _train(config, folder, resume, threads, test_limit, wandb, crew)
    print_final(final)
    if json is not None:
        write_json(json, final.to_dict())


def _crew(workers: int, address: str | None, threads: int | None, restarts: int) -> "Crew | None":
    """Who trains over Ray; None: this process, without it."""
    from neuromas.scale.train import Crew

    return Crew(workers, address, threads or 1, restarts) if workers != 1 or address is not None else None


def _train(
    config: "RunConfig",
    folder: Path,
    resume: bool,
    threads: int | None,
    test_limit: int | None,
    wandb: str | None,
    crew: "Crew | None",
) -> "FinalRecord":
    import torch

    if threads:
        torch.set_num_threads(threads)
    from neuromas.cli.show import TrainingView
    from neuromas.run.final import evaluate_run
    from neuromas.run.loop import train
    from neuromas.run.wandb import WandbBoard
    from neuromas.scale import train as scaled

    board = None if wandb is None else WandbBoard(wandb, folder, config)
    with TrainingView(config.train.steps) as view:
        on_step = view if board is None else _both(view, board)
        if crew is not None:
            final = scaled.train(config, folder, crew, resume=resume, test_limit=test_limit, on_step=on_step)
        else:
            network, loaded = train(config, folder, resume=resume, on_step=on_step)
            final = evaluate_run(folder, network, loaded, test_limit, on_progress=view.measures)
    if board is not None:
        board.finish(final)
    return final


def _both(first: "OnStep", second: "OnStep") -> "OnStep":
    def call(metrics: "StepMetrics") -> None:
        first(metrics)
        second(metrics)

    return call


def _config(recipe: Path | None, changes: dict[str, Any], resumed: Path | None) -> "RunConfig":
    """The recipe, else the config of the run to be resumed, else the defaults; with the options given."""
    from neuromas.config import RunConfig
    from neuromas.recipe import override

    if recipe is not None:
        return RunConfig.load(recipe, **changes)
    saved = resumed / "config.json" if resumed else None
    data = json_module.loads(saved.read_text(encoding="utf-8")) if saved and saved.exists() else {}
    return RunConfig.make(override(data, changes))


def _name(config: "RunConfig", recipe: Path | None) -> str:
    if config.method != "neuromas":
        return f"{recipe.stem if recipe else f'{config.task.name}_{config.method}'.replace('/', '-')}_s{config.seed}"
    shape = Path(config.topology).stem if isinstance(config.topology, str) else "custom"
    stem = recipe.stem if recipe else f"{config.task.name.replace('/', '-')}_{shape or 'single'}"
    return f"{stem}_s{config.seed}"
