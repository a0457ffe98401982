"""`neuromas harness`: a run on the tasks of EleutherAI's lm-evaluation-harness."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import tyro

from neuromas.cli.options import Natural, Positive, use_threads
from neuromas.errors import ConfigError
from neuromas.files import write_json


def main(
    run: Annotated[str, tyro.conf.Positional],
    tasks: tuple[str, ...],
    include: Path | None = None,
    limit: Positive | None = None,
    checkpoint: Literal["best", "last"] = "best",
    seed: Natural = 0,
    json: Path | None = None,
    threads: Positive | None = None,
    backbone: str | None = None,
) -> None:
    """Run tasks of the harness that generate text (output_type generate_until), and print its table.

    Args:
        run: A run folder.
        tasks: Names of tasks of the harness.
        include: A folder of further task files (YAML).
        limit: Use only the first items of each task, as many as this.
        checkpoint: Which state of the run: best on validation, or last.
        seed: The seed of tasks that sample.
        json: Write the harness's results and samples here.
        threads: CPU threads; by default all cores.
        backbone: The base model, where it has another name here.
    """
    from neuromas.evaluate.harness import evaluate
    from neuromas.network.forward import Network
    from neuromas.run.build import load_run
    from neuromas.run.export import found

    use_threads(threads)
    network, _, _ = load_run(found(run) or Path(run), checkpoint, backbone)
    if not isinstance(network, Network):
        raise ConfigError(f"{run} holds a trained baseline; the harness runs networks")
    found = evaluate(network, tasks, include=include, limit=limit, seed=seed)
    print(import_module("lm_eval.utils").make_table(found))
    if json is not None:
        kept = {key: found[key] for key in ("results", "n-samples", "versions", "configs", "samples") if key in found}
        write_json(json, kept)
